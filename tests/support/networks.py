"""Small networks for tests, built with onnx.helper and NumPy: same seed, same bytes; none needs torch.

`write_torch_file` writes a user's Python file with torch networks, for the tests of export.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


def _weights(seed: int, **shapes: tuple[int, ...]) -> list[Any]:
    """Float32 initialisers by name, scaled so that activations keep a variance near 1."""
    rng = np.random.default_rng(seed)
    made = []
    for name, shape in shapes.items():
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        scale = (2.0 / fan_in) ** 0.5 if len(shape) > 1 else 0.1
        made.append(numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name))
    return made


def constant(name: str, values: Any, dtype: Any = np.float32) -> Any:
    """An initialiser of given values."""
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def save(
    path: Path | str,
    nodes: Sequence[Any],
    inputs: dict[str, Sequence[int | str]],
    outputs: dict[str, Sequence[int | str]],
    initializers: Sequence[Any] = (),
    *,
    input_dtype: int = TensorProto.FLOAT,
    output_dtype: int = TensorProto.FLOAT,
    opset: int = OPSET,
) -> Path:
    """Write a graph as an ONNX file and return its path; a string among the sizes is a dynamic dimension."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(name, input_dtype, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, output_dtype, list(shape)) for name, shape in outputs.items()],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    Path(path).write_bytes(model.SerializeToString(deterministic=True))
    return Path(path)


def small_cnn_onnx(path: Path | str, dynamic: bool = True, *, seed: int = 0, batch: int = 1) -> Path:
    """Conv, BatchNorm, Relu, strided Conv, pooling, Gemm: `image` [N, 1, 8, 8] -> `logits` [N, 10]."""
    size: int | str = "N" if dynamic else batch
    weights = _weights(seed, w1=(8, 1, 3, 3), w2=(16, 8, 3, 3), b2=(16,), w3=(16, 10), b3=(10,), shift=(8,), mean=(8,))
    positive = [constant("scale", np.linspace(0.5, 1.5, 8)), constant("variance", np.linspace(0.8, 1.2, 8))]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"], name="bn1"),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="fc"),
    ]
    return save(path, nodes, {"image": (size, 1, 8, 8)}, {"logits": (size, 10)}, [*weights, *positive])


def mlp_onnx(
    path: Path | str, dynamic: bool = True, *, seed: int = 0, width: int = 64, features: int = 32, batch: int = 1
) -> Path:
    """Two Gemm layers with a Relu: `x` [N, features] -> `y` [N, 10]."""
    size: int | str = "N" if dynamic else batch
    weights = _weights(seed, w1=(features, width), b1=(width,), w2=(width, 10), b2=(10,))
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="fc1"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], name="fc2"),
    ]
    return save(path, nodes, {"x": (size, features)}, {"y": (size, 10)}, weights)


def matmul_transformer_onnx(
    path: Path | str, dynamic: bool = True, *, seed: int = 0, tokens: int = 8, width: int = 32, batch: int = 1
) -> Path:
    """One pre-norm block, single head, MatMul only: `tokens` [N, tokens, width] -> `features` [N, tokens, width]."""
    size: int | str = "N" if dynamic else batch
    square, wide = (width, width), (width, 4 * width)
    weights = _weights(seed, wq=square, wk=square, wv=square, wo=square, w1=wide, w2=(4 * width, width))
    extra = [constant("root", width**-0.5), constant("one", np.ones(width)), constant("zero", np.zeros(width))]

    def matmul(a: str, b: str, out: str, name: str) -> Any:
        return helper.make_node("MatMul", [a, b], [out], name=name)

    nodes = [
        helper.make_node("LayerNormalization", ["tokens", "one", "zero"], ["ln1"], name="ln1"),
        *(matmul("ln1", f"w{part}", part, f"proj_{part}") for part in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], name="transpose", perm=[0, 2, 1]),
        matmul("q", "kt", "scores", "scores"),
        helper.make_node("Mul", ["scores", "root"], ["scaled"], name="scale"),
        helper.make_node("Softmax", ["scaled"], ["attention"], name="softmax", axis=-1),
        matmul("attention", "v", "mixed", "mix"),
        matmul("mixed", "wo", "projected", "proj_o"),
        helper.make_node("Add", ["tokens", "projected"], ["res1"], name="add1"),
        helper.make_node("LayerNormalization", ["res1", "one", "zero"], ["ln2"], name="ln2"),
        matmul("ln2", "w1", "h", "ffn1"),
        helper.make_node("Relu", ["h"], ["hr"], name="relu"),
        matmul("hr", "w2", "ffn", "ffn2"),
        helper.make_node("Add", ["res1", "ffn"], ["features"], name="add2"),
    ]
    shape = (size, tokens, width)
    return save(path, nodes, {"tokens": shape}, {"features": shape}, [*weights, *extra])


def broken_nan_onnx(path: Path | str, dynamic: bool = True) -> Path:
    """Loads and runs, but every output is NaN: `x` [N, 32] -> `y` [N, 32]."""
    size: int | str = "N" if dynamic else 1
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], name="abs"),
        helper.make_node("Sub", ["a", "below"], ["b"], name="sub"),
        helper.make_node("Log", ["b"], ["y"], name="log"),
    ]
    return save(path, nodes, {"x": (size, 32)}, {"y": (size, 32)}, [constant("below", [1e6])])


def constant_onnx(path: Path | str, dynamic: bool = True) -> Path:
    """Gives the same ten numbers whatever goes in: `x` [N, 32] -> `y` [N, 10]."""
    size: int | str = "N" if dynamic else 1
    weights = [constant("w", np.zeros((32, 10))), constant("b", np.linspace(-1, 1, 10))]
    return save(
        path,
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")],
        {"x": (size, 32)},
        {"y": (size, 10)},
        weights,
    )


TORCH_SOURCE = """
import torch
from torch import nn


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)

    def forward(self, image):
        return self.fc(torch.relu(self.norm(self.conv(image))).mean((2, 3)))


class TwoInputs(nn.Module):
    def forward(self, left, right):
        return left * 2 + right


def bare():
    torch.manual_seed(0)
    return Cnn().eval()


def with_example():
    return bare(), torch.zeros(1, 1, 8, 8)


def fixed_batch():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(4, 6) * 2
    return Fixed(), torch.zeros(2, 3, 4)


def two_inputs():
    return TwoInputs(), {"left": torch.zeros(1, 4), "right": torch.zeros(1, 4)}


def number():
    return 3


def raises():
    raise RuntimeError("weights.pt is missing")


NOT_A_FUNCTION = 1
"""


def write_torch_file(path: Path | str) -> Path:
    """Write a user's Python file whose functions return torch networks (`bare`, `with_example`, `two_inputs`, ...)."""
    Path(path).write_text(TORCH_SOURCE)
    return Path(path)
