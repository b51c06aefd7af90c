"""Cuts a network into stages, and measures them as a pipeline on a device beside sessions of the whole."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.child import run_child
from edgeopt.core.pipeline import PipelineFigures
from edgeopt.core.profile import Settings
from edgeopt.documents import decode
from edgeopt.errors import UsageError
from edgeopt.graph import source
from edgeopt.graph.source_kind import demand_graph
from edgeopt.remote import jobs
from edgeopt.remote.client import Connection, connect
from edgeopt.workflow.benching import thread_settings
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.preparing import Prepared, prepare
from edgeopt.workflow.request import Request
from edgeopt.workflow.resolving import profile_for, resolve_target
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets import registry

_DEADLINE_SECONDS = 900.0
LEAST_COSINE = 0.999
"""Of a pipeline's outputs to the references, less than which they are wrong."""


@dataclass(frozen=True)
class CutLine:
    """A tensor that a network can be cut at.

    Attributes:
        tensor: Its name.
        form: With element type and shape.
        size_bytes: Of one sample.
        mac_share: Share of the multiply-accumulates before it.
        weight_share: Share of the weights' bytes before it.
    """

    tensor: str
    form: str
    size_bytes: int
    mac_share: float
    weight_share: float


@dataclass(frozen=True)
class StageLine:
    """A stage that was written.

    Attributes:
        path: Its file.
        nodes, weight_bytes: What it holds.
        mac_share: Its share of the multiply-accumulates.
        inputs, outputs: Names of its tensors.
    """

    path: Path
    nodes: int
    weight_bytes: int
    mac_share: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """A network that was cut.

    Attributes:
        stages, cuts: Front to back.
        max_abs: Largest difference of the stages' outputs to the whole's, on random inputs.
    """

    stages: tuple[StageLine, ...]
    cuts: tuple[CutLine, ...]
    max_abs: float


def list_cuts(request: Request) -> tuple[CutLine, ...]:
    """Every valid cut of `request.model`, front to back.

    Raises:
        ModelError: The network cannot be read.
    """
    demand_graph(request.model, "splitting")
    with tempfile.TemporaryDirectory(prefix="edgeopt-split-") as folder:
        loaded = source.load_model(request.model, folder=Path(folder), input_shapes=request.input_shapes)
        found = run_child(
            "edgeopt.graph.stage_files:list_cuts",
            {"model": str(loaded.path)},
            deadline_seconds=_DEADLINE_SECONDS,
            what=f"looking for cuts in {request.model}",
        )
    return tuple(decode(CutLine, line, where="cuts") for line in found)


def split_model(request: Request, folder: Path, *, parts: int = 2, at: Sequence[str] = ()) -> Split:
    """Cut `request.model` into ``stage-1.onnx``, ``stage-2.onnx``, ... in `folder`.

    Args:
        request: The model and its input sizes.
        folder: Where the stages go.
        parts: Number of stages, as balanced as can be.
        at: Tensors to cut at instead.

    Raises:
        ModelError: The network cannot be read, or has no valid cut.
        UsageError: A tensor is no valid cut, or there are fewer cuts than asked.
        ParityError: The stages do not give what the whole gives.
    """
    demand_graph(request.model, "splitting")
    with tempfile.TemporaryDirectory(prefix="edgeopt-split-") as work:
        loaded = source.load_model(request.model, folder=Path(work), input_shapes=request.input_shapes)
        return split_file(loaded.path, request.model, folder, parts=parts, at=at)


def split_file(path: Path, name: str, folder: Path, *, parts: int, at: Sequence[str]) -> Split:
    """As `split_model`, of a checked file that messages call `name`."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {str(folder)!r} is a file.", remedy="Name a folder: --out stages.")
    with tempfile.TemporaryDirectory(prefix="edgeopt-stages-") as made:
        found = run_child(
            "edgeopt.graph.stage_files:split_file",
            {"model": str(path), "at": list(at), "parts": parts, "folder": made},
            deadline_seconds=_DEADLINE_SECONDS,
            what=f"splitting {name}",
        )
        split: Split = decode(Split, found, where="split")
        folder.mkdir(parents=True, exist_ok=True)
        for stage in split.stages:
            shutil.move(str(stage.path), folder / stage.path.name)
    moved = [dataclasses.replace(stage, path=folder / stage.path.name) for stage in split.stages]
    return dataclasses.replace(split, stages=tuple(moved))


@dataclass(frozen=True)
class Rounds:
    """How the three ways are measured: seconds of each round, and rounds of each."""

    seconds: float = 1.0
    count: int = 3

    def __post_init__(self) -> None:
        if not 0.1 <= self.seconds <= 600:
            raise UsageError(
                f"--seconds {self.seconds:g} is no length of a round.", remedy="Use 0.1 to 600; 1 is usual."
            )
        if not 1 <= self.count <= 100:
            raise UsageError(
                f"--rounds {self.count} measures nothing, or for ever.", remedy="Use 1 to 100; 3 is usual."
            )


def split_and_measure(
    request: Request,
    folder: Path,
    workspace: Workspace,
    *,
    parts: int = 2,
    at: Sequence[str] = (),
    rounds: Rounds = Rounds(),
    listener: Listener | None = None,
) -> tuple[Split, PipelineFigures]:
    """Cut a network as `split_model` does, and measure the pipeline on `request.target`, each stage in a process.

    Raises:
        EdgeoptError: As `split_model`; the samples or the device cannot be used, or the pipeline failed there.
    """
    demand_graph(request.model, "splitting")
    said = listener or Silence()
    aim = resolve_target(request.target, workspace.inventory, request.profile)
    with connect(aim.device) as connection:
        facts = connection.probe()
        profile = profile_for(aim, facts, request.target, said)
        prepared = prepare(request, workspace, said)
        said.stage("Splitting", 0)
        path = workspace.artifacts.path(prepared.model.artifact)
        split = split_file(path, request.model, folder, parts=parts, at=at)
        said.advance(f"{len(split.stages)} stages")
        offered = registry.target(profile.target).settings(profile, facts)
        settings = dataclasses.replace(thread_settings(offered, request.threads or (1,), facts)[0], sessions=1)
        job = _job(workspace, prepared, split, settings=settings, rounds=rounds)
        said.stage("Measuring", 0)
        with connection.lease(f"pipeline of {prepared.model.name}"):
            _push(connection, workspace, job)
            result = connection.run_job(job)
    jobs.require_ok(result, "the pipeline")
    return split, jobs.pipeline_of(result)


def _job(workspace: Workspace, prepared: Prepared, split: Split, *, settings: Settings, rounds: Rounds) -> jobs.Job:
    signature, store = prepared.model.signature, workspace.artifacts
    edges = run_child(
        "edgeopt.graph.stage_files:plan_edges",
        {
            "stage_paths": [str(stage.path) for stage in split.stages],
            "outputs": [spec.name for spec in signature.outputs],
            "samples": str(store.path(prepared.golden)),
        },
        deadline_seconds=_DEADLINE_SECONDS,
        what="running the stages",
    )
    files = [store.add(stage.path, "onnx") for stage in split.stages]
    return jobs.pipeline_job(
        artifact=prepared.model.artifact,
        stages=[jobs.StageFile(file, tuple(gives)) for file, gives in zip(files, edges["gives"], strict=True)],
        slot_bytes=edges["slot_bytes"],
        settings=settings,
        golden=prepared.golden.digest,
        inputs=[spec.name for spec in signature.inputs],
        min_cosine=LEAST_COSINE,
        seconds=rounds.seconds,
        rounds=rounds.count,
    )


def _push(connection: Connection, workspace: Workspace, job: jobs.Job) -> None:
    for digest in [job["artifact"]["sha256"], job["golden"], *(stage["sha256"] for stage in job["stages"])]:
        connection.push(workspace.artifacts.path(digest), digest)
