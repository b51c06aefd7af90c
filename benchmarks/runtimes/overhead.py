"""What the runner costs in every engine: its worker's memory and time over a bare loop, and the size of its bundle."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import rounds
from choosing import Chosen, Pick, workspace_of
from machine import Machine
from rounds import Rounds

import edgeopt
from edgeopt.core.device import LOCAL
from edgeopt.core.formats import READERS
from edgeopt.remote.bundle import build_bundle
from edgeopt.remote.client import Connection, connect
from edgeopt.remote.loader import packed

MOST_MIB, MOST_KIB = 10.0, 150.0
ROUNDS, SECONDS = 3, 1.0
BARE = Path(__file__).with_name("bare.py")


def report(found: Sequence[Rounds], here: Machine, folder: Path) -> Iterator[str]:
    """Markdown: one row for each engine that has something to run, and the targets; `folder` keeps the networks."""
    yield "| engine | network | worker over a bare loop, MiB | time over it |"
    yield "| --- | --- | --- | --- |"
    extra: dict[str, float] = {}
    with connect(LOCAL) as connection, connection.lease("benchmark of overhead"):
        for runtime in here.runtimes:
            for chosen, pick in _subjects(runtime, found)[:1]:
                with workspace_of(chosen.network, folder) as workspace:
                    extra[runtime], ratio = _compared(connection, chosen, pick, here, workspace)
                yield f"| {runtime} | {chosen.network}, {pick.variant} | {extra[runtime]:+.1f} | {ratio - 1:+.1%} |"
    yield ""
    worst = max(extra, key=lambda name: extra[name], default="")
    if worst:
        verdict = "met" if extra[worst] <= MOST_MIB else "missed"
        yield f"* worker over a bare loop: {extra[worst]:.1f} MiB in {worst} (at most {MOST_MIB:g}): **{verdict}**"
    yield from _bundle()


def _subjects(runtime: str, found: Sequence[Rounds]) -> list[tuple[Chosen, Pick]]:
    """What an engine runs in these networks, in files that are its own first."""
    pairs = [(one.chosen, pick) for one in found if (pick := one.alone(runtime))]
    return sorted(pairs, key=lambda pair: READERS.get(pair[1].artifact.format, ("",))[0] != runtime)


def _compared(
    connection: Connection, chosen: Chosen, pick: Pick, here: Machine, workspace: edgeopt.Workspace
) -> tuple[float, float]:
    """Median over the rounds of the difference of peaks in MiB and of the ratio of medians."""
    golden = workspace.artifacts.path(chosen.golden)
    for artifact in (chosen.golden, pick.artifact):
        connection.push(workspace.artifacts.path(artifact), artifact.digest)
    differences, ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = shutil.copy(workspace.artifacts.path(pick.artifact), Path(folder, f"model.{pick.artifact.format}"))
        for _ in range(ROUNDS):
            bare_ns, bare_bytes = _bare(pick.settings.runtime, model, golden, here)
            own = rounds.launch(connection, pick, chosen.golden.digest)
            assert own.latency is not None
            assert own.memory is not None
            differences.append(((own.memory.peak_bytes or 0) - bare_bytes) / 2**20)
            ratios.append(own.latency.median_ns / bare_ns)
    return statistics.median(differences), statistics.median(ratios)


def _bare(runtime: str, model: Path, golden: Path, here: Machine) -> tuple[float, float]:
    facts = here.facts.runtime(runtime)
    assert facts is not None
    command = [facts.interpreter, str(BARE), runtime, str(model), str(golden), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the bare loop in {runtime} failed: {done.stderr.strip().splitlines()[-1:]}")
    median_ns, peak_bytes = json.loads(done.stdout.splitlines()[-1])
    return median_ns, peak_bytes


def _bundle() -> Iterator[str]:
    """Size of the bundle as it lies on a board, and as it is sent."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = build_bundle(Path(folder, "runner.pyz"))
        lies, sent = (
            bundle.path.stat().st_size / 1024,
            {name: len(data) / 1024 for name, data in packed(bundle).items()},
        )
    ways = ", ".join(f"{size:.0f} KiB by {name}" for name, size in sent.items())
    verdict = "met" if min(sent.values()) <= MOST_KIB else "missed"
    yield f"* the runner's bundle: {lies:.0f} KiB, sent as {ways} (at most {MOST_KIB:g} KiB): **{verdict}**"
