"""What edgeopt chooses for a network among all runtimes of this machine, and among each of them alone.

Nothing is made or measured twice: a runtime alone competes with the variants that were made for all, and the ledger
answers for what ran already. Choices are kept in a file for each network, so that a run that was cut off goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import suite
from machine import Machine

import edgeopt
from edgeopt import documents
from edgeopt.core.model import Artifact
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import BASELINE
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment
from edgeopt.workflow.listener import Silence

ALL = "all"


@dataclass(frozen=True)
class Pick:
    """A choice.

    Attributes:
        among: `ALL`, or the one runtime that was allowed.
        variant: Name of the variant.
        settings: How it runs.
        artifact: Its file.
        lost: Loss of fidelity on the device: 1 - mean cosine to the original's outputs.
        why: The choice's own words.
    """

    among: str
    variant: str
    settings: Settings
    artifact: Artifact
    lost: float
    why: str

    @property
    def key(self) -> str:
        """The same for the same file with the same settings."""
        return f"{self.artifact.digest[:24]} {self.settings}"

    def __str__(self) -> str:
        return f"{self.variant} in {self.settings.runtime}"


@dataclass(frozen=True)
class Chosen:
    """What was chosen for a network.

    Attributes:
        network: Its name.
        golden: The sample file with which every file was checked.
        picks: Of all runtimes first, then of each that had something within the budget.
        notes: What could not take part, with the reason.
        candidates: One line for each that was measured, best first.
        variants: Every form that was made, by name.
        seconds: Wall time of making, measuring and choosing among all runtimes.
    """

    network: str
    golden: Artifact
    picks: tuple[Pick, ...]
    notes: tuple[str, ...]
    candidates: tuple[str, ...]
    variants: dict[str, Artifact]
    seconds: float


class Told(Silence):
    """Says on one line each what a run does."""

    def advance(self, text: str) -> None:
        """Print a step."""
        print(f"    {text}", flush=True)


def room_of(name: str, folder: Path) -> Path:
    """Where all is kept that is known of a network."""
    return folder / "networks" / name


def workspace_of(name: str, folder: Path) -> edgeopt.Workspace:
    """Its files and its ledger, whatever ledger the user has."""
    root = room_of(name, folder) / "edgeopt"
    return edgeopt.Workspace.open(root, f"sqlite:///{root.absolute() / 'ledger.sqlite'}")


def chosen(name: str, machine: Machine, workspace: edgeopt.Workspace, folder: Path, *, effort: str) -> Chosen:
    """The choices for a network, from the file that keeps them, or made now."""
    kept = room_of(name, folder) / "choices.json"
    if kept.exists():
        return documents.decode_json(Chosen, kept.read_text(), where=str(kept))
    request = edgeopt.Request(
        model=suite.model_of(name),
        data=edgeopt.DataRequest(
            source=str(suite.samples_of(name, folder / "samples")), calibration_samples=64, evaluation_samples=64
        ),
        recipes=machine.recipes,
        threads=(1,),
        effort=effort,
        activate=False,
    )
    found = _choose(name, request, machine, workspace)
    documents.write_atomically(kept, documents.encode_json(found).encode())
    return found


def _choose(name: str, request: edgeopt.Request, machine: Machine, workspace: edgeopt.Workspace) -> Chosen:
    """Choose among all runtimes, then among each alone with the same variants."""
    told = Told()
    print(f"  {name}, all runtimes", flush=True)
    record = edgeopt.deploy(request, workspace, listener=told)
    made = tuple(one.name for one in record.variants if one.name != BASELINE.name)
    picks, notes = [], [f"{one.name}: {one.reason}" for one in record.rejections]
    picks.append(_pick(ALL, record))
    for runtime in machine.runtimes:
        print(f"  {name}, {runtime} alone", flush=True)
        alone = dataclasses.replace(request, recipes=made or ("none",), runtimes=(runtime,))
        try:
            picks.append(_pick(runtime, edgeopt.deploy(alone, workspace, listener=told)))
        except edgeopt.EdgeoptError as error:
            notes.append(f"{runtime}: {error}")
    assert record.selection is not None
    assert record.golden is not None
    lines = tuple(_line(one) for one in record.selection.assessments)
    return Chosen(
        network=name,
        golden=record.golden,
        picks=tuple(one for one in picks if one),
        notes=tuple(notes),
        candidates=lines,
        variants={one.name: one.artifact for one in record.variants},
        seconds=record.finished_at - record.started_at,
    )


def _pick(among: str, record: RunRecord) -> Pick | None:
    """The winner, or the original's fastest where nothing holds the budget; ``None`` where nothing ran at all."""
    selection = record.selection
    if selection is None or selection.winner is None:
        return None
    found = selection.assessment(selection.winner)
    variant, settings = found.candidate.variant, found.candidate.settings
    return Pick(among, variant.name, settings, variant.artifact, _lost(found), found.reason)


def _lost(found: Assessment) -> float:
    return found.drop.value if found.drop else float("nan")


def _line(found: Assessment) -> str:
    taken = f"{found.latency_ns.value / 1e6:9.3f} ms" if found.latency_ns else " " * 12
    lost = f"{_lost(found):8.5f}" if found.drop else " " * 8
    return f"{taken} {lost} {found.verdict:10} {found.candidate.key}: {found.reason}"
