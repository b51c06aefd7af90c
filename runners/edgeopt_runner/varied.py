"""Latency of a model that does not take equally long for every input: which are timed, and how long each takes.

A network with early exits is fast for some samples and slow for others: four golden samples would tell little. So the
evaluation samples are timed, in equal shares, for an average over the data as it is and the worst among them.
"""

from typing import Any, Dict, List, Sequence

from edgeopt_runner import latency, measure
from edgeopt_runner.correctness import feeds_of
from edgeopt_runner.engines import Session
from edgeopt_runner.protocol.samples import INPUT, SampleFile

MOST_INPUTS = 256
MOST_BYTES = 32 << 20
ROUNDS, MOST_ROUNDS = 5, 25


def input_buffers(samples: SampleFile, session: Session) -> List[Dict[str, Any]]:
    """Feeds in memory of their own, evenly spread over the samples: as many as a small board can hold."""
    import numpy as np

    most = max(1, min(MOST_INPUTS, MOST_BYTES // max(1, _sample_bytes(samples))))
    step = max(1, -(-samples.count // most))
    return [
        {name: np.array(array) for name, array in feeds_of(sample, session).items()}
        for number, sample in enumerate(samples)
        if number % step == 0
    ]


def _sample_bytes(samples: SampleFile) -> int:
    """Memory of one sample's inputs."""
    total = 0
    for name, shape in samples.shapes.items():
        if name.startswith(INPUT):
            size = int(samples.dtypes[name].itemsize)
            for dimension in shape[1:]:
                size *= dimension
            total += size
    return total


def each(calls: Sequence[measure.Call], expected_ns: float, seconds: float) -> Dict[str, int]:
    """Every input several times, in turns: mean and largest of the inputs' medians.

    Args:
        calls: One an input.
        expected_ns: Duration of one inference.
        seconds: How long it may take, about; evenly spread inputs are left out where it would take longer.

    Returns:
        ``average_ns`` and ``worst_ns`` of `edgeopt.core.measurement.Latency`.
    """
    affordable = max(4, int(seconds * 1e9 / ROUNDS / max(1.0, expected_ns)))
    chosen = calls[:: max(1, -(-len(calls) // affordable))]
    cheap = int(seconds * 1e9 / len(chosen) / max(1.0, expected_ns))
    rounds = [measure.timed_runs(chosen, len(chosen)) for _ in range(max(ROUNDS, min(MOST_ROUNDS, cheap)))]
    medians = [latency.median([durations[place] for durations in rounds]) for place in range(len(chosen))]
    return {"average_ns": int(sum(medians) / len(medians)), "worst_ns": int(max(medians))}
