"""What each inference runtime reads, and what installs it; the runner has the engines themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Runtime:
    """An inference runtime.

    Attributes:
        name: Engine name.
        reads: Formats of the files that it runs; ``tensorrt`` builds its engine from ONNX on the device.
        requirement: What pip is asked for; empty: it comes with the device's system (JetPack).
        optimises: Whether `Settings.graph_optimisation` and `Settings.inter_op` mean something to it.
    """

    name: str
    reads: frozenset[str]
    requirement: str = ""
    optimises: bool = False


_ALL = (
    Runtime("onnxruntime", frozenset({"onnx"}), "onnxruntime", optimises=True),
    Runtime("litert", frozenset({"tflite"}), "ai-edge-litert"),
    # its C++ part is built for numpy 1: with numpy 2 it installs, imports, and fails at Interpreter()
    Runtime("tflite_runtime", frozenset({"tflite"}), "tflite-runtime"),
    Runtime("tensorrt", frozenset({"onnx"})),
    Runtime("openvino", frozenset({"onnx", "tflite"}), "openvino"),
    Runtime("executorch", frozenset({"pte"}), "executorch"),
    Runtime("ncnn", frozenset({"ncnn"}), "ncnn"),
    Runtime("mnn", frozenset({"mnn"}), "MNN"),
)
RUNTIMES = {runtime.name: runtime for runtime in _ALL}
"""All by name."""

_WITH = {"tflite_runtime": ("numpy<2",)}


def reads(runtime: str, file_format: str) -> bool:
    """Whether an engine runs files of a format; one that nobody knows here is given the benefit of the doubt."""
    known = RUNTIMES.get(runtime)
    return known is None or file_format in known.reads


def requirements(runtime: str) -> tuple[str, ...]:
    """What pip is asked for to provision a runtime; empty: pip cannot."""
    known = RUNTIMES.get(runtime)
    return (known.requirement, *_WITH.get(runtime, ())) if known and known.requirement else ()
