"""What competes on a network: other tools' files, float files of every runtime, edgeopt's choice; and their race."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import suite
import torch
from choosing import chosen
from machine import Machine
from timing import Entry, Figures, timed
from tools import FOLDER, TOOLS, make

import edgeopt
from edgeopt.core.model import Artifact

CALIBRATION = 64
"""The first samples calibrate, the others compare outputs."""

EDGEOPT, ORIGINAL = "edgeopt", "float in onnxruntime"
_CONVERTED = {"litert-float": "litert", "ncnn-float": "ncnn", "mnn-float": "mnn"}
"""Float forms in other runtimes' formats, made by these runtimes' own converters."""


@dataclass(frozen=True)
class Entered:
    """What competes on a network.

    Attributes:
        network: Its name.
        entries: By name.
        problems: Why others do not compete, by name.
        samples: File that all are run with.
    """

    network: str
    entries: dict[str, Entry]
    problems: dict[str, str]
    samples: Path


@dataclass(frozen=True)
class Result:
    """What was found of them.

    Attributes:
        entered: Who took part.
        figures: By name.
        problems: Why others have none, by name.
    """

    entered: Entered
    figures: dict[str, Figures]
    problems: dict[str, str]

    def best_peer(self, most_lost: float) -> str:
        """The fastest within the budget that is not edgeopt's; empty where none is."""
        within = [name for name, one in self.figures.items() if name != EDGEOPT and one.lost <= most_lost]
        return min(within, key=lambda name: self.figures[name].median_ms, default="")

    def usable(self, name: str, most_lost: float) -> bool:
        """Whether it ran and is within the budget."""
        return name in self.figures and self.figures[name].lost <= most_lost

    def ratio(self, other: str) -> float:
        """How many times as fast as another edgeopt's choice is; 0 where one of them did not run."""
        ran = EDGEOPT in self.figures and other in self.figures
        return self.figures[EDGEOPT].faster_than(self.figures[other]) if ran else 0.0


def raced(entered: Entered, rounds: int) -> Result:
    """Time all of them in turn."""
    folder = FOLDER / "outputs" / entered.network
    figures, problems = timed(entered.entries, ORIGINAL, entered.samples, rounds, folder)
    return Result(entered, figures, {**entered.problems, **problems})


def entered(name: str, here: Machine, workspace: edgeopt.Workspace, folder: Path, *, effort: str) -> Entered:
    """Make everything that is to compete; what was made already is taken as it is.

    Args:
        name: Of the network.
        here: This machine.
        workspace: edgeopt's.
        folder: Where benchmarks/runtimes keeps its choices.
        effort: Of edgeopt's finals.
    """
    place = FOLDER / "made" / name
    source, calibration, samples = _source(name, folder, place)
    entries, problems = {}, {}
    for runtime in ("onnxruntime", "openvino"):
        if python := _python(here, runtime):
            entries[f"float in {runtime}"] = Entry(runtime, python, source)
    for tool in TOOLS:
        made = make(tool, source, calibration, place) if _python(here, tool.runtime) else None
        if made and made.file:
            entries[tool.name] = Entry(tool.runtime, _python(here, tool.runtime), Path(made.file), made.seconds)
        else:
            problems[tool.name] = made.problem if made else f"{tool.runtime} is not here"
    choice = chosen(name, here, workspace, folder, effort=effort)
    for form, runtime in _CONVERTED.items():
        if form in choice.variants and (python := _python(here, runtime)):
            file = _copied(workspace, choice.variants[form], place / form)
            entries[f"float in {runtime}"] = Entry(runtime, python, file)
    pick = choice.picks[0]
    file = _copied(workspace, pick.artifact, place / "edgeopt")
    runtime = pick.settings.runtime
    entries[EDGEOPT] = Entry(runtime, _python(here, runtime), file, choice.seconds, what=str(pick))
    return Entered(name, entries, problems, samples)


def _source(name: str, folder: Path, place: Path) -> tuple[Path, Path, Path]:
    """The float ONNX file with fixed sizes, samples to calibrate on, and the samples that all are run with."""
    source, calibration, samples = place / "float.onnx", place / "calibration.npz", place / "samples.npz"
    place.mkdir(parents=True, exist_ok=True)
    with np.load(suite.samples_of(name, folder / "samples")) as file:
        arrays = {key: file[key] for key in file.files}
    (key,) = arrays
    np.savez(calibration, **{key: arrays[key][:CALIBRATION]})
    np.savez(samples, **{f"input:{key}": arrays[key][CALIBRATION:, None]})
    if not source.exists():
        network, _ = getattr(suite, name)()
        example = (torch.from_numpy(arrays[key][:1]),)
        partial = source.with_suffix(".part")
        torch.onnx.export(
            *(network, example, str(partial)),
            input_names=[key],
            opset_version=20,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        partial.replace(source)
    return source, calibration, samples


def _copied(workspace: edgeopt.Workspace, artifact: Artifact, folder: Path) -> Path:
    """An artifact under a name that says its format, which some runtimes want."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(workspace.artifacts.path(artifact), folder / f"model.{artifact.format}"))


def _python(here: Machine, runtime: str) -> str:
    """The interpreter that has a runtime; empty where none has."""
    facts = here.facts.runtime(runtime)
    return facts.interpreter if facts else ""
