"""`edgeopt passes`: what can be done to a network."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgeopt.cli import options, output


def passes(as_json: options.Json = False) -> None:
    """List the passes, each with its options and what it does."""
    from edgeopt.passes.registry import pass_class, pass_names

    found = [_described(name, pass_class(name)) for name in pass_names()]
    if as_json:
        output.print_json({"passes": found})
        return
    console = output.console()
    for entry in found:
        console.print(f"{entry['name']}: {entry['summary']}", markup=False, soft_wrap=True)
        for name, default in entry["options"].items():
            console.print(f"    {name} = {default!r}", markup=False, soft_wrap=True)


def _described(name: str, kind: Any) -> dict[str, Any]:
    fields = dataclasses.fields(kind.options_class)
    summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    defaults = kind.options_class()
    return {
        "name": name,
        "summary": summary,
        "options": {field.name: getattr(defaults, field.name) for field in fields},
    }
