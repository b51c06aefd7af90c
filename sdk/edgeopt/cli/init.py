"""`edgeopt init`: looks at a model and writes `edgeopt.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeopt.cli import options, output

_TEMPLATE = """\
# What `edgeopt deploy` does in this folder. The keys are its options; options on the command line win.
# {signature}
model: {model}
target: {target}          # a device of `edgeopt device list`, a profile, user@host, or local
{data}
max-drop: 1%             # largest loss of the metric, judged at the pessimistic end of its interval
# max-latency: p90 20 ms
# max-memory: 200MB
# max-size: 5MB
minimise: latency        # latency, memory, size or time-per-item
app: {app}               # what programs on the device load it by
seed: 0
"""
_NO_DATA = """\
# data: samples.npz      # arrays by input name and labels, or file.py:function that yields (inputs, labels)
#                          Without data, accuracy stays unknown and INT8 with calibration is left out."""


def init(
    model: Annotated[
        str,
        typer.Argument(help="model.onnx, file.py:function, program.pt2, model.keras, a SavedModel or model.tflite."),
    ],
    target: options.Target = "local",
    data: options.Data = None,
    inputs: options.Inputs = None,
    as_json: options.Json = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an edgeopt.yaml that is there.")] = False,
) -> None:
    """Look at a model and write edgeopt.yaml, so that `edgeopt deploy` alone does the rest."""
    from edgeopt.cli.quantities import parse_shapes
    from edgeopt.cli.request_options import FILE_NAME
    from edgeopt.documents import write_atomically
    from edgeopt.errors import UsageError
    from edgeopt.workflow.preparing import look_at
    from edgeopt.workflow.request import app_name

    path = Path(FILE_NAME)
    if path.exists() and not force:
        raise UsageError(f"{FILE_NAME} is here already.", remedy="Edit it, or give --force to replace it.")
    found = look_at(model, parse_shapes(inputs or []))
    signature = "; ".join(str(spec) for spec in (*found.signature.inputs, *found.signature.outputs))
    text = _TEMPLATE.format(
        signature=f"{found.name}: {signature}",
        model=model,
        target=target or "local",
        data=f"data: {data}" if data else _NO_DATA,
        app=app_name(found.name),
    )
    write_atomically(path, text.encode())
    if as_json:
        output.print_json({"file": FILE_NAME, "model": found.name, "signature": signature})
        return
    output.console().print(f"{FILE_NAME} written for {found.name} ({signature}). Next: edgeopt deploy", soft_wrap=True)
