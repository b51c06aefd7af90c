"""What the compression recipes are worth on trained networks, measured on this machine through the runner.

python benchmarks/compression/run.py [--networks residual ...] [--peers] [--markdown FILE]

Each network is compressed by shipped recipes, training samples included and seeds fixed, and by other tools alone with
--peers. All forms, the original too, are launched in turn on one thread; top-1 is of held-out digits on the device.
Recipes run without a budget: what loses much stays in the table, and no layer goes back to float. What was made and
measured is kept in `weights`, so that a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import forms
import measuring
import networks
import peers

import edgeopt

HERE = Path(__file__).parent
SOURCE = HERE / "networks.py"
HEADINGS = ("network", "form", "by", "top-1 %", "change", "MACs", "fewer", "KB", "smaller", "faster", "against peers")


def main() -> None:
    """Make, measure, and print one table and the targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(forms.RECIPES), choices=list(forms.RECIPES))
    parser.add_argument("--forms", nargs="+", help="of the recipes only these")
    parser.add_argument("--peers", action="store_true", help="with other tools' results")
    parser.add_argument("--rounds", type=int, default=5, help="launches of each form")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    os.environ.setdefault("EDGEOPT_HOME", str(HERE / "weights" / "edgeopt"))
    rows: list[forms.Row] = []
    notes: list[str] = []
    with edgeopt.Workspace.open() as workspace:
        for name in arguments.networks:
            recipes = [one for one in forms.RECIPES[name] if one in (arguments.forms or forms.RECIPES[name])]
            files, left_out = made(name, recipes, workspace, with_peers=arguments.peers)
            notes += left_out
            rows += measuring.measured(name, files, f"{SOURCE}:held_out", workspace, arguments.rounds)
    text = "\n".join(report(rows, notes))
    print(f"\n{text}")
    if arguments.markdown:
        arguments.markdown.write_text(f"{text}\n")


def made(
    name: str, recipes: list[str], workspace: edgeopt.Workspace, *, with_peers: bool
) -> tuple[dict[str, tuple[Path, str]], list[str]]:
    """The forms of a network with who made them, and what could not be made."""
    folder = HERE / "weights" / "forms" / name
    request = edgeopt.Request(
        model=f"{SOURCE}:{name}",
        data=edgeopt.DataRequest(source=f"{SOURCE}:held_out", training=f"{SOURCE}:train"),
        recipes=tuple(recipes),
        budget=edgeopt.Budget(max_drop=None),
        threads=(1,),
    )
    print(f"{name}: {', '.join(recipes)}", flush=True)
    found = edgeopt.optimize(folder, request, workspace)
    files = {one.name: (folder / f"{one.name}.{one.artifact.format}", "edgeopt") for one in found.variants}
    notes = [f"{name}, {one.name}: not made: {one.reason}" for one in found.rejections]
    for peer in peers.PEERS if with_peers else ():
        path, reason = peers.make(peer, getattr(networks, name)()[0], HERE / "weights" / "peers" / name)
        if path is None:
            notes.append(f"{name}, {peer}: not made: {reason}")
        else:
            files[peer] = (path, peers.MAKERS[peer])
    return files, notes


def report(rows: list[forms.Row], notes: list[str]) -> Iterator[str]:
    """Lines of Markdown: the table, the targets, what is missing."""
    known = {(row.network, row.form): row for row in rows}
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + " --- |" * len(HEADINGS)
    for row in rows:
        verdict = forms.against(row, known) if row.form in forms.RIVALS else ""
        cells = (
            *(row.network, row.form, row.maker, f"{row.top1:.2f}", f"{-row.lost:+.2f}", f"{row.macs / 1e6:.2f} M"),
            *(f"{row.fewer:.2f}x", f"{row.size_bytes / 1e3:.0f}", f"{row.smaller:.1f}x", f"{row.faster:.2f}x"),
        )
        yield f"| {' | '.join((*cells, verdict))} |"
    yield ""
    for target in forms.TARGETS:
        verdict = forms.judged(target, rows)
        if verdict:
            yield f"* {target.text}: **{verdict}**"
    yield from (f"* {note}" for note in notes)


if __name__ == "__main__":
    main()
