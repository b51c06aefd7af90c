"""Networks of one layer, to measure what it takes at other widths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeopt_runner.protocol.samples import INPUT, REFERENCE, write_samples

_OPSET, _IR = 13, 7


@dataclass(frozen=True)
class LayerSpec:
    """A convolution or linear layer as it stands in a network.

    Attributes:
        kind: Which of the two.
        inputs, outputs: Channels.
        shape: Of its input at batch 1, the channels among it: [1, C, ...] or [1, ..., C].
        groups: Of a convolution; equal to `inputs` in a depthwise one.
        kernel, stride, padding, dilation: Of a convolution, one number a spatial dimension.
    """

    kind: Literal["conv", "linear"]
    inputs: int
    outputs: int
    shape: tuple[int, ...]
    groups: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()

    @property
    def depthwise(self) -> bool:
        """Whether input and output channels are the same ones."""
        return self.groups > 1 and self.groups == self.inputs == self.outputs

    @property
    def macs(self) -> int:
        """About how many multiply-accumulates it takes at full width."""
        places = math.prod(self.shape) // self.inputs
        if self.kind == "linear":
            return places * self.inputs * self.outputs
        return places // math.prod(self.stride) * self.inputs // self.groups * self.outputs * math.prod(self.kernel)


def write_layer(spec: LayerSpec, inputs: int, outputs: int, path: Path, samples: Path) -> None:
    """Write one layer at a width as an ONNX file, with random weights, and one sample with its output.

    Args:
        spec: The layer.
        inputs, outputs: Channels that it has here; of a depthwise layer the same.
        path: The ONNX file to make.
        samples: The sample file to make.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    if spec.kind == "linear":
        shape = (*spec.shape[:-1], inputs)
        weight = rng.standard_normal((inputs, outputs))
        node = helper.make_node("MatMul", ["x", "w"], ["y"], name="layer")
    else:
        groups = inputs if spec.depthwise else spec.groups
        shape = (spec.shape[0], inputs, *spec.shape[2:])
        weight = rng.standard_normal((outputs, inputs // groups, *spec.kernel))
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            name="layer",
            kernel_shape=spec.kernel,
            strides=spec.stride,
            pads=(*spec.padding, *spec.padding),
            dilations=spec.dilation,
            group=groups,
        )
    weight = (weight / max(1, weight[0].size) ** 0.5).astype(np.float32)
    _save(node, shape, [numpy_helper.from_array(weight, "w")], path)
    _write_sample(path, rng.standard_normal((1, *shape)).astype(np.float32), samples)


def write_identity(path: Path, samples: Path) -> None:
    """Write a network that does nothing: what a call takes however small the layer."""
    import numpy as np
    from onnx import helper

    _save(helper.make_node("Identity", ["x"], ["y"], name="layer"), (1, 8), [], path)
    _write_sample(path, np.ones((1, 1, 8), np.float32), samples)


def _save(node: Any, shape: tuple[int, ...], weights: list[Any], path: Path) -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    dimensions = [f"d{index}" for index in range(len(shape))]  # the runtime works them out
    graph = helper.make_graph(
        [node], "layer", [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, dimensions)], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _write_sample(path: Path, feeds: Any, samples: Path) -> None:
    from edgeopt.graph.session import open_session, run_feed

    output = run_feed(open_session(path), {"x": feeds[0]})["y"]
    write_samples(str(samples), {f"{INPUT}x": feeds, f"{REFERENCE}y": output[None]})
