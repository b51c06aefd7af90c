"""Batches read at random places of a sample file equal what the file holds, and what does not fit is named."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeopt.errors import DataError
from edgeopt.training.samples import Samples
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.trained import trained


def test_a_batch_holds_the_samples_asked_for_in_that_order() -> None:
    path = trained("residual").training
    (images,), labels = Samples(path, ["image"]).batch([7, 3, 1100])
    whole = list(SampleFile(str(path)))
    for row, place in enumerate((7, 3, 1100)):
        assert torch.equal(images[row], torch.from_numpy(whole[place].inputs["image"][0].copy()))
        assert labels is not None
        assert labels[row] == int(whole[place].label[0])
    assert images.shape == (3, 1, 8, 8)
    assert labels.dtype == torch.int64


def test_rows_of_samples_with_a_fixed_batch_are_joined_and_their_labels_alike(tmp_path: Path) -> None:
    images = np.arange(5 * 4 * 2, dtype=np.float32).reshape(5, 4, 2)
    labels = np.arange(20, dtype=np.uint8).reshape(5, 4)
    write_samples(str(tmp_path / "s.npz"), {"input:x": images, "labels": labels})
    samples = Samples(tmp_path / "s.npz", ["x"])
    (x,), y = samples.batch([4, 0])
    assert (samples.rows, x.shape) == (4, (8, 2))
    assert y is not None
    assert y.tolist() == [16, 17, 18, 19, 0, 1, 2, 3]
    assert x[0].tolist() == images[4, 0].tolist()


def test_a_subset_of_a_subset_keeps_positions() -> None:
    samples = Samples(trained("residual").training, ["image"])
    part = samples.subset(range(100, 200)).subset([5, 6])
    assert len(part) == 2
    assert torch.equal(part.batch([1])[0][0], samples.batch([106])[0][0])


def test_inputs_come_in_the_order_of_the_network_not_of_the_file(tmp_path: Path) -> None:
    first, second = np.zeros((3, 1, 2), np.float32), np.ones((3, 1, 5), np.int32)
    write_samples(str(tmp_path / "s.npz"), {"input:a": first, "input:b": second})
    inputs, labels = Samples(tmp_path / "s.npz", ["b", "a"]).batch([0, 1])
    assert [tuple(tensor.shape) for tensor in inputs] == [(2, 5), (2, 2)]
    assert labels is None


def test_memory_follows_the_batch_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    write_samples(str(path), {"input:x": np.zeros((400, 1, 1 << 18), np.float32)})  # 400 MiB
    with open(path, "rb") as stream:  # as after a restart: nothing of it in this process
        assert stream.read(2) == b"PK"
    before = _private_bytes()
    samples = Samples(path, ["x"])
    for place in range(0, 400, 8):
        samples.batch(range(place, place + 8))
    assert _private_bytes() - before < 64 << 20


def _private_bytes() -> int:
    """Memory that only this process has: mapped pages of a file are the system's to take back."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * resource.getpagesize()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = trained("residual").calibration
    with pytest.raises(DataError, match=r"no input `picture`, only image"):
        Samples(path, ["picture"])
    with pytest.raises(DataError, match=r"has no labels\. Give --train"):
        Samples(path, ["image"]).labels([0])
    (tmp_path / "broken.npz").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"broken\.npz"):
        Samples(tmp_path / "broken.npz", ["image"])
    write_samples(str(tmp_path / "empty.npz"), {"input:x": np.zeros((0, 1, 2), np.float32)})
    with pytest.raises(DataError, match="holds no samples"):
        Samples(tmp_path / "empty.npz", ["x"])
    write_samples(str(tmp_path / "flat.npz"), {"input:x": np.zeros(4, np.float32)})
    with pytest.raises(DataError, match="`x` has no batch dimension"):
        Samples(tmp_path / "flat.npz", ["x"])


def test_a_sample_that_is_not_finite_is_named(tmp_path: Path) -> None:
    images = np.zeros((9, 1, 2), np.float32)
    images[6, 0, 1] = np.nan
    write_samples(str(tmp_path / "s.npz"), {"input:x": images, "labels": np.array([0.0] * 7 + [np.inf] * 2)})
    samples = Samples(tmp_path / "s.npz", ["x"])
    with pytest.raises(DataError, match=r"sample 6 of s\.npz holds nan in `x`"):
        samples.subset([1, 5, 6]).batch([0, 2])
    with pytest.raises(DataError, match=r"sample 8 of s\.npz holds inf in `labels`"):
        samples.batch([0, 8])
