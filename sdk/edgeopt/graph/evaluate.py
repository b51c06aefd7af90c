"""The metric of a network over a sample file, on the host, by the same definitions as on the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.child import run_child
from edgeopt.errors import DataError
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.user_code import load_function, user_problem
from edgeopt_runner.protocol import metrics
from edgeopt_runner.protocol.samples import Sample, SampleFile

BUILT_IN = ("top1", "fidelity")

_Pair = tuple[Sample, dict[str, Any]]


@dataclass(frozen=True)
class Evaluation:
    """A metric over a set of samples.

    Attributes:
        value: Mean of `per_sample`, or the user's number; higher is better.
        per_sample: One number a prediction (``top1``: 1 or 0; ``fidelity``: cosine); empty for user functions.
        extra: ``sqnr_db`` (mean) and ``top1_agreement`` (mean) against the source model, where the file has it.
    """

    value: float
    per_sample: tuple[float, ...] = ()
    extra: Mapping[str, float] = field(default_factory=dict)


def evaluate_onnx(
    path: Path, samples: Path, metric: str, limit: int | None = None, *, deadline_seconds: float = 600
) -> Evaluation:
    """Run a model over a sample file in a child process.

    Args:
        path: ONNX file.
        samples: Sample file, with labels for ``top1`` and reference outputs for ``fidelity``.
        metric: ``top1``, ``fidelity`` or ``file.py:function``, called as ``f(outputs, labels)`` with the outputs of all
            samples by name, stacked along the batch, and the labels or ``None``.
        limit: How many samples are used; all by default.
        deadline_seconds: For the whole evaluation.

    Raises:
        DataError: The metric cannot be computed from the outputs or the labels.
        ModelError: The model does not load or run.
        ChildError: It crashed, or ran past the deadline.
    """
    arguments = {"path": str(path), "samples": str(samples), "metric": metric, "limit": limit}
    document = run_child(
        "edgeopt.graph.evaluate:_in_child",
        arguments,
        deadline_seconds=deadline_seconds,
        what=f"evaluating {path.name} on {samples.name}",
    )
    return _evaluation(document)


def evaluate_outputs(outputs: Path, samples: Path, metric: str, *, deadline_seconds: float = 600) -> Evaluation:
    """The same for outputs that a device computed: a sample file with the members ``reference:<output>``.

    Raises:
        DataError: The files do not belong together, or the metric cannot be computed from them.
        ChildError: The user's function crashed, or ran past the deadline.
    """
    document = run_child(
        "edgeopt.graph.evaluate:_outputs_in_child",
        {"outputs": str(outputs), "samples": str(samples), "metric": metric},
        deadline_seconds=deadline_seconds,
        what=f"computing {metric} from the outputs of the device",
    )
    return _evaluation(document)


def _evaluation(document: Mapping[str, Any]) -> Evaluation:
    return Evaluation(document["value"], tuple(document["per_sample"]), document["extra"])


def _document(evaluation: Evaluation) -> dict[str, Any]:
    return {"value": evaluation.value, "per_sample": list(evaluation.per_sample), "extra": dict(evaluation.extra)}


def _in_child(path: str, samples: str, metric: str, limit: int | None) -> dict[str, Any]:
    return _document(evaluate_here(Path(path), Path(samples), metric, limit))


def _outputs_in_child(outputs: str, samples: str, metric: str) -> dict[str, Any]:
    found, wanted = SampleFile(outputs), SampleFile(samples)
    if found.count != wanted.count:
        raise DataError(f"there are outputs for {found.count} samples, but {wanted.count} samples.")
    pairs = zip(wanted, found, strict=True)
    return _document(score(metric, ((sample, other.reference) for sample, other in pairs)))


def evaluate_here(path: Path, samples: Path, metric: str, limit: int | None = None) -> Evaluation:
    """`evaluate_onnx` in this process, for code that runs in a child already."""
    session = open_session(path)
    return score(
        metric, ((sample, run_feed(session, sample.inputs)) for sample in SampleFile(str(samples)).read(limit))
    )


def score(metric: str, pairs: Iterable[_Pair]) -> Evaluation:
    """The metric over samples and the outputs that belong to them.

    Raises:
        DataError: No samples, no labels or references that the metric needs, or the user's function fails.
    """
    if metric not in BUILT_IN:
        return _users_score(metric, pairs)
    values: list[float] = []
    extras: list[tuple[float, float]] = []
    for sample, outputs in pairs:
        values += _top1(sample, outputs) if metric == "top1" else [_fidelity(sample, outputs)]
        if sample.reference:
            reference = {name: sample.reference[name] for name in outputs if name in sample.reference}
            extras.append((_sqnr(reference, outputs), metrics.top1_agreement(reference, outputs)))
    if not values:
        raise DataError("there are no samples to evaluate.")
    names = ("sqnr_db", "top1_agreement")
    means = {name: sum(column) / len(extras) for name, column in zip(names, zip(*extras, strict=True), strict=False)}
    return Evaluation(sum(values) / len(values), tuple(values), means)


def _top1(sample: Sample, outputs: dict[str, Any]) -> list[float]:
    if sample.label is None:
        raise DataError("the metric top1 needs labels, and the samples have none.", remedy="Add them, or use fidelity.")
    try:
        return metrics.top1(outputs, sample.label)
    except ValueError as error:
        raise DataError(f"top1 does not fit the first output of the model: {error}.") from None


def _fidelity(sample: Sample, outputs: dict[str, Any]) -> float:
    missing = [name for name in sample.reference if name not in outputs]
    if missing or not sample.reference:
        reason = f"the model has no output {missing[0]}" if missing else "the sample file holds no reference outputs"
        raise DataError(f"fidelity cannot be computed: {reason}.")
    return metrics.cosine(sample.reference, outputs)


def _sqnr(reference: dict[str, Any], outputs: dict[str, Any]) -> float:
    if any(reference[name].shape != outputs[name].shape for name in reference):
        return -200.0
    return metrics.sqnr_db(reference, outputs)


def _users_score(metric: str, pairs: Iterable[_Pair]) -> Evaluation:
    function = load_function(metric, DataError, given=2)
    outputs, labels = _stack(iter(pairs))
    try:
        value = float(function(outputs, labels))
    except Exception as error:
        shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in outputs.items())
        raise user_problem(f"the metric {metric} on outputs {shapes}", error, DataError) from None
    if not math.isfinite(value):
        raise DataError(f"the metric {metric} returned {value}.", remedy="Return a finite number; higher is better.")
    return Evaluation(value)


def _stack(pairs: Iterator[_Pair]) -> tuple[dict[str, Any], Any]:
    """All outputs by name and all labels, along the batch; scalars become a vector."""
    import numpy as np

    columns: dict[str, list[Any]] = {}
    labels: list[Any] = []
    for sample, outputs in pairs:
        for name, value in outputs.items():
            columns.setdefault(name, []).append(np.atleast_1d(value))
        if sample.label is not None:
            labels.append(np.atleast_1d(sample.label))
    if not columns:
        raise DataError("there are no samples to evaluate.")
    stacked = {name: np.concatenate(column) for name, column in columns.items()}
    return stacked, np.concatenate(labels) if labels else None
