"""The metric over the evaluation set on this board, and the outputs themselves for metrics that only the host knows.

One sample at a time: the evaluation set may be larger than the board's memory.
"""

import os
import tempfile
from typing import Any, Dict, List

from edgeopt_runner import storage
from edgeopt_runner.correctness import feeds_of
from edgeopt_runner.engines import Session
from edgeopt_runner.links import sha256_of
from edgeopt_runner.protocol import metrics
from edgeopt_runner.protocol.samples import REFERENCE, Sample, SampleFile, write_samples

TOP1 = "top1"
FIDELITY = "fidelity"
OUTPUTS = "outputs"


class EvaluationError(ValueError):
    """The evaluation set lacks what the metric needs, or the metric is not ours."""


def evaluate(session: Session, samples: SampleFile, metric: str) -> Dict[str, Any]:
    """The fields of `edgeopt.core.measurement.Accuracy`.

    Args:
        session: The loaded model.
        samples: The evaluation set; with labels for ``top1``, with references for ``fidelity``.
        metric: ``top1`` or ``fidelity``.

    Raises:
        EvaluationError: Another metric, or a set without what it needs.
        RunFailed: The runtime failed.
    """
    if not samples.count:
        raise EvaluationError("the evaluation set has no samples")
    if metric == TOP1:
        return _top1(session, samples)
    if metric == FIDELITY:
        return _fidelity(session, samples)
    raise EvaluationError("metric %r is not one of %s, %s, %s" % (metric, TOP1, FIDELITY, OUTPUTS))


def _outputs(session: Session, sample: Sample) -> Dict[str, Any]:
    return session.run(feeds_of(sample, session))


def _top1(session: Session, samples: SampleFile) -> Dict[str, Any]:
    if not samples.labelled:
        raise EvaluationError("the evaluation set has no labels, which top1 needs")
    hits: List[float] = []
    for sample in samples:
        hits += metrics.top1(_outputs(session, sample), sample.label)
    return _accuracy(TOP1, hits, {})


def _fidelity(session: Session, samples: SampleFile) -> Dict[str, Any]:
    if not samples.names(REFERENCE):
        raise EvaluationError("the evaluation set has no reference outputs, which fidelity needs")
    cosines: List[float] = []
    noise: List[float] = []
    agreement: List[float] = []
    for sample in samples:
        outputs = _outputs(session, sample)
        cosines.append(metrics.cosine(sample.reference, outputs))
        noise.append(metrics.sqnr_db(sample.reference, outputs))
        agreement.append(metrics.top1_agreement(sample.reference, outputs))
    return _accuracy(FIDELITY, cosines, {"sqnr_db": _mean(noise), "top1_agreement": _mean(agreement)})


def _mean(values: List[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _accuracy(metric: str, per_sample: List[float], extra: Dict[str, float]) -> Dict[str, Any]:
    return {
        "metric": metric,
        "value": _mean(per_sample),
        "per_sample": per_sample,
        "extra": extra,
        "samples": len(per_sample),
    }


def keep_outputs(session: Session, samples: SampleFile, root: str, folder: str) -> Dict[str, Any]:
    """Run the evaluation set and keep all outputs as a sample file among the root's objects.

    Args:
        session: The loaded model.
        samples: The evaluation set.
        root: The runner's root.
        folder: Where the parts are written; on the same file system as the root.

    Returns:
        ``sha256`` and ``size`` of the object.

    Raises:
        OSError: The disk is full or read-only.
        RunFailed: The runtime failed.
    """
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="outputs-") as parts:
        path = os.path.join(parts, "outputs.npz")
        write_samples(path, _spool(session, samples, parts))
        digest, size = sha256_of(path), os.path.getsize(path)
        final = storage.object_path(root, digest)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        storage.sync(path)
        os.replace(path, final)
        storage.sync(os.path.dirname(final))
    return {"sha256": digest, "size": size}


def _spool(session: Session, samples: SampleFile, folder: str) -> Dict[str, Any]:
    """Outputs by member name, as arrays mapped from one raw file each: nothing but one sample is held in memory."""
    import numpy as np

    streams: List[Any] = []
    shapes: Dict[str, Any] = {}
    dtypes: Dict[str, Any] = {}
    try:
        for number in range(len(session.outputs)):
            streams.append(open(os.path.join(folder, str(number)), "wb"))
        for sample in samples:
            outputs = _outputs(session, sample)
            for number, name in enumerate(session.outputs):
                array = np.ascontiguousarray(outputs[name])
                if shapes.setdefault(name, array.shape) != array.shape:
                    raise EvaluationError("output %s changes its shape from sample to sample" % name)
                dtypes[name] = array.dtype
                streams[number].write(array.tobytes())
    finally:
        for stream in streams:
            stream.close()
    return {
        REFERENCE + name: np.memmap(
            os.path.join(folder, str(number)), dtype=dtypes[name], mode="r", shape=(samples.count,) + shapes[name]
        )
        for number, name in enumerate(session.outputs)
    }
