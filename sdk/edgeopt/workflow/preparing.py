"""Brings a network and its samples in: its file, calibration, evaluation and golden samples, all in the store."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt.core.formats import ONNX
from edgeopt.core.model import Artifact, Model
from edgeopt.core.run import DataSummary
from edgeopt.errors import ChildError, ModelError
from edgeopt.graph import source
from edgeopt.graph.data import load_samples
from edgeopt.graph.evaluate import BUILT_IN
from edgeopt.graph.inspect import Inspection, inspect_onnx
from edgeopt.graph.source_kind import TORCH, kind_of
from edgeopt.graph.training_data import check_loss, load_training
from edgeopt.workflow.listener import Listener
from edgeopt.workflow.request import Request
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets._base import ModelFacts


@dataclass(frozen=True)
class Prepared:
    """A network with everything that is needed to make and judge its variants.

    Attributes:
        model: The source network.
        inspection: Its operators and sizes.
        summary: Where the samples came from.
        baseline: The source model's metric on the evaluation samples, computed here.
        calibration, evaluation, golden: Sample files in the store.
        training: Sample file to train on, in the store; ``None`` where the user gave none.
    """

    model: Model
    inspection: Inspection
    summary: DataSummary
    baseline: float
    calibration: Artifact
    evaluation: Artifact
    golden: Artifact
    training: Artifact | None = None

    @property
    def device_metric(self) -> str:
        """What the runner computes: a built-in metric, or the outputs for a user's function on the host."""
        return self.summary.metric if self.summary.metric in BUILT_IN else "outputs"


def prepare(request: Request, workspace: Workspace, listener: Listener) -> Prepared:
    """Load or export the network, read and split the samples, compute reference outputs.

    Raises:
        ModelError: The network cannot be read or exported.
        DataError: The samples do not fit it.
    """
    with tempfile.TemporaryDirectory(prefix="edgeopt-prepare-") as name:
        folder = Path(name)
        listener.stage("Reading the network", 0)
        loaded = source.load_model(
            request.model,
            folder=folder,
            input_shapes=request.input_shapes,
            on_progress=lambda text, _: listener.detail(text),
        )
        listener.advance(loaded.model.name)
        listener.stage("Reading samples", 0)
        samples = load_samples(
            request.data.source,
            loaded.path,
            loaded.model.signature,
            options=request.data.sample_options(request.seed),
            folder=folder,
        )
        inspection = inspect_model(loaded)
        store = workspace.artifacts
        prepared = Prepared(
            model=loaded.model,
            inspection=inspection,
            summary=samples.summary,
            baseline=samples.baseline,
            calibration=store.add(samples.calibration, "npz"),
            evaluation=store.add(samples.evaluation, "npz"),
            golden=store.add(samples.golden, "npz"),
        )
        store.add(loaded.path, loaded.model.artifact.format)
        if request.data.training:
            prepared = _with_training(prepared, request, workspace, listener, folder)
    if samples.summary.generated:
        listener.note("Without --data the inputs are random numbers: accuracy stays unknown.")
    for note in (*loaded.model.notes, *samples.notes):
        listener.note(note)
    return prepared


def inspect_model(loaded: source.LoadedModel) -> Inspection:
    """What is in the file; of one that is not ONNX its signature alone."""
    if loaded.model.artifact.format == ONNX:
        return inspect_onnx(loaded.path)
    return Inspection(loaded.model.signature, opset=0, ir_version=0, operators={}, parameters=0, weight_bytes=0)


def _with_training(
    prepared: Prepared, request: Request, workspace: Workspace, listener: Listener, folder: Path
) -> Prepared:
    """The same with training samples; what is trained depends on them and on the loss."""
    data, source = request.data, str(request.data.training)
    loss = check_loss(data.loss) if data.loss else ""
    listener.stage("Reading training samples", 0)
    training = load_training(
        source,
        prepared.model.signature,
        options=data.sample_options(request.seed),
        samples=data.training_samples,
        evaluation=workspace.artifacts.path(prepared.evaluation),
        folder=folder,
    )
    for note in training.notes:
        listener.note(note)
    digest = hashlib.sha256((training.digest + loss).encode()).hexdigest()
    summary = replace(
        prepared.summary, training_source=source, training_digest=digest, training_samples=training.samples
    )
    return replace(prepared, summary=summary, training=workspace.artifacts.add(training.path, "npz"))


def model_facts(prepared: Prepared, *, calibrated: bool = True) -> ModelFacts:
    """What a target's rules judge of the network."""
    found, artifact = prepared.inspection, prepared.model.artifact
    return ModelFacts(found.opset, found.ir_version, found.operators, calibrated, artifact.size_bytes, artifact.format)


def trainable_form(request: Request, prepared: Prepared, workspace: Workspace, listener: Listener) -> Path | None:
    """The user's torch network with nothing folded, which training needs; ``None`` where the source is all there is."""
    if kind_of(request.model) != TORCH:
        return None
    path = workspace.cache_folder("trainable") / f"{prepared.model.artifact.digest}.onnx"
    if not path.exists():
        try:
            source.export_trainable(request.model, path, input_shapes=request.input_shapes)
        except (ModelError, ChildError) as error:
            listener.note(f"Training starts from the folded network: {error.message}")
            return None
    return path


def look_at(model: str, input_shapes: dict[str, tuple[int, ...]]) -> Model:
    """Load a network only to see what it is.

    Raises:
        ModelError: It cannot be read or exported.
    """
    folder = Path(tempfile.mkdtemp(prefix="edgeopt-look-"))
    try:
        return source.load_model(model, folder=folder, input_shapes=input_shapes).model
    finally:
        shutil.rmtree(folder, ignore_errors=True)
