"""Launches of all forms of a network in turn, through the runner; what was measured is kept by the files' digests."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

import counting
import forms

import edgeopt


def measured(
    network: str, files: Mapping[str, tuple[Path, str]], data: str, workspace: edgeopt.Workspace, rounds: int
) -> list[forms.Row]:
    """Measure forms and compare each with the original.

    Args:
        network: Its name.
        files: The file and who made it, by the form's name; ``original`` among them.
        data: Where held-out samples come from.
        workspace: Keeps what is measured.
        rounds: In each, every form has one launch, in an order that rotates.

    Returns:
        Rows in the order of the files, the original first; without those that did not run.
    """
    known = {name: _Known(path, workspace.cache_folder("benchmark")) for name, (path, _) in files.items()}
    names = list(files)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn >= len(known[name].medians):
                known[name].launch(data, workspace)
                print(f"  round {turn + 1} of {rounds}: {name} {known[name].told()}", flush=True)
    base = known["original"]
    return [_row(network, name, files[name][1], known[name], base) for name in names if known[name].medians[0]]


class _Known:
    """What is known of one file: `medians` of its launches in nanoseconds, 0 where one failed, and top-1."""

    def __init__(self, path: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.kept = path, folder / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:24]}.json"
        found = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        self.medians: list[int] = found.get("medians", [])
        self.top1: float = found.get("top1", 0.0)
        self.problem = ""

    def launch(self, data: str, workspace: edgeopt.Workspace) -> None:
        """Measure once more; the first launch runs the evaluation set too."""
        request = edgeopt.Request(model=str(self.path), data=edgeopt.DataRequest(source=data), threads=(1,))
        plan = edgeopt.plan_named("quick")
        found = edgeopt.measure(request, plan if not self.medians else plan.without_evaluation(), workspace)[0]
        if found.ok and found.latency is not None:
            self.medians.append(found.latency.median_ns)
            self.top1 = found.accuracy.value if found.accuracy else self.top1
        else:
            self.problem = f"{found.status} {found.detail}"
            self.medians.append(0)
        self.kept.write_text(json.dumps({"medians": self.medians, "top1": self.top1}))

    def told(self) -> str:
        """The last launch, for people."""
        return f"{self.medians[-1] / 1e6:.3f} ms" if self.medians[-1] else self.problem


def _row(network: str, name: str, maker: str, one: _Known, base: _Known) -> forms.Row:
    size, macs = one.path.stat().st_size, counting.macs(one.path)
    pairs = [(ours, theirs) for ours, theirs in zip(one.medians, base.medians, strict=False) if ours and theirs]
    return forms.Row(
        network=network,
        form=name,
        maker=maker,
        top1=100 * one.top1,
        lost=100 * (base.top1 - one.top1),
        macs=macs,
        fewer=counting.macs(base.path) / max(macs, 1),
        size_bytes=size,
        smaller=base.path.stat().st_size / size,
        faster=statistics.median(theirs / ours for ours, theirs in pairs) if pairs else 0.0,
    )
