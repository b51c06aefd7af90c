"""What exits see of the training samples, their training, and the confidence at which a sample may leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgeopt.errors import DataError, PassError
from edgeopt.graph.session import open_session, run_feed
from edgeopt.passes.exits.places import Array, Flow, Place, pooling
from edgeopt.passes.graphs.prepare import opset_of
from edgeopt.training.engine import train
from edgeopt.training.losses import Loss, supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples
from edgeopt_runner.protocol.samples import Sample, SampleFile, write_samples


@dataclass(frozen=True)
class Seen:
    """What there is to see of a tensor, for all samples.

    Attributes:
        shape: Of the tensor, for one feed.
        channels_last: Whether it is tokens [B, L, D] rather than maps [B, C, ...].
        grid: Cells an axis that maps were averaged in.
        vectors: [N, features].
    """

    shape: tuple[int, ...]
    channels_last: bool
    grid: int
    vectors: Array


@dataclass(frozen=True)
class Watched:
    """All samples at all places.

    Attributes:
        seen: One a place.
        scores: The network's own output, [N, classes].
        labels: [N] class numbers, or ``None``.
    """

    seen: tuple[Seen, ...]
    scores: Array
    labels: Array | None


def watch(flow: Flow, places: Sequence[Place], samples: Path, *, limit: int, grid: int, work: Path) -> Watched:
    """Run samples through the network and keep what exits would see.

    Raises:
        PassError: A tensor has no form that a head can read, or labels are no class numbers.
    """
    file = SampleFile(str(samples))
    first = next(iter(file.read(1)), None)
    if first is None:
        raise PassError("there are no training samples.", remedy="The training function must yield at least one.")
    forms = _forms(flow, places, first, grid, work)
    session = open_session(_probe(flow, places, forms, work))
    rows: list[list[Array]] = [[] for _ in (*places, None)]
    labels: list[Array] = []
    for sample in file.read(limit):
        found = run_feed(session, sample.inputs)
        for kept, value in zip(rows, found.values(), strict=True):
            kept.append(value)
        if sample.label is not None:
            labels.append(np.atleast_1d(sample.label))
    joined = [np.concatenate(kept).astype(np.float32) for kept in rows]
    seen = (Seen(*form, vectors) for form, vectors in zip(forms, joined[1:], strict=True))
    return Watched(tuple(seen), joined[0], _classes(np.concatenate(labels), joined[0]) if labels else None)


def _classes(labels: Array, scores: Array) -> Array:
    flat = labels.reshape(-1)
    if labels.dtype.kind not in "iu" or len(flat) != len(scores) or flat.max(initial=0) >= scores.shape[1]:
        raise PassError(
            f"labels {labels.dtype}{list(labels.shape)} up to {flat.max(initial=0)} are no class numbers for the "
            f"{scores.shape[1]} classes of the output.",
            remedy="Exits need one class number a sample.",
        )
    return flat


def _forms(
    flow: Flow, places: Sequence[Place], sample: Sample, grid: int, work: Path
) -> list[tuple[tuple[int, ...], bool, int]]:
    """Shape, whether channels are last, and grid of each place."""
    shown = onnx.ModelProto()
    shown.CopyFrom(flow.model)
    known = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=p.tensor) for p in places if p.tensor not in known)
    onnx.save(shown, work / "shown.onnx")
    values = run_feed(open_session(work / "shown.onnx"), sample.inputs)
    rows = values[flow.model.graph.output[0].name].shape[0]
    found = []
    for place in places:
        value = values[place.tensor]
        if value.dtype != np.float32 or not 2 <= value.ndim <= 5 or value.shape[0] != rows:
            raise PassError(
                f"{place.node} makes {value.dtype}{list(value.shape)}, of which no exit can be made.",
                remedy="Name in `after` nodes that make float maps [B, C, H, W], tokens [B, L, D] or vectors [B, D].",
            )
        last = value.ndim == 3 and not _convolutional(flow, place)
        fixed = grid if value.ndim > 2 and not last and min(value.shape[2:]) >= grid else 1
        found.append((value.shape, last, fixed))
    return found


def _convolutional(flow: Flow, place: Place) -> bool:
    """Whether the last layer before a place is a convolution: then [B, C, L], else [B, L, D]."""
    kinds = [flow.nodes[index].op_type for index in sorted(flow.before([place.tensor]))]
    layers = [kind for kind in kinds if "Conv" in kind or kind in ("MatMul", "Gemm", "LSTM", "GRU")]
    return bool(layers) and "Conv" in layers[-1]


def _probe(flow: Flow, places: Sequence[Place], forms: Sequence[Any], work: Path) -> Path:
    """The network with its output and the pooled vectors of the places as outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(flow.model)
    for index, (place, (shape, last, grid)) in enumerate(zip(places, forms, strict=True)):
        nodes, held = pooling(f"probe_{index}", place.tensor, shape, last, grid, opset_of(model))
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(held)
        model.graph.output.append(onnx.ValueInfoProto(name=f"probe_{index}/vector"))
    onnx.save(model, work / "probe.onnx")
    return work / "probe.onnx"


class _Classifier(nn.Module):  # type: ignore[misc]
    """Scores of a vector; takes, besides, what the network says of the sample, for the loss to read."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, vector: Tensor, opinion: Tensor) -> Tensor:  # noqa: ARG002
        scores: Tensor = self.linear(vector)
        return scores


def _agree(network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:  # noqa: ARG001
    """Cross-entropy to the network's own opinion (Hinton et al., 2015, eq. 2, T = 1)."""
    return nn.functional.cross_entropy(network(*inputs), inputs[1])


@dataclass(frozen=True)
class Fitted:
    """A linear classifier on the vectors of a place.

    Attributes:
        weight: [classes, features].
        bias: [classes].
        notes: What the training had to say.
    """

    weight: Array
    bias: Array
    notes: tuple[str, ...] = ()

    def scores(self, vectors: Array) -> Array:
        """[N, classes]."""
        made: Array = vectors @ self.weight.T + self.bias
        return made


def fit(
    watched: Watched, seen: Seen, learn: Array, options: TrainingOptions, user_loss: str, seed: int, work: Path
) -> Fitted:
    """Train a head on some samples, on labels where there are any, else on what the network says.

    Raises:
        PassError: See `training.engine.train`.
    """
    vectors, scores = seen.vectors[learn], watched.scores[learn]
    mean, spread = vectors.mean(0), vectors.std(0) + 1e-3 * (vectors.std() + 1e-12)
    arrays = {"input:vector": ((vectors - mean) / spread)[:, None], "input:opinion": shares(scores)[:, None]}
    loss: Loss = _agree
    if watched.labels is not None:
        arrays["labels"] = watched.labels[learn].astype(np.int64)[:, None]
        loss = supervised(user_loss)
    write_samples(str(work / "vectors.npz"), arrays)
    head = _Classifier(vectors.shape[1], scores.shape[1])
    try:
        report = train(head, Samples(work / "vectors.npz", ("vector", "opinion")), loss, options, seed=seed)
    except DataError as error:
        raise PassError(error.message, remedy=error.remedy) from None
    weight = head.linear.weight.detach().numpy().astype(np.float64) / spread
    bias = head.linear.bias.detach().numpy() - weight @ mean
    if scores.min() < 0 or scores.max() > 1:  # soft-max does not see a shift, who compares scores does
        bias = bias + scores.mean() - (vectors @ weight.T + bias).mean()
    return Fitted(weight.astype(np.float32), bias.astype(np.float32), report.notes)


def shares(scores: Array) -> Array:
    """Soft-max, or the scores themselves where they are shares already; [N, classes]."""
    if scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    made: Array = torch.softmax(torch.from_numpy(scores), 1).numpy()
    return made


def confidence(scores: Array, kind: str) -> Array:
    """How sure a head is, [N]: the largest share, or minus the entropy in nats."""
    logs = torch.log_softmax(torch.from_numpy(scores), 1)
    found = (logs.exp() * logs).sum(1) if kind == "entropy" else logs.exp().amax(1)
    made: Array = found.numpy()
    return made


def threshold(sure: Array, right: Array, reference: Array, allowed: float) -> float | None:
    """The confidence above which most samples leave while no more than `allowed` answers are lost.

    Lost are the answers that became wrong less those that became right, and one standard error of that, so that other
    samples keep the budget too.

    Args:
        sure: Confidence of the samples that are still there, [N].
        right: Whether the head is right, [N].
        reference: Whether the rest of the network would be, [N].
        allowed: Right answers that may be lost, net.

    Returns:
        Half-way between two samples; ``None`` where none may leave.
    """
    order = np.argsort(-sure, kind="stable")
    change = reference[order].astype(int) - right[order].astype(int)
    lost = np.cumsum(change) + np.sqrt(np.cumsum(np.abs(change)))
    ends = np.append(sure[order][1:] < sure[order][:-1], True)  # equal ones leave together
    counts = np.flatnonzero((lost <= allowed) & ends) + 1
    if not len(counts):
        return None
    count = int(counts[-1])
    least = float(sure[order][count - 1])
    return (least + float(sure[order][count])) / 2 if count < len(sure) else least - 1e-3 * abs(least)
