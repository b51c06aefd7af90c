import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import DataError, PassError
from edgeopt.graph.torch_export import export_onnx
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.precision import top1
from support.recovering import apply, pruned, spoilt, weights
from support.trained import trained

QUICK = {"epochs": 1, "features": "auto", "attention": "auto"}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("residual")
    check(Case("distil", files.network, files.calibration, tmp_path, QUICK, training=files.calibration))


def test_brings_a_network_without_half_its_channels_back_without_labels(tmp_path):
    files = trained("residual")
    damaged = pruned(files, tmp_path / "pruned.onnx", 0.5)
    report = apply("distil", damaged, files, tmp_path / "result.onnx", seed=3)
    assert top1(damaged, files) < 0.3
    assert top1(tmp_path / "result.onnx", files) > 0.95
    assert report.notes[0] == "learned from the teacher on 128 samples, without labels"


def test_labels_are_used_where_there_are_some(tmp_path):
    files = trained("residual")
    damaged = pruned(files, tmp_path / "pruned.onnx", 0.5)
    report = apply("distil", damaged, files, tmp_path / "result.onnx", training=files.training, epochs=4)
    assert top1(tmp_path / "result.onnx", files) > 0.95
    assert report.notes[0] == "learned from the teacher on 1200 samples, with labels"


def test_another_seed_makes_other_weights(tmp_path):
    files = trained("residual")
    for seed in (0, 1):
        apply("distil", files.network, files, tmp_path / f"{seed}.onnx", seed=seed, epochs=1)
    assert (tmp_path / "0.onnx").read_bytes() != (tmp_path / "1.onnx").read_bytes()


def test_zeros_among_the_weights_stay_unless_told_otherwise(tmp_path):
    files = trained("residual")
    model = onnx.load(files.network)
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            array = numpy_helper.to_array(tensor).copy()
            array[np.abs(array) < np.median(np.abs(array))] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "sparse.onnx")

    def zeros(path):
        return sum(int((array == 0).sum()) for array in weights(path).values() if array.ndim > 1)

    apply("distil", tmp_path / "sparse.onnx", files, tmp_path / "kept.onnx", epochs=2)
    apply("distil", tmp_path / "sparse.onnx", files, tmp_path / "filled.onnx", epochs=2, keep_zeros=False)
    assert zeros(tmp_path / "kept.onnx") == zeros(tmp_path / "sparse.onnx") > 10_000
    assert zeros(tmp_path / "filled.onnx") < 100


def test_the_network_itself_can_be_the_teacher(tmp_path):
    files = trained("residual")
    damaged = pruned(files, tmp_path / "pruned.onnx", 0.7)
    apply("distil", damaged, files, tmp_path / "result.onnx", teacher="before", epochs=1)
    assert top1(tmp_path / "result.onnx", files) < 0.5


def test_without_samples_it_says_what_to_give(tmp_path):
    files = trained("residual")
    with pytest.raises(PassError, match=r"needs samples.*--data"):
        apply("distil", files.network, files, tmp_path / "result.onnx", calibration=None)


def test_a_teacher_with_other_outputs_is_one_error_that_names_both(tmp_path):
    files = trained("residual")
    network = import_onnx(files.network)
    network.head_Gemm.weight.data, network.head_Gemm.bias.data = (
        network.head_Gemm.weight.data[:7],
        network.head_Gemm.bias.data[:7],
    )
    export_onnx(network, like=files.network, destination=tmp_path / "seven.onnx")
    with pytest.raises(
        PassError, match=r"different outputs: the teacher float32\[1, 10\], the student float32\[1, 7\]"
    ):
        apply("distil", tmp_path / "seven.onnx", files, tmp_path / "result.onnx")


@pytest.mark.parametrize("whose", ["teacher", "student"])
def test_a_network_that_gives_nan_is_named(whose, tmp_path):
    files = trained("residual")
    model = onnx.load(files.network)
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [10])
    bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    onnx.save(model, tmp_path / "broken.onnx")
    broken, whole = tmp_path / "broken.onnx", files.network
    source, original = (broken, whole) if whose == "student" else (whole, broken)
    with pytest.raises(PassError, match=f"the {whose}'s outputs are not finite"):
        apply("distil", source, files, tmp_path / "result.onnx", original=original)


def test_a_layer_that_is_not_there_is_named(tmp_path):
    files = trained("residual")
    with pytest.raises(PassError, match="the teacher has no layer '/nowhere'"):
        apply("distil", files.network, files, tmp_path / "result.onnx", features="/nowhere")


def test_divergence_and_bad_samples_are_one_error_each(tmp_path):
    files = trained("residual")
    with pytest.raises(PassError, match=r"diverged.*learning_rate"):
        apply("distil", files.network, files, tmp_path / "r.onnx", learning_rate=1e30, optimiser="sgd", epochs=3)
    with pytest.raises(DataError, match="holds nan"):
        apply("distil", files.network, files, tmp_path / "r.onnx", calibration=spoilt(files, tmp_path / "s.npz"))


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0}, {"labels_weight": 1.5}, {"features_weight": -1.0}, {"epochs": 0}, {"learning_rate": -1.0}],
)
def test_nonsense_is_refused_with_the_value(options):
    with pytest.raises(PassError, match=f"{next(iter(options))} is {next(iter(options.values()))}"):
        load_pass(PassSpec("distil", options))
