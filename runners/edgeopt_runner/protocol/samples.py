"""The sample file: feeds, labels and reference outputs in one uncompressed `.npz`, handled in bounded memory.

Members (every array has N items, one per sample, along axis 0):

* ``input:<name>``: [N, *feed shape], where a feed has all dimensions of the model's input, the batch included;
* ``labels``: [N] or [N, batch] integers, optional;
* ``reference:<name>``: [N, *output shape], the source model's outputs, optional.

`numpy.load` reads such a file too, but whole members at once; a board with 512 MiB cannot afford that. A file may come
from a device: what it says about sizes is held against the length of the file before anything is read.
"""

import ast
import io
import os
import struct
import zipfile
from typing import Any, Dict, Iterator, List, Optional, Tuple

INPUT = "input:"
REFERENCE = "reference:"
LABELS = "labels"
_MAGIC = b"\x93NUMPY"
_HEADER_LIMIT_BYTES = 4096
_KINDS = "biufc"
_UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, struct.error, SyntaxError, ValueError, KeyError, TypeError)
_TOO_MUCH = (MemoryError, RuntimeError)  # also encrypted members, methods that nobody knows, too deep a header


class SampleFileError(ValueError):
    """The file is not a sample file, or its members do not fit together."""


def _read_header(stream: Any) -> Tuple[Tuple[int, ...], Any, int]:
    """Shape, dtype and header's length of a `.npy` stream (NumPy enhancement proposal 1), left at the first element."""
    import numpy as np

    start = stream.read(8)
    if start[:6] != _MAGIC:
        raise SampleFileError("member is not a .npy array")
    size_format, size_length = ("<H", 2) if start[6] == 1 else ("<I", 4)
    (length,) = struct.unpack(size_format, stream.read(size_length))
    if length > _HEADER_LIMIT_BYTES:
        raise SampleFileError("member has a header of %d bytes" % length)
    header = ast.literal_eval(stream.read(length).decode("latin1"))
    dtype, shape = np.dtype(header["descr"]), tuple(int(size) for size in header["shape"])
    if dtype.kind not in _KINDS or header["fortran_order"] or min(shape, default=0) < 0:
        raise SampleFileError("member holds something else than numbers in C order")
    return shape, dtype, 8 + size_length + length


def _size_bytes(shape: Tuple[int, ...], dtype: Any) -> int:
    """Length of an array; in Python's integers, which do not overflow."""
    size = int(dtype.itemsize)
    for dimension in shape:
        size *= dimension
    return size


class SampleFile:
    """Reads a sample file.

    Args:
        path: The file.

    Raises:
        SampleFileError: Not a sample file, or arrays of different lengths.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.shapes = {}  # type: Dict[str, Tuple[int, ...]]
        self.dtypes = {}  # type: Dict[str, Any]
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(info.file_size for info in archive.infolist()) > os.path.getsize(path):
                    raise SampleFileError("members are longer than the file")
                for info in archive.infolist():
                    self._note(archive, info)
        except _UNREADABLE + _TOO_MUCH as error:
            raise SampleFileError("%s: %s" % (path, error))
        lengths = {shape[0] if shape else -1 for shape in self.shapes.values()}
        if len(lengths) != 1:
            raise SampleFileError("%s: arrays of different lengths: %s" % (path, sorted(lengths)))
        self.count = lengths.pop()

    def _note(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        """Remember shape and dtype of a member that is as long as they say."""
        name, suffix = info.filename[:-4], info.filename[-4:]
        if suffix != ".npy" or info.compress_type != zipfile.ZIP_STORED:
            raise SampleFileError("member %.80r is no uncompressed .npy" % info.filename)
        with archive.open(info) as stream:
            shape, dtype, header_bytes = _read_header(stream)
        if header_bytes + _size_bytes(shape, dtype) != info.file_size:
            raise SampleFileError("member %.80r is not as long as it says" % info.filename)
        self.shapes[name], self.dtypes[name] = shape, dtype

    def names(self, prefix: str) -> List[str]:
        """Names behind `prefix` (`INPUT` or `REFERENCE`), in the order of the file."""
        return [name[len(prefix) :] for name in self.shapes if name.startswith(prefix)]

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return LABELS in self.shapes

    def __iter__(self) -> "Iterator[Sample]":
        return self.read()

    def read(self, limit: Optional[int] = None) -> "Iterator[Sample]":
        """The first `limit` samples (all by default), one at a time."""
        import numpy as np

        with zipfile.ZipFile(self.path) as archive:
            streams = {}
            for name in self.shapes:
                streams[name] = archive.open(name + ".npy")
                _read_header(streams[name])
            try:
                for _ in range(self.count if limit is None else min(limit, self.count)):
                    arrays = {}
                    for name, stream in streams.items():
                        shape, dtype = self.shapes[name][1:], self.dtypes[name]
                        size = _size_bytes(shape, dtype)
                        data = stream.read(size)
                        if len(data) != size:
                            raise SampleFileError("%s: %s is cut short" % (self.path, name))
                        arrays[name] = np.frombuffer(data, dtype=dtype).reshape(shape)
                    yield Sample(arrays)
            finally:
                for stream in streams.values():
                    stream.close()


class Sample:
    """One feed with its label and reference outputs."""

    def __init__(self, arrays: Dict[str, Any]) -> None:
        self.inputs = {k[len(INPUT) :]: v for k, v in arrays.items() if k.startswith(INPUT)}
        self.reference = {k[len(REFERENCE) :]: v for k, v in arrays.items() if k.startswith(REFERENCE)}
        self.label = arrays.get(LABELS)


def _with_shape(header: bytes, shape: Tuple[int, ...]) -> bytes:
    """A `.npy` header (version 1.0) with another shape, padded to 64 bytes as NumPy does."""
    text = header[10:].decode("latin1").strip()
    fields = ast.literal_eval(text)
    fields["shape"] = tuple(int(size) for size in shape)
    body = "{'descr': %r, 'fortran_order': False, 'shape': %r, }" % (fields["descr"], fields["shape"])
    body += " " * (-(10 + len(body) + 1) % 64) + "\n"
    return header[:8] + struct.pack("<H", len(body)) + body.encode("latin1")


def write_samples(path: str, arrays: Dict[str, Any]) -> None:
    """Write whole arrays as a sample file; same arrays, same bytes.

    Args:
        path: The file to make.
        arrays: By member name (see the module), each [N, ...].

    Raises:
        SampleFileError: Arrays of different lengths.
    """
    import numpy as np

    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise SampleFileError("arrays of different lengths: %s" % sorted(lengths))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            empty = io.BytesIO()
            np.save(empty, array[:0])
            header = _with_shape(empty.getvalue(), array.shape)
            info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(info, "w", force_zip64=True) as stream:
                stream.write(header)
                for item in array:
                    stream.write(np.ascontiguousarray(item).tobytes())
