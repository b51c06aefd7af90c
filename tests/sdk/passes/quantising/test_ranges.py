import tracemalloc

import numpy as np
import pytest

from edgeopt.errors import PassError
from edgeopt.passes.quantising.ranges import spreads
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.compressing import sample_file
from support.networks import broken_nan_onnx, small_cnn_onnx


def test_ends_are_those_of_all_samples(tmp_path):
    network = small_cnn_onnx(tmp_path / "n.onnx")
    samples = sample_file(tmp_path / "s.npz", network, 16)
    found = spreads(network, ["image", "logits"], samples, limit=100, histograms=True)
    every = list(SampleFile(str(samples)))
    images = np.array([sample.inputs["image"] for sample in every])
    logits = np.array([sample.reference["logits"] for sample in every])
    assert (found["image"].low, found["image"].high) == (images.min(), images.max())
    assert found["logits"].high == pytest.approx(float(logits.max()), rel=1e-5)
    assert found["image"].counts.sum() == images.size


def test_no_more_samples_are_read_than_asked(tmp_path):
    network = small_cnn_onnx(tmp_path / "n.onnx")
    samples = sample_file(tmp_path / "s.npz", network, 16)
    found = spreads(network, ["image"], samples, limit=2, histograms=True)
    assert found["image"].counts.sum() == 2 * 64


def test_memory_does_not_grow_with_the_samples(tmp_path):
    network = small_cnn_onnx(tmp_path / "n.onnx")
    tensors = ["image", "r1", "r2", "logits"]
    peaks = []
    for count in (8, 512):
        samples = sample_file(tmp_path / f"s{count}.npz", network, count)
        tracemalloc.start()
        spreads(network, tensors, samples, limit=count, histograms=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one_sample_kept_too_much = 512 * 8 * 64 * 4  # r1 alone, all samples
    assert peaks[1] - peaks[0] < one_sample_kept_too_much / 2


def test_kept_result_is_the_same(tmp_path):
    network = small_cnn_onnx(tmp_path / "n.onnx")
    samples = sample_file(tmp_path / "s.npz", network, 4)
    first = spreads(network, ["image", "r1"], samples, limit=4, histograms=True, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("spreads-*.npz"))) == 1
    again = spreads(network, ["image", "r1"], samples, limit=4, histograms=True, cache=tmp_path / "cache")
    assert again.keys() == first.keys()
    assert all(np.array_equal(again[name].counts, first[name].counts) for name in first)
    assert [(s.low, s.high) for s in again.values()] == [(s.low, s.high) for s in first.values()]


def test_activations_that_are_not_finite_are_named_with_their_sample(tmp_path):
    network = broken_nan_onnx(tmp_path / "n.onnx")
    write_samples(str(tmp_path / "s.npz"), {"input:x": np.ones((2, 1, 32), np.float32)})
    with pytest.raises(PassError, match=r"tensor 'y' is not finite for calibration sample 0"):
        spreads(network, ["x", "y"], tmp_path / "s.npz", limit=2, histograms=False)


def test_empty_calibration_set_is_said(tmp_path):
    network = small_cnn_onnx(tmp_path / "n.onnx")
    write_samples(str(tmp_path / "s.npz"), {"input:image": np.ones((0, 1, 1, 8, 8), np.float32)})
    with pytest.raises(PassError, match="calibration set is empty"):
        spreads(network, ["image"], tmp_path / "s.npz", limit=2, histograms=False)
