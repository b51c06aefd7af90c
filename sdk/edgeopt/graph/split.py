"""Splits samples, computes the source model's outputs on them and writes the sample files (in a child process)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeopt.core.tensor import Signature
from edgeopt.documents import decode
from edgeopt.errors import DataError, ModelError
from edgeopt.graph.collect import GENERATED_SAMPLES
from edgeopt.graph.evaluate import score
from edgeopt.graph.fit import batch_size
from edgeopt.graph.labels import chance_note, check_labels
from edgeopt.graph.parity import all_finite
from edgeopt.graph.sample_options import SampleOptions
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.spool import Spool, open_member
from edgeopt_runner.protocol.samples import INPUT, LABELS, REFERENCE, SampleFile, write_samples

LEAST_SHARE_CALIBRATION = 0.4
"""Of small data, this much calibrates and the rest evaluates."""


def split(
    collected: Mapping[str, Any], model: str, signature: dict[str, Any], options: dict[str, Any], code: str, folder: str
) -> dict[str, Any]:
    """Make ``calibration.npz``, ``evaluation.npz`` and ``golden.npz``.

    Args:
        collected: What `edgeopt.graph.collect.collect` returned.
        model: The source model's ONNX file.
        signature: `Signature` as plain data.
        options: `SampleOptions` as plain data, the metric settled.
        code: Source text of the user's data function; part of the digest.
        folder: Where the files go.

    Returns:
        ``digest``, ``calibration``, ``evaluation`` (sizes), ``baseline`` (the source model's metric) and ``notes``.

    Raises:
        DataError: Too few samples, or the metric does not fit labels or outputs.
        ModelError: The source model does not run on the samples, or gives NaN or infinity.
    """
    taken, asked = decode(Signature, signature, where="signature"), decode(SampleOptions, options, where="options")
    metric = asked.metric or "fidelity"
    feeds = feeds_of(collected["members"], batch_size(taken))
    total = len(next(iter(feeds.values())))
    sizes = split_sizes(total, asked, generated=collected["generated"])
    ordered, digest = _shuffled(feeds, sizes, asked, code, Path(folder))
    first = 0 if asked.overlap else sizes[0]
    calibration = {name: array[: sizes[0]] for name, array in ordered.items() if name != LABELS}
    evaluation = {name: array[first : first + sizes[1]] for name, array in ordered.items()}
    evaluation |= _references(Path(model), evaluation, Path(folder))
    notes = check_labels(feeds.get(LABELS), evaluation, taken) if metric == "top1" else []
    golden = {name: array[: min(asked.golden, sizes[1])] for name, array in evaluation.items() if name != LABELS}
    for name, arrays in {"calibration": calibration, "evaluation": evaluation, "golden": golden}.items():
        write_samples(str(Path(folder, f"{name}.npz")), arrays)
    baseline = _baseline(Path(folder, "evaluation.npz"), taken, metric)
    notes += chance_note(baseline, evaluation, taken) if metric == "top1" else []
    return {"digest": digest, "calibration": sizes[0], "evaluation": sizes[1], "baseline": baseline, "notes": notes}


def split_sizes(total: int, options: SampleOptions, *, generated: bool = False) -> tuple[int, int]:
    """Sizes of calibration and evaluation set out of `total` samples.

    Raises:
        DataError: Fewer than two samples for disjoint sets, or none.
    """
    most = GENERATED_SAMPLES if generated else total
    calibration, evaluation = min(options.calibration, most), min(options.evaluation, most)
    if options.overlap and total > 0:
        return min(calibration, total), min(evaluation, total)
    if total < 2:
        raise DataError(
            f"there is {total} sample, but calibration and evaluation need one each that the other has not.",
            remedy="Give more samples (200 or more are sound), or --overlap to use the same ones for both.",
        )
    if calibration + evaluation > total:
        calibration = min(calibration, max(1, int(total * LEAST_SHARE_CALIBRATION), total - evaluation))
        evaluation = min(evaluation, total - calibration)
    return calibration, evaluation


def feeds_of(members: Mapping[str, Any], batch: int | None) -> dict[str, Any]:
    """Collected rows as whole feeds [feeds, *feed shape], and labels [feeds, ...]; a cut last batch is left out."""
    rows = next(member["count"] for name, member in members.items() if name != LABELS)
    size = batch or 1
    feeds = {}
    for name, member in members.items():
        array = open_member(member)
        if name == LABELS and (size == 1 or member["count"] != rows):
            feeds[name] = array[: rows // size]
        elif batch is None:
            feeds[name] = array
        else:
            feeds[name] = array[: rows // size * size].reshape(rows // size, size, *member["shape"])
    return feeds


def _shuffled(
    feeds: Mapping[str, Any], sizes: tuple[int, int], options: SampleOptions, code: str, folder: Path
) -> tuple[dict[str, Any], str]:
    """The samples used, in the seeded order, as arrays on disk; and the digest of all that decides them."""
    import numpy as np

    total = len(next(iter(feeds.values())))
    used = max(sizes) if options.overlap else sum(sizes)
    order = np.random.default_rng(options.seed).permutation(total)[:used]
    spool, digest = Spool(_made(folder / "ordered")), hashlib.sha256()
    for name in sorted(feeds):
        digest.update(f"{name} {feeds[name].dtype.str} {feeds[name].shape[1:]}\n".encode())
        for index in order:
            item = np.array(feeds[name][index], order="C")  # a copy that keeps labels without dimensions
            digest.update(item.tobytes())
            spool.append(name, item[None])
    said = {key: value for key, value in asdict(options).items() if key != "deadline_seconds"}
    digest.update(json.dumps({"options": said, "sizes": sizes, "code": code}, sort_keys=True).encode())
    return {name: open_member(member) for name, member in spool.close().items()}, digest.hexdigest()


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _references(model: Path, evaluation: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The source model's outputs on the evaluation samples, as ``reference:<output>``."""
    session, spool = open_session(model), Spool(_made(folder / "references"))
    inputs = {name[len(INPUT) :]: array for name, array in evaluation.items() if name.startswith(INPUT)}
    for index in range(len(next(iter(inputs.values())))):
        outputs = run_feed(session, {name: array[index] for name, array in inputs.items()})
        if not all_finite(outputs):
            raise ModelError(
                f"the source model gives NaN or infinity on evaluation sample {index}, before any compression.",
                remedy="Check its weights, and that the data is preprocessed as in training.",
            )
        for name, value in outputs.items():
            if not spool.append(f"{REFERENCE}{name}", value[None]):
                raise ModelError(
                    f"output `{name}` has shape {list(value.shape)} on evaluation sample {index}, another before.",
                    remedy="Outputs must have one shape: export the network without non-maximum suppression.",
                )
    return {name: open_member(member) for name, member in spool.close().items()}


def _baseline(evaluation: Path, signature: Signature, metric: str) -> float:
    """The source model's own metric, from its stored outputs, in the order of the graph."""
    samples = SampleFile(str(evaluation))
    pairs = ((sample, {spec.name: sample.reference[spec.name] for spec in signature.outputs}) for sample in samples)
    return score(metric, pairs).value
