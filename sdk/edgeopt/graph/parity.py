"""Do two forms of a network compute the same? Runs both in this process: meant for child processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import ModelError, ParityError
from edgeopt.graph.session import open_session, run_feed
from edgeopt_runner.protocol import metrics
from edgeopt_runner.protocol.samples import Sample, SampleFile


@dataclass(frozen=True)
class Parity:
    """Agreement of a candidate with a reference over some samples.

    Attributes:
        cosine: Smallest cosine similarity over samples and outputs, -1 to 1; 0 where outputs are not finite.
        max_abs: Largest absolute difference; infinite where shapes differ or outputs are not finite.
        sqnr_db: Mean over samples of the signal to quantisation noise, -200 to 200.
        finite: Whether all outputs of the candidate are finite.
        constant: Whether the candidate gives the same for all samples although the reference does not; ``False`` for
            one sample.
    """

    cosine: float
    max_abs: float
    sqnr_db: float
    finite: bool
    constant: bool


def compare(reference: Path | None, candidate: Path, samples: Path, limit: int | None = None) -> Parity:
    """Run both models on the same samples and compare their outputs by name.

    Args:
        reference: ONNX file; ``None`` takes the reference outputs in `samples` (of the source model).
        candidate: ONNX file.
        samples: Sample file.
        limit: How many samples are used; all by default.

    Raises:
        ParityError: The candidate lacks an output of the reference.
        ModelError: One of them does not load or run.
    """
    session = open_session(candidate)
    expected = _references(reference, SampleFile(str(samples)).read(limit))
    return summarise((wanted, run_feed(session, sample.inputs)) for sample, wanted in expected)


def _references(model: Path | None, samples: Iterable[Sample]) -> Iterator[tuple[Sample, dict[str, Any]]]:
    session = open_session(model) if model else None
    for sample in samples:
        yield sample, run_feed(session, sample.inputs) if session else sample.reference


def summarise(pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> Parity:
    """Agreement over (reference outputs, candidate outputs).

    Raises:
        ParityError: No samples, or an output is missing.
    """
    cosines, differences, ratios = [], [], []
    finite, same, same_reference = True, True, True
    first: tuple[dict[str, Any], dict[str, Any]] | None = None
    for wanted, found in pairs:
        missing = [name for name in wanted if name not in found]
        if missing or not wanted:
            raise ParityError(f"output {', '.join(missing) or '(any)'} is missing; there is {', '.join(found)}.")
        first = first or (wanted, found)
        cosines.append(metrics.cosine(wanted, found))
        differences.append(metrics.max_abs(wanted, found))
        fits = all(wanted[name].shape == found[name].shape for name in wanted)
        ratios.append(metrics.sqnr_db(wanted, {name: found[name] for name in wanted}) if fits else -200.0)
        finite = finite and all_finite(found)
        same_reference = same_reference and metrics.max_abs(first[0], wanted) == 0
        same = same and metrics.max_abs(first[1], found) == 0
    if not cosines:
        raise ParityError("there are no samples to compare outputs on.")
    constant = len(cosines) > 1 and same and not same_reference
    return Parity(min(cosines), max(differences), sum(ratios) / len(ratios), finite, constant)


def all_finite(outputs: dict[str, Any]) -> bool:
    """Whether no output holds NaN or infinity."""
    import numpy as np

    return all(bool(np.isfinite(np.asarray(value, dtype=np.float64)).all()) for value in outputs.values())


def first_divergence(reference: Path, candidate: Path, samples: Path, *, bound: float = 0.99) -> str | None:
    """Where the candidate first leaves the reference, in the reference's order.

    Compares all tensors that have the same name in both graphs, on the first sample.

    Args:
        reference: ONNX file.
        candidate: ONNX file, made from it by passes that keep the names of tensors.
        samples: Sample file.
        bound: Least cosine similarity that counts as agreement.

    Returns:
        One phrase with node, kind, tensor and cosine; ``None`` where all shared tensors agree.

    Raises:
        ModelError: One of the models cannot be read, or run with its inner tensors as outputs.
    """
    sample = next(SampleFile(str(samples)).read(1), None)
    if sample is None:
        raise ModelError(f"{samples} holds no samples.")
    models = [_load(path) for path in (reference, candidate)]
    shared = set(_tensors(models[1]))
    names = [name for name in _tensors(models[0]) if name in shared]
    wanted, found = (_run_with_inner(model, names, sample.inputs) for model in models)
    producers = {name: node for node in models[0].graph.node for name in node.output}
    for name in names:
        if name not in wanted or name not in found or wanted[name].dtype.kind != "f":
            continue
        cosine = metrics.cosine({name: wanted[name]}, found)
        if cosine < bound:
            node = producers[name]
            return f"{node.name or name} ({node.op_type}), output `{name}`: cosine {cosine:.4f}"
    return None


def _load(path: Path) -> Any:
    import onnx

    return onnx.shape_inference.infer_shapes(onnx.load(str(path)))


def _tensors(model: Any) -> list[str]:
    """Outputs of the nodes of the main graph, in order."""
    return [name for node in model.graph.node for name in node.output if name]


def _run_with_inner(model: Any, names: list[str], feed: dict[str, Any]) -> dict[str, Any]:
    """Run a model with inner tensors as outputs: those whose element type inference found."""
    import onnx

    own = {value.name for value in model.graph.output}
    known = {value.name: value for value in model.graph.value_info if value.type.tensor_type.elem_type}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.output.extend(known[name] for name in names if name in known and name not in own)
    return run_feed(open_session(changed.SerializeToString()), feed)
