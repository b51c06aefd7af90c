"""The sample file is read in bounded memory, whoever wrote it: a device sends one with its outputs."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeopt_runner.protocol.samples import SampleFile, SampleFileError, write_samples


def npy(shape: object, descr: object = "<f4", data: bytes = b"", fields: str = "") -> bytes:
    header = fields or repr({"descr": descr, "fortran_order": False, "shape": shape})
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def archive(path: Path, member: bytes, name: str = "input:x.npy", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr(name, member)
    return path


def test_arrays_come_back_sample_by_sample(tmp_path: Path) -> None:
    arrays = {"input:x": np.arange(12, dtype=np.float32).reshape(3, 4), "labels": np.array([1, 2, 3])}
    write_samples(str(tmp_path / "s.npz"), arrays)
    found = list(SampleFile(str(tmp_path / "s.npz")))
    np.testing.assert_array_equal(np.stack([sample.inputs["x"] for sample in found]), arrays["input:x"])
    assert [int(sample.label) for sample in found] == [1, 2, 3]


def test_what_numpy_writes_is_read_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **{"input:x": np.ones((2, 3), np.float16)})
    assert SampleFile(str(tmp_path / "s.npz")).shapes == {"input:x": (2, 3)}


@pytest.mark.parametrize(
    "member",
    [
        npy((1, 1 << 62), "<f4", b"1234"),
        npy((1, 1 << 33, 1 << 33), "<f4", b""),
        npy((2, -1), "<f4", b""),
        npy((4, 2), "<f4", b"1234"),
        npy((1,), "<f4", b"1234 and more"),
        npy((1,), "|O", b"12345678"),
        npy((1,), "<U4", b"1234" * 4),
        npy((1,), [("a", "<f4")], b"1234"),
        npy(1, "<f4", b"1234"),
        npy(("1e9",), "<f4", b"1234"),
        npy((1,), fields="{'descr': '<f4'}"),
        npy((1,), fields="[1, 2]"),
        npy((1,), fields="__import__('os')"),
        npy((1,), fields="-" * 4000 + "1"),
        npy((1,), fields="(" * 4000),
        npy((1,), fields=" " * 60000 + "{}"),
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFFF),
        b"\x93NUM",
        b"",
    ],
)
def test_a_header_that_lies_is_an_error_and_takes_no_memory(tmp_path: Path, member: bytes) -> None:
    with pytest.raises(SampleFileError, match=r"s\.npz: "):
        list(SampleFile(str(archive(tmp_path / "s.npz", member))))


def test_a_compressed_member_is_refused(tmp_path: Path) -> None:
    """A few kilobytes of it could hold gigabytes."""
    member = npy((1, 1 << 24), "|i1", bytes(1 << 24))
    path = archive(tmp_path / "s.npz", member, method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 16
    with pytest.raises(SampleFileError, match="longer than the file"):
        SampleFile(str(path))
    with pytest.raises(SampleFileError, match="no uncompressed"):
        SampleFile(str(archive(path, npy((1,), "|i1", b"1") * 2, method=zipfile.ZIP_BZIP2)))


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleFileError, match="no uncompressed"):
        SampleFile(str(archive(tmp_path / "s.npz", npy((1,), "|i1", b"1"), name="readme.txt")))


@pytest.mark.parametrize("keep", [0, 10, 100, -30, -1])
def test_a_cut_file_is_an_error(tmp_path: Path, keep: int) -> None:
    stream = io.BytesIO()
    np.savez(stream, **{"input:x": np.ones((2, 3), np.float32)})
    path = tmp_path / "s.npz"
    path.write_bytes(stream.getvalue()[:keep])
    with pytest.raises(SampleFileError):
        list(SampleFile(str(path)))
