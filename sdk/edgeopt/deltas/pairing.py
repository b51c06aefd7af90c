"""Which bytes of the base each byte of the target is compared with: tensors by name, content or size, then the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from edgeopt.deltas import chunks
from edgeopt.deltas.chunks import Bytes, Match
from edgeopt.deltas.ranges import TensorRange, ranges

_SMALL_BYTES = 512
_BLOCK_BYTES = 4096
_ANY_WIDTH = (1, 2, 4)


@dataclass(frozen=True)
class Piece:
    """Consecutive bytes of the target.

    Attributes:
        offset: Where they begin.
        length: How many.
        source: Where their counterpart in the base begins; ``None``: they have none.
        widths: Bytes of the numbers that they may be; `length` need not be a multiple of each.
        mixed: Whether they are several small things.
    """

    offset: int
    length: int
    source: int | None
    widths: tuple[int, ...]
    mixed: bool = False

    @property
    def end(self) -> int:
        """First byte after it."""
        return self.offset + self.length


class ModelFile:
    """A file's bytes and tensors.

    Args:
        path: Any file; ``None`` for one that is empty.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = None if path is None or not path.stat().st_size else path
        self.data: Bytes = np.zeros(0, np.uint8) if self._path is None else np.memmap(str(path), np.uint8, "r")

    @cached_property
    def tensors(self) -> Sequence[TensorRange]:
        """What `ranges` finds in it."""
        return () if self._path is None else ranges(self._path)

    @cached_property
    def digest(self) -> str:
        """SHA-256, 64 hexadecimal digits."""
        return hashlib.sha256(self.data.data).hexdigest()

    @cached_property
    def chunks(self) -> dict[bytes, int]:
        """The index of its chunks, made when first asked for."""
        return chunks.index(self.data)

    def content(self, tensor: TensorRange) -> bytes:
        """Digest of a tensor's bytes."""
        return hashlib.sha256(self.data[tensor.offset : tensor.offset + tensor.length].data).digest()


def pieces(base: ModelFile, target: ModelFile) -> list[Piece]:
    """The target from front to back, each piece with its counterpart; equal ones are apart from those that differ."""
    joined = _without_small_ones(_paired(base, target))
    return [part for piece in joined for part in _split(base.data, target.data, piece)]


def equal(base: Bytes, target: Bytes, piece: Piece) -> bool:
    """Whether a piece is the same in the base."""
    if piece.source is None:
        return False
    return bool(np.array_equal(base[piece.source : piece.source + piece.length], target[piece.offset : piece.end]))


def _paired(base: ModelFile, target: ModelFile) -> Iterator[Piece]:
    """Tensors with their partners, and in between the bytes that follow a tensor with those that follow its partner."""
    partners = _partners(base, target)
    ends = _gap_ends(base)
    here, there = 0, 0  # where the gap began in the target, and in the base
    for tensor in target.tensors:
        yield from _aligned(base, target, (here, tensor.offset), (there, ends[there]))
        partner = partners.get(tensor.name)
        source = None if partner is None else partner.offset
        yield Piece(tensor.offset, tensor.length, source, (tensor.itemsize,))
        here = tensor.offset + tensor.length
        there = len(base.data) if partner is None else partner.offset + partner.length
    yield from _aligned(base, target, (here, len(target.data)), (there, ends[there]))


def _gap_ends(base: ModelFile) -> dict[int, int]:
    """Where the bytes that follow the start of the file, or a tensor, end."""
    starts = [0] + [tensor.offset + tensor.length for tensor in base.tensors]
    ends = [tensor.offset for tensor in base.tensors] + [len(base.data)]
    return {len(base.data): len(base.data), **dict(zip(starts, ends, strict=True))}


def _partners(base: ModelFile, target: ModelFile) -> dict[str, TensorRange]:
    """A tensor of the base for tensors of the target, by name: of the same name, else content, else size and order."""
    named = {tensor.name: tensor for tensor in base.tensors}
    found = {
        tensor.name: named[tensor.name]
        for tensor in target.tensors
        if tensor.name in named and _shape(named[tensor.name]) == _shape(tensor)
    }
    taken = {tensor.name for tensor in found.values()}
    free = [tensor for tensor in base.tensors if tensor.name not in taken]
    open_ones = [tensor for tensor in target.tensors if tensor.name not in found]
    by_content = {base.content(tensor): tensor for tensor in reversed(free)} if open_ones else {}
    for tensor in open_ones:
        partner = by_content.get(target.content(tensor))
        if partner is not None:
            found[tensor.name] = partner
    for tensor in (one for one in open_ones if one.name not in found):
        partner = next((one for one in free if _shape(one) == _shape(tensor)), None)
        if partner is not None:
            free.remove(partner)
            found[tensor.name] = partner
    return found


def _shape(tensor: TensorRange) -> tuple[int, int]:
    return tensor.length, tensor.itemsize


def _aligned(base: ModelFile, target: ModelFile, span: tuple[int, int], other: tuple[int, int]) -> Iterator[Piece]:
    """Bytes `span` of the target against `other` of the base, of which nothing is known."""
    if span[1] - span[0] == other[1] - other[0]:
        yield from _piece(span, other[0])
        return
    place, source = span[0], other[0]
    for match in _anchors(base, target, span):
        yield from _between(base.data, target.data, (place, match.offset), (source, match.source))
        yield from _piece((match.offset, match.offset + match.length), match.source)
        place, source = match.offset + match.length, match.source + match.length
    yield from _between(base.data, target.data, (place, span[1]), (source, other[1]))


def _anchors(base: ModelFile, target: ModelFile, span: tuple[int, int]) -> list[Match]:
    if not len(base.data) or span[1] - span[0] < _SMALL_BYTES:
        return []
    found = chunks.matches(base.chunks, target.data[span[0] : span[1]])
    return [replace(match, offset=match.offset + span[0]) for match in found]


def _between(base: Bytes, target: Bytes, span: tuple[int, int], other: tuple[int, int]) -> Iterator[Piece]:
    """Bytes between two matches: what is the same at either end, and the middle."""
    (start, end), (first, last) = span, (other[0], max(other))
    shared = min(end - start, last - first)
    head = _common(target[start : start + shared], base[first : first + shared])
    rest = shared - head
    tail = _common(target[end - rest : end][::-1], base[last - rest : last][::-1]) if rest else 0
    yield from _piece((start, start + head), first)
    same = end - start == last - first
    yield from _piece((start + head, end - tail), first + head if same else None)
    yield from _piece((end - tail, end), last - tail)


def _common(one: Bytes, other: Bytes) -> int:
    """How many bytes are the same from the start on."""
    differ = np.flatnonzero(one != other)
    return int(differ[0]) if len(differ) else len(one)


def _piece(span: tuple[int, int], source: int | None) -> Iterator[Piece]:
    if span[1] > span[0]:
        yield Piece(span[0], span[1] - span[0], source, _ANY_WIDTH)


def _without_small_ones(found: Iterable[Piece]) -> Iterator[Piece]:
    """Small neighbours with neighbouring counterparts become one: an operation costs more than a few equal bytes."""
    held: list[Piece] = []
    for piece in found:
        if held and not (max(held[-1].length, piece.length) < _SMALL_BYTES and _follows(held[-1], piece)):
            yield _joined(held)
            held = []
        held.append(piece)
    if held:
        yield _joined(held)


def _joined(held: Sequence[Piece]) -> Piece:
    first, length = held[0], held[-1].end - held[0].offset
    return first if len(held) == 1 else replace(first, length=length, widths=(1,), mixed=True)


def _follows(piece: Piece, after: Piece) -> bool:
    if piece.source is None or after.source is None:
        return piece.source is after.source
    return piece.source + piece.length == after.source


def _split(base: Bytes, target: Bytes, piece: Piece) -> Iterator[Piece]:
    """Runs of blocks that are equal apart from those that differ: a frozen part of a tensor is copied, not coded."""
    if piece.source is None or piece.length < 2 * _BLOCK_BYTES or equal(base, target, piece):
        yield piece
        return
    starts = np.arange(0, piece.length, _BLOCK_BYTES)
    differ = base[piece.source : piece.source + piece.length] != target[piece.offset : piece.end]
    changed = np.logical_or.reduceat(differ, starts)
    turns = [0, *(np.flatnonzero(np.diff(changed)) + 1).tolist()]
    bounds = [*(int(starts[turn]) for turn in turns), piece.length]
    for start, end in pairwise(bounds):
        yield replace(piece, offset=piece.offset + start, length=end - start, source=piece.source + start)
