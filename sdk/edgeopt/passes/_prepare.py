"""The form of a network that quantisation starts from: batch norms folded, shapes inferred, every node named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edgeopt.passes._base import PassContext
from edgeopt.passes._files import file_digest


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
        # element types are all that is needed, and symbolic inference gives up on some graphs with dynamic sizes
        quant_pre_process(str(source), str(partial), skip_symbolic_shape=True)
        _name_nodes(partial)
        partial.replace(prepared)
    return prepared


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
