"""Training samples in batches, read from a sample file at random places in memory that the batch alone bounds.

`SampleFile` reads one sample after the other; training wants them shuffled. The members of a sample file are stored
uncompressed, so each is mapped where it lies.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeopt.errors import DataError
from edgeopt_runner.protocol.samples import INPUT, LABELS, SampleFile, SampleFileError

_LENGTHS_AT = 26
_LOCAL_HEADER_BYTES = 30


class Samples:
    """The samples of a file, or of some of its places.

    Args:
        path: Sample file (`edgeopt_runner.protocol.samples`).
        names: The network's inputs, in the order in which `batch` returns them.

    Attributes:
        path: The file.
        labelled: Whether `batch` returns labels.

    Raises:
        DataError: Not a sample file, empty, or without one of the inputs.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        try:
            file = SampleFile(str(path))
        except SampleFileError as error:
            raise DataError(f"{error}.", remedy="Make the sample file anew.") from None
        missing = [name for name in names if INPUT + name not in file.shapes]
        if missing:
            raise DataError(
                f"{path.name} has no input `{missing[0]}`, only {', '.join(file.names(INPUT)) or 'none'}.",
                remedy="The data must yield every input of the network under its name.",
            )
        if not file.count:
            raise DataError(f"{path.name} holds no samples.", remedy="The training function must yield at least one.")
        for name in names:
            if len(file.shapes[INPUT + name]) < 2:
                raise DataError(f"input `{name}` has no batch dimension, so its samples cannot be joined for training.")
        self.path = path
        self.labelled = file.labelled
        self._names = tuple(names)
        self._inputs = tuple(_mapped(file, INPUT + name) for name in names)
        self._labels = _mapped(file, LABELS) if file.labelled else None
        self._places = np.arange(file.count)

    def __len__(self) -> int:
        """How many samples; each may hold several rows where the network's batch size is fixed."""
        return len(self._places)

    @property
    def rows(self) -> int:
        """Rows of a sample: the batch size that the network was exported with, mostly 1."""
        return int(self._inputs[0].shape[1])

    def subset(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Samples:
        """Some of these samples, by position; nothing is copied."""
        part = object.__new__(Samples)
        part.__dict__.update(self.__dict__)
        part._places = self._places[np.asarray(indices, dtype=np.int64)]
        return part

    def batch(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Read samples by position.

        Returns:
            Inputs, each [samples × rows, ...], and labels [samples × rows, ...] (int64 or float32), or ``None`` where
            the file has none.

        Raises:
            DataError: A value that is not finite; names sample and input.
        """
        places = self._places[np.asarray(indices, dtype=np.int64)]
        inputs = tuple(_joined(array[places]) for array in self._inputs)
        for name, values in zip(self._names, inputs, strict=True):
            if values.is_floating_point() and not bool(torch.isfinite(values).all()):
                self._refuse(name, places, values)
        labels = None if self._labels is None else self.labels(indices)
        return inputs, labels

    def labels(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Tensor:
        """Labels of samples by position, [samples × rows, ...], int64 or float32.

        Raises:
            DataError: There are none, or one that is not finite.
        """
        if self._labels is None:
            raise DataError(
                f"{self.path.name} has no labels.", remedy="Give --train data.py:train (inputs and labels)."
            )
        places = self._places[np.asarray(indices, dtype=np.int64)]
        raw = self._labels[places]
        whole = raw.dtype.kind in "biu"
        values = torch.from_numpy(np.ascontiguousarray(raw.astype(np.int64 if whole else np.float32)))
        if not whole and not bool(torch.isfinite(values).all()):
            self._refuse(LABELS, places, values)
        return values if values.ndim < 2 else values.flatten(0, 1)

    def _refuse(self, name: str, places: np.ndarray[Any, Any], values: Tensor) -> None:
        bad = values.reshape(len(places), -1)
        row = int((~torch.isfinite(bad)).any(1).nonzero()[0])
        value = float(bad[row][~torch.isfinite(bad[row])][0])
        raise DataError(
            f"sample {int(places[row])} of {self.path.name} holds {value} in `{name}`.",
            remedy="Leave such samples out, or correct the preprocessing.",
        )


def _joined(items: np.ndarray[Any, Any]) -> Tensor:
    """[samples, rows, ...] as [samples × rows, ...]."""
    return torch.from_numpy(np.ascontiguousarray(items.reshape(-1, *items.shape[2:])))


def _mapped(file: SampleFile, member: str) -> np.ndarray[Any, Any]:
    """A member as a read-only array that stays on disk (PKWARE APPNOTE 4.3.7: a local header precedes the data)."""
    shape, dtype = file.shapes[member], file.dtypes[member]
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return np.zeros(shape, dtype)
    with zipfile.ZipFile(file.path) as archive, open(file.path, "rb") as stream:
        info = archive.getinfo(member + ".npy")
        stream.seek(info.header_offset + _LENGTHS_AT)
        lengths = stream.read(4)  # of the name and of the extra field, which may differ from the directory's
    begin = info.header_offset + _LOCAL_HEADER_BYTES
    begin += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    return np.memmap(file.path, dtype=dtype, mode="r", offset=begin + info.file_size - size, shape=shape)
