"""Where a model file keeps its tensors: byte ranges by name, for the formats that we can walk."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.deltas import onnx_ranges, tflite_ranges

Walk = Callable[[mmap.mmap], Iterator[tuple[str, int, int, int]]]

_WALKS: dict[str, Walk] = {"onnx": onnx_ranges.walk, "tflite": tflite_ranges.walk}


@dataclass(frozen=True)
class TensorRange:
    """Numbers of one tensor in a file.

    Attributes:
        name: The tensor's name; unique in the file.
        offset: First byte.
        length: Bytes; a multiple of `itemsize`.
        itemsize: Bytes of a number: 1, 2, 4 or 8.
    """

    name: str
    offset: int
    length: int
    itemsize: int


def ranges(path: Path) -> list[TensorRange]:
    """The tensors of a model file, in the order of their offsets, none overlapping.

    Empty for a format that is not walked, a file that is not what its content seems to be, and tensors that lie in
    other files: a patch is made of such bytes too, only without knowing what they are.
    """
    if not path.stat().st_size:
        return []
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk = _WALKS["tflite" if data[4:8] == b"TFL3" else "onnx"]
        try:
            found = list(walk(data))
        except (ValueError, IndexError, struct.error):
            return []
        return _sound(found, len(data))


def _sound(found: Sequence[tuple[str, int, int, int]], size: int) -> list[TensorRange]:
    """Sorted, inside the file, apart from each other (files may let tensors share bytes), names made unique."""
    sound: list[TensorRange] = []
    seen: dict[str, int] = {}
    end = 0
    for name, offset, length, itemsize in sorted(found, key=lambda one: one[1]):
        if length <= 0 or length % itemsize or offset < end or offset + length > size:
            continue
        seen[name] = seen.get(name, 0) + 1
        sound.append(TensorRange(name if seen[name] == 1 else f"{name}#{seen[name]}", offset, length, itemsize))
        end = offset + length
    return sound
