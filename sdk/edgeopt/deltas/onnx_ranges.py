"""Walks the protocol buffers of an ONNX file to the bytes of its tensors.

The package `onnx` parses a file into copies and forgets where the bytes were; field numbers never change, so little of
the wire format is all that is needed.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

# by kind of message: field number -> kind of what is in it (onnx.proto, "ModelProto" and so on)
_CHILDREN = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_NAME, _TYPE = 8, 2
_OUTPUT = 2
_PAYLOADS = {4: 4, 9: 0, 10: 8}
"""Fields of a tensor with fixed-size numbers (float_data, raw_data, double_data) and their width; 0: by its type."""

_ITEMSIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 4, 15: 8, 16: 2}
"""Bytes of a number by `TensorProto.DataType`; 1 for those that are left out (8-bit floats, 4-bit integers)."""

_DEEPEST = 64


def walk(data: mmap.mmap) -> Iterator[tuple[str, int, int, int]]:
    """Name, offset, length and bytes of a number, of each tensor in the file.

    Raises:
        ValueError: It is no protocol buffer.
    """
    yield from _walk(data, "model", (0, len(data)), "", 0)


def _walk(
    data: mmap.mmap, kind: str, span: tuple[int, int], path: str, depth: int
) -> Iterator[tuple[str, int, int, int]]:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if kind == "tensor":
        yield from _tensor(data, span, path)
        return
    if kind == "node":
        path = f"{path}/{_text(data, span, _OUTPUT)}"
    for index, (field, start, end) in enumerate(_fields(data, span)):
        child = _CHILDREN[kind].get(field)
        if child is not None and start >= 0:
            inner = path if child in ("tensor", "node") else f"{path}/{index}"
            yield from _walk(data, child, (start, end), inner, depth + 1)


def _tensor(data: mmap.mmap, span: tuple[int, int], path: str) -> Iterator[tuple[str, int, int, int]]:
    """The payload of a tensor, by its name, or by where it is if it has none."""
    width, payloads = 1, []
    for field, start, end in _fields(data, span):
        if field == _TYPE and start < 0:
            width = _ITEMSIZES.get(end, 1)
        elif field in _PAYLOADS and start >= 0:
            payloads.append((field, start, end))
    name = _text(data, span, _NAME) or path
    for field, start, end in payloads:
        itemsize = _PAYLOADS[field] or width
        yield name, start, end - start, itemsize if (end - start) % itemsize == 0 else 1


def _text(data: mmap.mmap, span: tuple[int, int], wanted: int) -> str:
    """The first string of a field; empty where there is none."""
    for field, start, end in _fields(data, span):
        if field == wanted and start >= 0:
            return data[start:end].decode("utf-8", "replace")
    return ""


def _fields(data: mmap.mmap, span: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    """Field number, and where its bytes begin and end; a number is told as start -1 and itself as end."""
    place, end = span
    while place < end:
        tag, place = _varint(data, place, end)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(data, place, end)
            yield field, -1, value
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        elif wire == 2:
            length, place = _varint(data, place, end)
            if place + length > end:
                raise ValueError("a field is longer than its message")
            yield field, place, place + length
            place += length
        else:
            raise ValueError(f"wire type {wire}")
    if place != end or not end:
        raise ValueError("a field is longer than its message")


def _varint(data: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 64:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value, place
    raise ValueError("a number without an end")
