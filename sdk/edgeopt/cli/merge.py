"""`edgeopt merge`: one network of several, as a chain or on a trunk that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeopt.cli import options, output


def merge(
    models: Annotated[list[str], typer.Argument(help="Two models or more; those of a chain front to back.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="The file to make.")] = "merged.onnx",
    as_json: options.Json = False,
) -> None:
    """Make one network of several: outputs feed inputs, or what begins alike is stored and run once."""
    from edgeopt import documents
    from edgeopt.workflow.merging import merge_models

    destination = Path(out)
    output.require_writable(destination, "--out")
    made = merge_models(models, destination)
    if as_json:
        output.print_json({"file": str(destination), **documents.plain(made)})
        return
    from edgeopt.report import quantities as q
    from edgeopt.report.layout import facts

    console = output.console()
    shared = f"{made.shared_nodes} nodes and {q.size(made.shared_bytes)} of weights are there once"
    rows = [
        ("file", f"{output.display_path(destination)}, {q.size(made.size_bytes)}"),
        ("from", f"{len(models)} files, {q.size(made.source_bytes)}"),
        ("shared", shared if made.kind == "trunk" else "nothing: outputs feed inputs, a chain"),
        ("inputs", ", ".join(made.inputs)),
        ("outputs", ", ".join(made.outputs)),
        ("checked", f"outputs differ by {made.max_abs:.2g} at most"),
    ]
    facts(console, [*rows, *(("note", note) for note in made.notes)])
