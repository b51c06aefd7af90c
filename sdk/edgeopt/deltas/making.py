"""Writes a patch: the file that makes `target` from `base` on a board."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.deltas import coding
from edgeopt.deltas.coding import CodedStream
from edgeopt.deltas.operations import Operation, coded, operations
from edgeopt.deltas.pairing import ModelFile
from edgeopt_runner.protocol import patch_format
from edgeopt_runner.protocol.patch_format import (
    ADD,
    COPY,
    DATA,
    GRAINS,
    MOST_OPERATIONS,
    MOST_PARTS,
    OPERATION,
    XOR,
    Key,
    Part,
    Stream,
)

_NAMES = {COPY: "copy", DATA: "data", XOR: "xor", ADD: "add"}


@dataclass(frozen=True)
class PatchReport:
    """What a patch came to.

    Attributes:
        size_bytes: Length of the patch.
        share: That, as a share of the target's length; 1 where both are empty.
        by_kind: Bytes of the target by how they are made: ``copy``, ``data``, ``xor``, ``add``.
    """

    size_bytes: int
    share: float
    by_kind: Mapping[str, int]


def make_patch(base: Path | None, target: Path, destination: Path, algorithms: Sequence[str]) -> PatchReport:
    """Write the patch that makes `target` from `base`; the same files and algorithms give the same bytes.

    Args:
        base: A file that the board has; ``None`` for a patch that is the target compressed.
        target: The file that it is to have.
        destination: Where the patch goes; replaced in one step.
        algorithms: What the board decompresses, as its ``hello`` tells (``zlib``, ``bz2``, ``lzma``).

    Raises:
        OSError: A file cannot be read or written.
    """
    return write_patch(ModelFile(base), ModelFile(target), destination, algorithms)


def write_patch(base: ModelFile, target: ModelFile, destination: Path, algorithms: Sequence[str]) -> PatchReport:
    """As `make_patch`, of files that are read already."""
    chosen = operations(base, target)
    if len(chosen) > MOST_OPERATIONS:
        base = ModelFile(None)
        chosen = operations(base, target)
    streams = _encoded(_plain_streams(base, target, chosen), algorithms)
    packed = b"".join(OPERATION.pack(one.kind, one.width, 0, 0, one.length, one.source) for one in chosen)
    digests = base.digest if len(base.data) else "", target.digest
    table = {key: _described(stream) for key, stream in streams.items()}
    patch = patch_format.Patch(digests[0], len(base.data), digests[1], len(target.data), table, packed)
    contents = [content for stream in streams.values() for _, content in stream.parts]
    replace_file(destination, [patch_format.pack(patch), *contents])
    size = destination.stat().st_size
    share = size / len(target.data) if len(target.data) else 1.0
    return PatchReport(size, share, _by_kind(chosen))


def _plain_streams(base: ModelFile, target: ModelFile, chosen: Sequence[Operation]) -> dict[Key, bytes]:
    parts: dict[Key, list[bytes]] = {}
    for operation in chosen:
        for plane, content in enumerate(coded(base.data, target.data, operation)):
            parts.setdefault((operation.kind, operation.width, plane), []).append(content)
    return {key: b"".join(parts[key]) for key in sorted(parts)}


def _encoded(plain: Mapping[Key, bytes], algorithms: Sequence[str]) -> dict[Key, CodedStream]:
    """The streams compressed; in bytes alone where finer grains would make more parts than a patch may have."""
    limit = patch_format.decoder_share(len(plain))
    grains = GRAINS if len(plain) * 8 // min(GRAINS) <= MOST_PARTS else GRAINS[:1]
    return {key: coding.encode(content, algorithms, limit, grains) for key, content in plain.items()}


def _described(stream: CodedStream) -> Stream:
    parts = tuple(Part(codec, 0, len(content)) for codec, content in stream.parts)
    return Stream(stream.grain, stream.plain_bytes, parts)


def _by_kind(chosen: Sequence[Operation]) -> dict[str, int]:
    return {name: sum(one.length for one in chosen if one.kind == kind) for kind, name in _NAMES.items()}


def replace_file(destination: Path, parts: Sequence[bytes]) -> None:
    """Write a file in one step, whoever else writes it."""
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.writelines(parts)
        temporary.replace(destination)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
