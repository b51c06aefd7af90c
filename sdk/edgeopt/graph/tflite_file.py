"""Reads what a TFLite file takes and gives, after the runner's engine loaded it (in a child process).

The file is the data contract: names, types and sizes are its own, channels last where it has them last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt.core.tensor import Signature, TensorSpec
from edgeopt.documents import plain
from edgeopt.errors import ModelError
from edgeopt.graph.session import open_session
from edgeopt_runner.engines._signature import Port
from edgeopt_runner.engines._tflite_file import signature

_FLEX = re.compile(r"Flex\w+")


def read_signature(path: str, source: str) -> dict[str, Any]:
    """Load the file and tell its signature.

    Args:
        path: TFLite file.
        source: What the user called it, for messages.

    Returns:
        `Signature` as plain data.

    Raises:
        ModelError: LiteRT does not take it (names operators of TensorFlow that it lacks), or is not installed, or an
            input or output holds no numbers.
    """
    try:
        open_session(Path(path))
    except ModelError as error:
        flex = sorted(set(_FLEX.findall(error.message)))
        if not flex and "Select TensorFlow op" not in error.message:
            raise
        raise ModelError(
            f"{source} needs operators of TensorFlow itself ({', '.join(flex) or 'Flex'}), which LiteRT does not have.",
            remedy="Convert it with built-in operators alone (TFLITE_BUILTINS), or give the Keras network to edgeopt.",
        ) from None
    from ai_edge_litert.interpreter import Interpreter

    interpreter, ports = Interpreter(model_path=path), signature(path)
    inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
    outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}
    found = Signature(
        inputs=tuple(_spec(port, inputs[port.tensor], source) for port in ports.inputs),
        outputs=tuple(_spec(port, outputs[port.tensor], source) for port in ports.outputs),
    )
    return dict(plain(found))


def _spec(port: Port, detail: Mapping[str, Any], source: str) -> TensorSpec:
    """A port as users see it: as in the file, or as the original had it where the file has a record of that."""
    import numpy as np

    kind = np.dtype(detail["dtype"])
    if kind.kind not in "fiub":
        raise ModelError(f"`{port.name}` of {source} holds {kind}; edgeopt works on numbers.")
    sizes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    shape = port.shape if port.shape is not None else tuple(int(size) for size in sizes)
    return TensorSpec(port.name, port.dtype or str(kind), tuple(size if size > 0 else None for size in shape))
