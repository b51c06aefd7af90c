"""Walks the flatbuffer of a TFLite file to the bytes of its tensors.

Field numbers are those of TFLite's `schema.fbs`, which never change.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_GRAPH_TENSORS = 0
_TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 1, 2, 3
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_ITEMSIZES = {0: 4, 1: 2, 2: 4, 4: 8, 7: 2, 8: 4, 10: 8, 11: 8, 12: 8, 15: 4, 16: 2, 18: 2}
"""Bytes of a number by `TensorType`; 1 for those that are left out."""


def walk(data: mmap.mmap) -> Iterator[tuple[str, int, int, int]]:
    """Name, offset, length and bytes of a number, of each buffer that a tensor uses, or any other that is filled.

    Raises:
        ValueError, struct.error, IndexError: It is no sound flatbuffer.
    """
    model = _number("<I", data, 0)
    users: dict[int, tuple[str, int]] = {}
    for graph, table in enumerate(_tables(data, _field(data, model, _MODEL_SUBGRAPHS))):
        for tensor in _tables(data, _field(data, table, _GRAPH_TENSORS)):
            number = _optional("<I", data, _field(data, tensor, _TENSOR_BUFFER))
            kind = _optional("<b", data, _field(data, tensor, _TENSOR_TYPE))
            start, end = _vector(data, _field(data, tensor, _TENSOR_NAME))
            name = data[start:end].decode("utf-8", "replace")
            users.setdefault(number, (f"{graph}/{name}", _ITEMSIZES.get(kind, 1)))
    for number, table in enumerate(_tables(data, _field(data, model, _MODEL_BUFFERS))):
        start, end = _content(data, table)
        name, itemsize = users.get(number, (f"buffer {number}", 1))
        if end > start:
            yield name, start, end - start, itemsize if (end - start) % itemsize == 0 else 1


def _content(data: mmap.mmap, table: int) -> tuple[int, int]:
    """Where a buffer's bytes are: inside the flatbuffer, or behind it in files of more than 2 GiB."""
    offset = _optional("<Q", data, _field(data, table, _BUFFER_OFFSET))
    if offset > 1:
        return offset, offset + _optional("<Q", data, _field(data, table, _BUFFER_SIZE))
    return _vector(data, _field(data, table, _BUFFER_DATA))


def _number(form: str, data: mmap.mmap, place: int) -> int:
    return int(struct.unpack_from(form, data, place)[0])


def _optional(form: str, data: mmap.mmap, place: int) -> int:
    """A number; 0 for a field that is left out."""
    return _number(form, data, place) if place else 0


def _field(data: mmap.mmap, table: int, number: int) -> int:
    """Where a table's field lies; 0 where it is left out."""
    vtable = table - _number("<i", data, table)
    slot = 4 + 2 * number
    offset = _number("<H", data, vtable + slot) if slot < _number("<H", data, vtable) else 0
    return table + offset if offset else 0


def _vector(data: mmap.mmap, field: int) -> tuple[int, int]:
    """Where the bytes of the vector or string that a field points to begin and end."""
    if not field:
        return 0, 0
    start = field + _number("<I", data, field)
    return start + 4, start + 4 + _number("<I", data, start)


def _tables(data: mmap.mmap, field: int) -> Iterator[int]:
    if field:
        start = field + _number("<I", data, field)
        for number in range(_number("<I", data, start)):
            place = start + 4 + 4 * number
            yield place + _number("<I", data, place)
