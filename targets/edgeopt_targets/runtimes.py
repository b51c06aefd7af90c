"""What installs each inference runtime; `core.formats` says what each reads, and the runner has the engines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Runtime:
    """An inference runtime.

    Attributes:
        name: Engine name.
        requirement: What pip is asked for; empty: it comes with the device's system (JetPack).
        optimises: Whether `Settings.graph_optimisation` and `Settings.inter_op` mean something to it.
    """

    name: str
    requirement: str = ""
    optimises: bool = False


_ALL = (
    Runtime("onnxruntime", "onnxruntime", optimises=True),
    Runtime("litert", "ai-edge-litert"),
    # its C++ part is built for numpy 1: with numpy 2 it installs, imports, and fails at Interpreter()
    Runtime("tflite_runtime", "tflite-runtime"),
    Runtime("tensorrt"),
    Runtime("openvino", "openvino"),
    # its C++ part is built for one release of torch, which its wheel does not name
    Runtime("executorch", "executorch==1.5.1"),
    Runtime("ncnn", "ncnn"),
    Runtime("mnn", "MNN"),
)
RUNTIMES = {runtime.name: runtime for runtime in _ALL}
"""All by name."""

_WITH = {
    "tflite_runtime": ("numpy<2",),
    "executorch": (
        # the index's own wheels of torch want CUDA's libraries on ARM too; nothing of them is used
        "torch==2.13.0+cpu",
        "torchao==0.18.0",
        *("filelock", "flatbuffers", "fsspec", "jinja2", "networkx", "numpy", "ruamel.yaml", "setuptools", "sympy"),
        *("tabulate", "tqdm", "typing_extensions"),
    ),
}
ALONE = ("ncnn", "tflite-runtime", "executorch==1.5.1", "torch==2.13.0+cpu", "torchao==0.18.0")
"""Requirements that are taken without what they name: none of it is imported, or it is in the list too (ncnn: OpenCV,
for its collection of models; ExecuTorch: pandas, scikit-learn, coremltools and more, for its exporters)."""


def requirements(runtime: str) -> tuple[str, ...]:
    """What pip is asked for to provision a runtime; empty: pip cannot."""
    known = RUNTIMES.get(runtime)
    return (known.requirement, *_WITH.get(runtime, ())) if known and known.requirement else ()
