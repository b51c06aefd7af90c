import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.kernels import strongest_window
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.networks import constant, save
from support.precision import top1
from support.recovering import apply
from support.trained import trained


def shrink(source, folder, **options):
    """The pass applied; (path, notes)."""
    step = load_pass(PassSpec("shrink_kernels", options))
    return folder / "small.onnx", step.apply(source, folder / "small.onnx", PassContext(work=folder)).notes


def run(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"x": x})[0]


def convolution(path, weight, shape, **attributes):
    """A network of one convolution called conv, and a ReLU that reads the same input."""
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", **attributes),
        onnx.helper.make_node("Relu", ["x"], ["z"], name="other"),
    ]
    free = [None] * (len(shape) - 2)
    weights = [constant("w", weight), constant("b", np.arange(len(weight)))]
    save(path, nodes, {"x": ["n", *shape[1:]]}, {"y": ["n", len(weight), *free], "z": ["n", *shape[1:]]}, weights)
    return path


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def centred(*shape):
    """Weights whose middle 3 taps along each axis are the strongest."""
    weight = drawn(*shape)
    middle = tuple(slice((taps - 3) // 2, (taps - 3) // 2 + 3) if taps > 3 else slice(None) for taps in shape[2:])
    weight[(slice(None), slice(None), *middle)] *= 4
    return weight, (slice(None), slice(None), *middle)


GEOMETRIES = {
    "same": ((4, 3, 5, 5), (2, 3, 9, 11), {"pads": [2, 2, 2, 2]}),
    "strided": ((4, 3, 7, 7), (2, 3, 16, 15), {"pads": [3, 3, 3, 3], "strides": [2, 3]}),
    "dilated": ((4, 3, 5, 5), (1, 3, 12, 12), {"pads": [4, 4, 4, 4], "dilations": [2, 2]}),
    "depthwise": ((6, 1, 5, 5), (1, 6, 8, 8), {"pads": [2, 2, 2, 2], "group": 6, "strides": [2, 2]}),
    "signal": ((4, 3, 9), (1, 3, 20), {"pads": [4, 4], "kernel_shape": [9]}),
    "volume": ((2, 2, 5, 3, 5), (1, 2, 6, 6, 6), {"pads": [2, 1, 2, 2, 1, 2]}),
    "long": ((4, 3, 1, 7), (1, 3, 5, 9), {"pads": [0, 3, 0, 3]}),
    "asymmetric": ((4, 3, 5, 5), (1, 3, 8, 8), {"pads": [3, 0, 1, 2]}),
    "without pads": ((4, 3, 5, 5), (1, 3, 8, 9), {}),
    "valid": ((4, 3, 5, 5), (1, 3, 8, 9), {"auto_pad": "VALID", "strides": [2, 2]}),
    "same upper": ((4, 3, 5, 5), (1, 3, 8, 9), {"auto_pad": "SAME_UPPER"}),
    "same lower, strided": ((4, 3, 6, 6), (1, 3, 8, 9), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "same upper, long strides": ((4, 3, 5, 5), (1, 3, 16, 16), {"auto_pad": "SAME_UPPER", "strides": [4, 4]}),
}


@pytest.mark.parametrize("case", GEOMETRIES)
def test_the_result_is_the_convolution_with_the_outer_taps_at_zero(case, tmp_path):
    shape, size, attributes = GEOMETRIES[case]
    weight, middle = centred(*shape)
    silenced = np.zeros_like(weight)
    silenced[middle] = weight[middle]
    expected = run(convolution(tmp_path / "silenced.onnx", silenced, size, **attributes), drawn(*size))
    made, notes = shrink(convolution(tmp_path / "n.onnx", weight, size, **attributes), tmp_path)
    np.testing.assert_allclose(run(made, drawn(*size)), expected, atol=1e-4)
    stored = next(tensor for tensor in onnx.load(made).graph.initializer if len(tensor.dims) > 2)
    assert max(stored.dims[2:]) == 3
    assert notes[0].startswith(f"kernels: conv {'x'.join(map(str, shape[2:]))} -> ")


def test_the_strongest_taps_stay_where_they_are_clearly_stronger_than_the_middle(tmp_path):
    weight = np.ones((4, 3, 5, 5), np.float32)
    weight[:, :, 2:, 1:4] = 1.02
    assert strongest_window(weight, 3).begin == (1, 1)
    weight[:, :, 2:, 1:4] = 2.0
    assert strongest_window(weight, 3).begin == (2, 1)
    assert strongest_window(np.zeros((1, 1, 5, 5)), 3).begin == (1, 1)
    attributes = {"pads": [2, 2, 2, 2]}
    weight[:, :, :2], weight[:, :, :, 0], weight[:, :, :, 4] = 0, 0, 0
    source = convolution(tmp_path / "n.onnx", weight, (1, 3, 8, 8), **attributes)
    made, notes = shrink(source, tmp_path)
    np.testing.assert_allclose(run(made, drawn(1, 3, 8, 8)), run(source, drawn(1, 3, 8, 8)), atol=1e-4)
    assert "(100% of its squared weights)" in notes[0]


def test_a_large_kernel_network_comes_back_by_refit_without_labels_or_by_distillation(tmp_path):
    files = trained("large_kernels")
    apply("shrink_kernels", files.network, files, tmp_path / "small.onnx")
    apply("refit", tmp_path / "small.onnx", files, tmp_path / "refitted.onnx")
    apply("distil", tmp_path / "small.onnx", files, tmp_path / "distilled.onnx", epochs=6, training=files.training)
    cropped, refitted, distilled = (
        top1(tmp_path / f"{name}.onnx", files) for name in ("small", "refitted", "distilled")
    )
    assert cropped < 0.5, "the premise"
    assert refitted > 0.8
    assert distilled > files.top1 - 0.04
    kernels = [t.dims[2:] for t in onnx.load(tmp_path / "distilled.onnx").graph.initializer if len(t.dims) == 4]
    assert sorted(max(kernel) for kernel in kernels) == [1, 3, 3, 3]


def test_named_layers_alone_are_cropped(tmp_path):
    files = trained("large_kernels")
    made, notes = shrink(files.network, tmp_path, layers=["/features/features.3/Conv"])
    assert "/features/features.3/Conv 5x5 -> 3x3" in notes[0]
    assert sorted(max(t.dims[2:]) for t in onnx.load(made).graph.initializer if len(t.dims) == 4) == [1, 3, 5, 5]
    with pytest.raises(PassError, match="layers names '/nowhere', which is not a node"):
        shrink(files.network, tmp_path, layers=["/nowhere"])


def test_weights_that_two_layers_share_are_cropped_for_both(tmp_path):
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["m"], name="first", pads=[2] * 4),
        onnx.helper.make_node("Conv", ["m", "w"], ["y"], name="second", pads=[2] * 4),
    ]
    shape = ["n", 2, 6, 6]
    source = save(tmp_path / "n.onnx", nodes, {"x": shape}, {"y": shape}, [constant("w", drawn(2, 2, 5, 5))])
    made, _ = shrink(source, tmp_path)
    assert {tuple(tensor.dims) for tensor in onnx.load(made).graph.initializer} == {(2, 2, 3, 3)}
    assert run(made, drawn(1, 2, 6, 6)).shape == (1, 2, 6, 6)


def test_what_cannot_be_cropped_is_named_with_its_reason(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ConvTranspose2d(4, 3, 5)).eval()
    torch.onnx.export(module, (torch.zeros(1, 3, 8, 8),), tmp_path / "n.onnx", dynamo=False, input_names=["x"])
    _, notes = shrink(tmp_path / "n.onnx", tmp_path)
    assert notes[1] == "skipped 1 of 2 layers: /1/ConvTranspose (it is transposed)"


def test_strides_with_automatic_pads_need_a_known_size(tmp_path):
    attributes = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    source = convolution(tmp_path / "n.onnx", drawn(4, 3, 5, 5), (1, 3, "h", "w"), **attributes)
    with pytest.raises(PassError, match=r"skipped 1 of 1 layers: conv \(auto_pad SAME_UPPER with stride 2 and a free"):
        shrink(source, tmp_path)


def test_nothing_to_shrink_is_an_error(tmp_path):
    with pytest.raises(PassError, match="no kernel can be cropped to 3 taps: none is larger"):
        shrink(trained("residual").network, tmp_path)


def test_a_size_below_one_is_refused():
    with pytest.raises(PassError, match="size is 0, must be at least 1"):
        load_pass(PassSpec("shrink_kernels", {"size": 0}))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    files = trained("large_kernels")
    check(Case("shrink_kernels", files.network, files.calibration, tmp_path))
