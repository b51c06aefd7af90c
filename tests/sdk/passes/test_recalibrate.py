import numpy as np
import pytest
from torch import nn

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import DataError, PassError
from edgeopt.passes.make import MakeContext, make_variant
from edgeopt.passes.recovery.batch_norm import recalibrate
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt.training.samples import Samples
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.precision import top1
from support.recovering import apply, pruned, spoilt, weights
from support.trained import trained


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("residual")
    check(Case("recalibrate", files.network, files.calibration, tmp_path, training=files.training))


def test_brings_back_much_of_a_pruned_network_without_labels(tmp_path):
    files = trained("residual")
    damaged = pruned(files, tmp_path / "pruned.onnx", 0.3)
    report = apply("recalibrate", damaged, files, tmp_path / "result.onnx")
    assert top1(tmp_path / "result.onnx", files) > top1(damaged, files) + 0.3
    assert report.notes == ("statistics of 7 batch normalisations from 128 samples",)


def test_statistics_are_means_over_batches_of_what_the_layer_before_puts_out(tmp_path):
    files = trained("residual")
    apply("recalibrate", files.network, files, tmp_path / "result.onnx", samples=64, batch_size=32)
    convolution = next(value for name, value in weights(files.network).items() if value.shape == (16, 1, 3, 3))
    images = np.stack([sample.inputs["image"][0, 0] for sample in SampleFile(str(files.calibration)).read(64)])
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    outputs = np.einsum("nhwij,oij->nohw", patches, convolution[:, 0])
    batches = outputs[:32], outputs[32:]
    mean = np.mean([batch.mean((0, 2, 3)) for batch in batches], axis=0)
    variance = np.mean([batch.transpose(1, 0, 2, 3).reshape(16, -1).var(1, ddof=1) for batch in batches], axis=0)
    found = weights(tmp_path / "result.onnx")
    assert any(value.shape == (16,) and np.allclose(value, mean, rtol=1e-4, atol=1e-5) for value in found.values())
    assert any(value.shape == (16,) and np.allclose(value, variance, rtol=1e-4, atol=1e-5) for value in found.values())


def test_without_batch_normalisation_the_recipe_goes_on_with_what_it_had(tmp_path):
    files = trained("transformer")
    with pytest.raises(PassError, match="nothing to recalibrate"):
        apply("recalibrate", files.network, files, tmp_path / "result.onnx")
    context = MakeContext(golden=files.calibration, cache=tmp_path / "cache", calibration=files.calibration)
    made = make_variant(files.network, Recipe("r", (PassSpec("recalibrate"),)), context)
    assert made.path == files.network
    assert "nothing to recalibrate" in made.notes[0]


def test_a_sample_that_is_not_finite_is_named(tmp_path):
    files = trained("residual")
    with pytest.raises(DataError, match=r"sample 3 .* holds nan"):
        apply("recalibrate", files.network, files, tmp_path / "r.onnx", calibration=spoilt(files, tmp_path / "s.npz"))


def test_a_batch_with_one_value_of_a_channel_has_no_variance(tmp_path):
    write_samples(str(tmp_path / "one.npz"), {"input:x": np.ones((1, 1, 4), np.float32)})
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    with pytest.raises(PassError, match=r"cannot be taken over batches of 1.*Give more calibration samples"):
        recalibrate(network, Samples(tmp_path / "one.npz", ["x"]), 64)
    assert not network[1].training


@pytest.mark.parametrize("options", [{"samples": 1}, {"batch_size": 1}, {"max_seconds": 0}])
def test_nonsense_is_refused_with_the_value(options):
    with pytest.raises(PassError, match=f"{next(iter(options))} is {next(iter(options.values()))}"):
        load_pass(PassSpec("recalibrate", options))
