"""Chooses how each piece of the target is made from the base, by the size that each way is measured to have."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from edgeopt.deltas.chunks import Bytes
from edgeopt.deltas.pairing import ModelFile, Piece, equal, pieces
from edgeopt_runner.protocol.patch_format import ADD, COPY, DATA, XOR

_SAMPLE_BYTES = 64 << 10
_SAMPLES = 4


@dataclass(frozen=True)
class Operation:
    """One operation of a patch (`edgeopt_runner.protocol.patch_format`).

    Attributes:
        kind: ``COPY``, ``DATA``, ``XOR`` or ``ADD``.
        width: Bytes of its numbers.
        offset: Where its result begins.
        length: Bytes of its result.
        source: Where it reads the base; 0 for ``DATA``.
        estimate_bytes: What its streams are thought to take, compressed.
    """

    kind: int
    width: int
    offset: int
    length: int
    source: int
    estimate_bytes: float

    @property
    def end(self) -> int:
        """First byte after its result."""
        return self.offset + self.length


def operations(base: ModelFile, target: ModelFile) -> list[Operation]:
    """What makes `target` from `base`, front to back; with an empty base, all of it is ``DATA``."""
    found: list[Operation] = []
    for piece in pieces(base, target):
        operation = _cheapest(base.data, target.data, piece)
        if found and _joins(found[-1], operation):
            last = found[-1]
            total = last.estimate_bytes + operation.estimate_bytes
            operation = Operation(last.kind, last.width, last.offset, last.length + piece.length, last.source, total)
            found.pop()
        found.append(operation)
    return found


def coded(base: Bytes, target: Bytes, operation: Operation) -> list[bytes]:
    """What the streams of an operation hold of it, plane by plane."""
    if operation.kind == COPY:
        return []
    new = target[operation.offset : operation.end]
    old = base[operation.source : operation.source + operation.length]
    return _planes(operation.kind, operation.width, old, new)


def _joins(last: Operation, after: Operation) -> bool:
    if (last.kind, last.width, last.end) != (after.kind, after.width, after.offset):
        return False
    return last.kind == DATA or last.source + last.length == after.source


def _cheapest(base: Bytes, target: Bytes, piece: Piece) -> Operation:
    if equal(base, target, piece):
        return Operation(COPY, 1, piece.offset, piece.length, piece.source or 0, 0.0)
    kinds = _kinds(piece)
    widths = [width for width in piece.widths if piece.length % width == 0]
    ways = [_estimated(base, target, piece, kind, width) for width in widths for kind in kinds]
    return reduce(lambda best, way: way if way.estimate_bytes < best.estimate_bytes else best, ways)


def _kinds(piece: Piece) -> tuple[int, ...]:
    """What is tried; what is mixed stays out of the streams of tensors' numbers, which are coded by what they are."""
    if piece.source is None:
        return (DATA,)
    return (XOR, DATA) if piece.mixed else (ADD, XOR, DATA)


def _estimated(base: Bytes, target: Bytes, piece: Piece, kind: int, width: int) -> Operation:
    """A way to make a piece, with what samples of it take."""
    source = piece.source if piece.source is not None and kind != DATA else 0
    spent = seen = 0
    for start, end in _samples(piece.length):
        old = base[source + start : source + end]
        new = target[piece.offset + start : piece.offset + end]
        spent += sum(_deflated_bytes(plane) for plane in _planes(kind, width, old, new))
        seen += end - start
    return Operation(kind, width, piece.offset, piece.length, source, spent * piece.length / seen)


def _samples(length: int) -> Iterator[tuple[int, int]]:
    """All of it, or parts that are spread evenly, each of whole numbers of any width."""
    if length <= _SAMPLE_BYTES:
        yield 0, length
        return
    part = _SAMPLE_BYTES // _SAMPLES
    for number in range(_SAMPLES):
        start = (length - part) * number // (_SAMPLES - 1) & ~7
        yield start, start + part


def _deflated_bytes(plane: bytes) -> int:
    size = len(plane)
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_RLE):
        coder = zlib.compressobj(1, zlib.DEFLATED, -15, 9, strategy)
        size = min(size, len(coder.compress(plane)) + len(coder.flush()))
    return size


def _planes(kind: int, width: int, old: Bytes, new: Bytes) -> list[bytes]:
    """The bytes that streams hold: the numbers, or what is between them and those of the base, by planes."""
    numbers = np.ascontiguousarray(new).view(f"<u{width}")
    if kind == XOR:
        numbers = numbers ^ np.ascontiguousarray(old).view(f"<u{width}")
    elif kind == ADD:
        change = numbers - np.ascontiguousarray(old).view(f"<u{width}")
        one, sign = change.dtype.type(1), change.dtype.type(8 * width - 1)
        numbers = (change << one) ^ (change.dtype.type(0) - (change >> sign))
    lanes = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, width)
    return [lanes[:, plane].tobytes() for plane in range(width)]
