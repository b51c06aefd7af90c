"""`edgeopt passes`: what can be done to a network."""

from __future__ import annotations

from edgeopt.cli import options, output


def passes(as_json: options.Json = False) -> None:
    """List the passes, each with its options and one honest line on when it helps."""
    from edgeopt.passes.registry import describe_passes

    found = describe_passes()
    if as_json:
        output.print_json({"passes": found})
        return
    console = output.console()
    for entry in found:
        console.print(f"[bold]{entry['name']}[/]  {entry['summary']}", soft_wrap=False)
        for option in entry["options"]:
            console.print(f"    {option['name']} = {option['default']!r}", markup=False)
