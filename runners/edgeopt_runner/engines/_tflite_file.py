"""Reads the signature out of a TFLite file: the metadata buffer named `edgeopt`, else what the converter named.

A little flatbuffer instead of a package that no board has. Field numbers are those of TFLite's `schema.fbs`, which
never change.
"""

import mmap
import struct
from typing import Any, Dict, Iterator, List, Optional

from edgeopt_runner.engines import _signature
from edgeopt_runner.engines._base import LoadFailed

NAME = b"edgeopt"
_MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_METADATA, _MODEL_SIGNATURES = 2, 4, 6, 7
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_TENSOR_NAME = 3
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS = 0, 1
_MAP_NAME, _MAP_TENSOR = 0, 1
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA = 0


def signature(path: str) -> _signature.Signature:
    """The file's signature.

    Of a file that somebody else made: names of its only signature, else of its tensors, in the order of its first
    graph, nothing moved or scaled.

    Raises:
        LoadFailed: The file is no sound TFLite file, or its signature is damaged.
    """
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            text = _metadata(data)
            return _foreign(data) if text is None else _signature.parse(text)
    except (OSError, struct.error, IndexError, UnicodeDecodeError) as error:
        raise LoadFailed("this TFLite file cannot be read: %s" % error)


def _metadata(data: Any) -> Optional[bytes]:
    model = _number("<I", data, 0)
    for entry in _tables(data, _field(data, model, _MODEL_METADATA)):
        if _bytes(data, _field(data, entry, _METADATA_NAME)) == NAME:
            place = _field(data, entry, _METADATA_BUFFER)
            number = _number("<I", data, place) if place else 0
            buffers = list(_tables(data, _field(data, model, _MODEL_BUFFERS)))
            return _bytes(data, _field(data, buffers[number], _BUFFER_DATA))
    return None


def _foreign(data: Any) -> _signature.Signature:
    model = _number("<I", data, 0)
    graph = list(_tables(data, _field(data, model, _MODEL_SUBGRAPHS)))[0]
    tensors = [
        _bytes(data, _field(data, tensor, _TENSOR_NAME)).decode("utf-8")
        for tensor in _tables(data, _field(data, graph, _GRAPH_TENSORS))
    ]
    signatures = list(_tables(data, _field(data, model, _MODEL_SIGNATURES)))
    found = []
    for vector, names in ((_GRAPH_INPUTS, _SIGNATURE_INPUTS), (_GRAPH_OUTPUTS, _SIGNATURE_OUTPUTS)):
        named = _names(data, _field(data, signatures[0], names)) if len(signatures) == 1 else {}
        numbers = _numbers(data, _field(data, graph, vector))
        found.append([_signature.Port({"name": named.get(n, tensors[n]), "tensor": tensors[n]}) for n in numbers])
    return _signature.Signature(found[0], found[1])


def _names(data: Any, field: int) -> Dict[int, str]:
    """A signature's names by tensor."""
    found = {}
    for entry in _tables(data, field):
        place = _field(data, entry, _MAP_TENSOR)
        number = _number("<I", data, place) if place else 0
        found[number] = _bytes(data, _field(data, entry, _MAP_NAME)).decode("utf-8")
    return found


def _numbers(data: Any, field: int) -> List[int]:
    if not field:
        return []
    start = _vector(data, field)
    return [_number("<i", data, start + 4 + 4 * number) for number in range(_number("<I", data, start))]


def _number(form: str, data: Any, place: int) -> int:
    return int(struct.unpack_from(form, data, place)[0])


def _field(data: Any, table: int, number: int) -> int:
    """Where a table's field lies; 0 where it is left out."""
    vtable = table - _number("<i", data, table)
    slot = 4 + 2 * number
    offset = _number("<H", data, vtable + slot) if slot < _number("<H", data, vtable) else 0
    return table + offset if offset else 0


def _vector(data: Any, field: int) -> int:
    """Where the vector or string that a field points to begins, with its length."""
    return field + _number("<I", data, field)


def _bytes(data: Any, field: int) -> bytes:
    if not field:
        return b""
    start = _vector(data, field)
    return bytes(data[start + 4 : start + 4 + _number("<I", data, start)])


def _tables(data: Any, field: int) -> Iterator[int]:
    if field:
        start = _vector(data, field)
        for number in range(_number("<I", data, start)):
            place = start + 4 + 4 * number
            yield place + _number("<I", data, place)
