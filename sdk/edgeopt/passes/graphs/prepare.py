"""The form of a network that quantisation starts from: opset 13 at least, batch norms folded, every node named."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeopt.passes._base import PassContext
from edgeopt.passes._files import file_digest

QDQ_OPSET = 13
"""The first in which DequantizeLinear takes a scale for each channel."""


def prepare(source: Path, context: PassContext) -> Path:
    """Prepare a network with ONNX Runtime's `quant_pre_process`; same input, same names.

    Args:
        source: ONNX file.
        context: Gives the folder for the result: the cache where there is one, so that many variants share it.

    Returns:
        The prepared file, which must not be changed.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder = context.cache or context.work
    prepared = folder / f"prepared-{file_digest(source)}.onnx"
    if not prepared.exists():
        partial = folder / f"prepared-{os.getpid()}.part.onnx"
        upgraded = _upgraded(source, context.work)
        # element types are all that is needed, and symbolic inference gives up on some graphs with dynamic sizes
        quant_pre_process(str(upgraded), str(partial), skip_symbolic_shape=True)
        _name_nodes(partial)
        partial.replace(prepared)
    return prepared


def opset_of(model: Any) -> int:
    """Version of ONNX's own operators that a model uses; 1 where it does not say."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _upgraded(source: Path, work: Path) -> Path:
    """The network in `QDQ_OPSET` where it is older and can be converted, else the network as it is."""
    import onnx
    from onnx import version_converter

    if opset_of(onnx.load(source, load_external_data=False)) >= QDQ_OPSET:
        return source
    path = work / "upgraded.onnx"
    with contextlib.suppress(Exception):  # the converter raises whatever its adapters do not know
        onnx.save(version_converter.convert_version(onnx.load(source), QDQ_OPSET), path)
        return path
    return source


def _name_nodes(path: Path) -> None:
    """Give a name of its own to every node without one: exclusion from quantisation goes by name."""
    import onnx

    model = onnx.load(path)
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = next(name for name in _candidates(node.op_type, index) if name not in taken)
        taken.add(node.name)
    onnx.save(model, path)


def _candidates(operator: str, index: int) -> Iterator[str]:
    yield f"{operator}_{index}"
    yield from (f"{operator}_{index}_{count}" for count in range(1, 1 << 20))
