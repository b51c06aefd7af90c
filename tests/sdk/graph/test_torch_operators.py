"""Each ONNX operator that can be taken into torch, against ONNX Runtime, and again after being written back."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgeopt.errors import ModelError
from edgeopt.graph.session import open_session
from edgeopt.graph.torch_export import export_onnx
from edgeopt.graph.torch_import import import_onnx
from support.networks import constant, save

PICTURE, ROWS = ("N", 4, 6, 8), ("N", 6)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def case(
    op: str, shape: Any = PICTURE, constants: Any = (), opset: int = 17, positive: bool = False, **attributes: Any
):
    """One operator on an input `x`, its other inputs constants in order (``None`` leaves one out)."""
    number = f"{op}-{opset}-" + "-".join(f"{k}={v}" for k, v in attributes.items()) + f"-{len(shape)}d"
    return pytest.param(op, shape, constants, opset, positive, attributes, id=number[:90])


INTS = {"dtype": np.int64}
CASES = [
    *(
        case(op)
        for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Erf", "Neg", "Abs", "Exp", "Floor", "Ceil")
    ),
    *(case(op) for op in ("Round", "Sign", "Sin", "Cos", "HardSwish", "Selu", "Identity", "Dropout", "Atan")),
    *(case(op, positive=True) for op in ("Log", "Sqrt", "Reciprocal")),
    case("Mish", opset=18),
    case("Gelu", opset=20),
    case("Gelu", opset=20, approximate="tanh"),
    case("LeakyRelu", alpha=0.2),
    case("Elu", alpha=0.7),
    case("Celu", alpha=0.7),
    case("HardSigmoid", alpha=0.3, beta=0.4),
    case("HardSigmoid", alpha=1 / 6, beta=0.5),
    case("Clip", constants=[np.float32(0), np.float32(6)]),
    case("Clip", constants=[None, np.float32(0.5)]),
    case("Clip", opset=9, min=-0.5, max=0.5),
    case("PRelu", constants=[weights(4, 1, 1)]),
    case("PRelu", constants=[weights(1)]),
    case("PRelu", constants=[weights(6, 8)]),
    case("Softmax", axis=1),
    case("Softmax", opset=11, axis=1),
    case("LogSoftmax"),
    *(case(op, constants=[weights(4, 1, 1)]) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    *(case(op, constants=[np.float32(0.3)]) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    case("Add", constants=[weights(1, 1, 1, 1, 1)]),
    case("Pow", constants=[np.float32(2)]),
    case("Pow", constants=[np.float32(0.5)], positive=True),
    case("Mod", constants=[np.float32(0.7)], positive=True, fmod=1),
    case("Sum", constants=[weights(8), weights(6, 8)]),
    case("MatMul", ROWS, [weights(6, 5)]),
    case("MatMul", ("N", 3, 6), [weights(6, 5)]),
    case("MatMul", ("N", 3, 6), [weights(2, 6, 5)[:1]]),
    case("Gemm", ROWS, [weights(5, 6), weights(5)], transB=1),
    case("Gemm", ROWS, [weights(6, 5), weights(1)], alpha=0.5, beta=2.0),
    case("Gemm", (6, 3), [weights(6, 5)], transA=1),
    case("Gemm", (3, 6), [weights(6, 5), weights(3, 1)]),
    case("Conv", constants=[weights(8, 4, 3, 3), weights(8)], pads=[1, 1, 1, 1]),
    case("Conv", constants=[weights(8, 1, 3, 3)], group=4, strides=[2, 2], pads=[0, 1, 1, 2]),
    case("Conv", constants=[weights(8, 2, 3, 3)], group=2, auto_pad="SAME_UPPER"),
    case("Conv", constants=[weights(8, 4, 3, 3)], strides=[2, 3], auto_pad="SAME_LOWER"),
    case("Conv", ("N", 4, 9), [weights(8, 4, 3)], pads=[1, 1]),
    case("Conv", ("N", 2, 4, 5, 6), [weights(3, 2, 3, 3, 3), weights(3)]),
    case("ConvTranspose", constants=[weights(4, 3, 2, 2), weights(3)], strides=[2, 2]),
    case("ConvTranspose", constants=[weights(4, 3, 3, 3)], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    case("ConvTranspose", constants=[weights(4, 3, 3, 3)], strides=[2, 2], pads=[0, 1, 1, 1], group=2),
    case("BatchNormalization", constants=[weights(4), weights(4), weights(4), abs(weights(4)) + 0.5]),
    case("BatchNormalization", ROWS, [weights(6), weights(6), weights(6), abs(weights(6)) + 0.5], epsilon=1e-3),
    case("LayerNormalization", constants=[weights(8), weights(8)]),
    case("LayerNormalization", constants=[weights(6, 8)], axis=-2),
    case("InstanceNormalization", constants=[weights(4), weights(4)]),
    case("GroupNormalization", constants=[weights(2), weights(2)], num_groups=2, opset=18),
    case("GroupNormalization", constants=[weights(4), weights(4)], num_groups=2, opset=21),
    case("LRN", size=3, alpha=0.1),
    case("LpNormalization", p=2, axis=1),
    case("MaxPool", kernel_shape=[2, 3], strides=[2, 2]),
    case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 1, 1, 1]),
    case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 1, 2]),
    case("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 1, 2], count_include_pad=1),
    case("GlobalAveragePool"),
    case("GlobalMaxPool"),
    case("GlobalAveragePool", ("N", 4, 9)),
    *(case(op, axes=[2, 3], keepdims=0, opset=13) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")),
    case("ReduceMean", constants=[np.array([1])], opset=18),
    case("ReduceSum", constants=[np.array([-1])], keepdims=0),
    case("ReduceSum"),
    *(case(op, axes=[1, 3]) for op in ("ReduceL1", "ReduceSumSquare", "ReduceProd", "ReduceLogSumExp")),
    case("ArgMax", axis=1, keepdims=0),
    case("Reshape", constants=[np.array([0, -1])]),
    case("Reshape", constants=[np.array([-1, 4, 48])]),
    case("Reshape", constants=[np.array([-1, 2, 2, 6, 8])]),
    case("Reshape", constants=[np.array([-1, 48])]),
    case("Reshape", constants=[np.array([0, 0, 2, -1])]),
    *(case("Flatten", axis=axis) for axis in (0, 1, 2, 3)),
    case("Transpose", perm=[0, 3, 1, 2]),
    case("Squeeze", ("N", 1, 5, 1), [np.array([1, 3])]),
    case("Squeeze", ("N", 1, 5), axes=[1], opset=11),
    case("Unsqueeze", constants=[np.array([0, 3])]),
    case("Unsqueeze", axes=[1], opset=11),
    case("Concat", (3, 4, 6, 8), [weights(3, 4, 6, 2)], axis=-1),
    case("Slice", constants=[np.array([1]), np.array([-1]), np.array([2])]),
    case("Slice", constants=[np.array([0, 1]), np.array([9, 9]), np.array([2, 3]), np.array([2, 3])]),
    case("Slice", constants=[np.array([-1]), np.array([-99]), np.array([3]), np.array([-1])]),
    case("Slice", constants=[np.array([6]), np.array([1]), np.array([3]), np.array([-2])]),
    case("Slice", opset=9, starts=[1], ends=[3], axes=[1]),
    case("Gather", constants=[np.array(-1)], axis=1),
    case("Gather", constants=[np.array([2, 0, -1])], axis=1),
    case("Gather", constants=[np.array([[2, 0], [1, 1]])], axis=2),
    case("Expand", ("N", 1, 5), [np.array([1, 3, 1])]),
    case("Tile", constants=[np.array([1, 2, 1, 3])]),
    case("Pad", constants=[np.array([0, 0, 1, 2, 0, 1, 0, 1]), np.float32(0.5)]),
    case("Pad", constants=[np.array([0, 0, 1, 2, 0, 0, 2, 1])], mode="reflect"),
    case("Pad", constants=[np.array([0, 0, 1, 2, 0, 0, 2, 1])], mode="edge"),
    case("Pad", constants=[np.array([1, 2]), None, np.array([-1])], opset=18),
    case("Pad", opset=9, pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.0),
    case("Upsample", constants=[np.array([1, 1, 2, 2], np.float32)], opset=9),
    case("Resize", constants=[None, np.array([1, 1, 2, 3], np.float32)], mode="nearest"),
    case("Resize", constants=[None, np.array([1, 1, 2, 2], np.float32)], coordinate_transformation_mode="asymmetric"),
    case(
        "Resize",
        constants=[None, np.array([1, 1, 0.5, 2.5], np.float32)],
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    case("Resize", constants=[None, np.array([1, 1, 2, 1.5], np.float32)], mode="linear"),
    case(
        "Resize",
        (2, 4, 6, 8),
        [None, None, np.array([2, 4, 9, 13])],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    case("Resize", constants=[None, None, np.array([12, 16])], axes=[2, 3], opset=18, mode="cubic"),
    case("DepthToSpace", blocksize=2),
    case("DepthToSpace", blocksize=2, mode="CRD"),
    case("SpaceToDepth", blocksize=2),
    case("Cast", to=TensorProto.INT32),
    case("Trilu", upper=0),
    case("Einsum", equation="nchw->nwc"),
]


def written(tmp_path, op, shape, constants, opset, attributes):
    names = ["x", *("" if value is None else f"c{i}" for i, value in enumerate(constants))]
    stored = [constant(f"c{i}", value, value.dtype) for i, value in enumerate(constants) if value is not None]
    node = helper.make_node(op, names, ["y"], name="the_node", **attributes)
    kind = TensorProto.INT64 if op == "ArgMax" else attributes["to"] if op == "Cast" else TensorProto.FLOAT
    path = save(tmp_path / "net.onnx", [node], {"x": shape}, {"y": ["?"]}, stored, opset=opset, output_dtype=kind)
    model = onnx.load(path)  # the output's shape is for inference to say
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model)
    path.write_bytes(model.SerializeToString())
    return path


def results(path, x) -> list[np.ndarray]:
    return open_session(path).run(None, {"x": x})


@pytest.mark.parametrize(("op", "shape", "constants", "opset", "positive", "attributes"), CASES)
def test_an_operator_gives_in_torch_what_it_gives_in_onnx(tmp_path, op, shape, constants, opset, positive, attributes):
    path = written(tmp_path, op, shape, constants, opset, attributes)
    network = import_onnx(path)
    back = tmp_path / "back.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_onnx(network, path, back)
    for batch in (1, 3):
        x = weights(*(batch if isinstance(size, str) else size for size in shape), seed=batch)
        x = abs(x) + 0.1 if positive else x
        expected = results(path, x)[0]
        with torch.no_grad():
            found = network(torch.from_numpy(x)).numpy()
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(results(back, x)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "attributes", "constants", "words"),
    [
        ("NonZero", {}, [], "operator NonZero of node the_node cannot be taken into torch"),
        ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "dilations": [1, 1]}, [], None),
        ("LRN", {"size": 4}, [], "window 4 is even"),
        ("Resize", {"nearest_mode": "ceil"}, [None, np.array([1, 1, 2, 2], np.float32)], "half_pixel and ceil"),
        ("AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 2]}, [], "dilated"),
    ],
)
def test_what_torch_cannot_do_is_refused_by_name(tmp_path, op, attributes, constants, words):
    opset = 19 if op == "AveragePool" else 17
    path = written(tmp_path, op, PICTURE, constants, opset, attributes)
    if words is None:
        import_onnx(path)
        return
    with pytest.raises(ModelError, match=words) as caught:
        import_onnx(path)
    assert "the_node" in str(caught.value)
    assert "Passes that train cannot work" in caught.value.remedy
