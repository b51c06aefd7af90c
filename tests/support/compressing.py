"""Networks, sample files and contexts for the tests of passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeopt.passes.make import MakeContext
from edgeopt_runner.protocol.samples import write_samples
from support.networks import constant, save


def sample_file(path: Path, network: Path, count: int = 32, *, seed: int = 0, scale: float = 1.0) -> Path:
    """`count` normal inputs with the network's own outputs as references and their arg-max as labels."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    value = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    feeds = (np.random.default_rng(seed).standard_normal((count, *shape)) * scale).astype(np.float32)
    outputs = [session.run(None, {value.name: feed})[0] for feed in feeds]
    labels = np.array([output.reshape(-1).argmax() for output in outputs])
    name = session.get_outputs()[0].name
    write_samples(str(path), {f"input:{value.name}": feeds, f"reference:{name}": np.array(outputs), "labels": labels})
    return path


def make_context(folder: Path, network: Path, **changes: Any) -> MakeContext:
    """A context for an AVX2 machine whose golden and calibration samples are the same 32."""
    samples = sample_file(folder / "samples.npz", network)
    fields: dict[str, Any] = {"isa": ("avx2",), "calibration": samples} | changes
    return MakeContext(golden=samples, cache=folder / "cache", **fields)


def fragile_onnx(path: Path, outlier: float) -> Path:
    """Six Gemm layers; `fc3` works on numbers of which one, unused, is `outlier` times larger: 8 bits lose the rest."""
    rng = np.random.default_rng(7)
    weights, nodes, current = [], [], "x"
    width = 32
    for index in range(1, 7):
        size = 10 if index == 6 else width
        matrix = rng.standard_normal((width, size)) * (2.0 / width) ** 0.5
        if index == 2:
            matrix[:, 0] = np.abs(matrix[:, 0]) * outlier
        if index == 3:
            matrix[0, :] = 0.0
        weights += [constant(f"w{index}", matrix), constant(f"b{index}", np.full(size, 0.05))]
        nodes.append(
            onnx.helper.make_node("Gemm", [current, f"w{index}", f"b{index}"], [f"h{index}"], name=f"fc{index}")
        )
        current = f"h{index}"
        if index < 6:
            nodes.append(onnx.helper.make_node("Relu", [current], [f"r{index}"], name=f"relu{index}"))
            current = f"r{index}"
    return save(path, nodes, {"x": ("N", width)}, {current: ("N", 10)}, weights)
