"""Runs calibration samples through a network and keeps what its tensors spread over, never the tensors themselves.

Memory: the activations of one sample plus one histogram a tensor, however many samples there are. Two sweeps (ends,
then histograms between known ends) cost twice the time of one that re-bins, and are exact.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeopt.errors import PassError
from edgeopt.passes._files import file_digest
from edgeopt.passes.quantising.calibrators import BINS, Spread


def spreads(
    model_path: Path, tensors: Sequence[str], samples: Path, *, limit: int, histograms: bool, cache: Path | None = None
) -> dict[str, Spread]:
    """What the float tensors among `tensors` spread over.

    Args:
        model_path: An ONNX file.
        tensors: Names of tensors in it; those that are not float are left out.
        samples: Sample file with the network's inputs.
        limit: Largest number of samples to use.
        histograms: Whether `Spread.counts` are wanted.
        cache: Folder where results are kept by digest of all that they depend on.

    Raises:
        PassError: No sample, or an activation that is not finite.
    """
    wanted = sorted(set(tensors))
    entry = None if cache is None else cache / f"spreads-{_key(model_path, samples, wanted, limit, histograms)}.npz"
    if entry is not None and entry.exists():
        return _read(entry)
    observer = _Observer(model_path, wanted, samples, limit)
    found = observer.ends()
    if histograms:
        found = observer.histograms(found)
    if entry is not None:
        _write(entry, found)
    return found


def _key(model_path: Path, samples: Path, tensors: Sequence[str], limit: int, histograms: bool) -> str:
    digest = hashlib.sha256(repr((tensors, limit, histograms, BINS)).encode())
    for path in (model_path, samples):
        digest.update(file_digest(path).encode())
    return digest.hexdigest()


class _Observer:
    """A session that returns inner tensors as outputs."""

    def __init__(self, model_path: Path, tensors: Sequence[str], samples: Path, limit: int) -> None:
        import onnx
        import onnxruntime

        model = onnx.load(model_path)
        known = {output.name for output in model.graph.output}
        inputs = {value.name for value in model.graph.input}
        made = {name for node in model.graph.node for name in node.output}
        for name in tensors:
            if name in made and name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._fetched = [name for name in tensors if name in made]
        self._fed = [name for name in tensors if name in inputs]
        self._samples, self._limit = samples, limit

    def _runs(self) -> Iterator[dict[str, Any]]:
        """The float tensors of one sample after the other."""
        from edgeopt_runner.protocol.samples import SampleFile

        for sample in SampleFile(str(self._samples)).read(self._limit):
            found = self._session.run(self._fetched, sample.inputs) if self._fetched else []
            values = dict(zip(self._fetched, found, strict=True))
            values.update({name: sample.inputs[name] for name in self._fed})
            yield {name: value for name, value in values.items() if value.dtype.kind == "f" and value.size}

    def ends(self) -> dict[str, Spread]:
        """Smallest and largest value of each tensor."""
        found: dict[str, Spread] = {}
        index = -1
        for index, values in enumerate(self._runs()):
            for name, value in values.items():
                low, high = float(value.min()), float(value.max())
                if not (abs(low) < float("inf") and abs(high) < float("inf")):
                    raise PassError(f"tensor {name!r} is not finite for calibration sample {index}.")
                before = found.get(name)
                found[name] = Spread(min(low, before.low), max(high, before.high)) if before else Spread(low, high)
        if index < 0:
            raise PassError("the calibration set is empty.", remedy="Give more data, or a smaller evaluation set.")
        return found

    def histograms(self, ends: Mapping[str, Spread]) -> dict[str, Spread]:
        """The same with counts between the ends."""
        import numpy as np

        counts = {name: np.zeros(BINS, dtype=np.float64) for name in ends}
        for values in self._runs():
            for name, value in values.items():
                spread = ends[name]
                if spread.high > spread.low:
                    counts[name] += np.histogram(value, bins=BINS, range=(spread.low, spread.high))[0]
        return {name: Spread(spread.low, spread.high, counts[name]) for name, spread in ends.items()}


def _read(entry: Path) -> dict[str, Spread]:
    import numpy as np

    with np.load(entry) as stored:
        rows = zip(stored["names"], stored["lows"], stored["highs"], strict=True)
        counts = stored["counts"]
        return {
            str(name): Spread(float(low), float(high), counts[index] if len(counts) else None)
            for index, (name, low, high) in enumerate(rows)
        }


def _write(entry: Path, found: Mapping[str, Spread]) -> None:
    import numpy as np

    entry.parent.mkdir(parents=True, exist_ok=True)
    partial = entry.with_suffix(f".{os.getpid()}.part")
    counts = [spread.counts for spread in found.values() if spread.counts is not None]
    with open(partial, "wb") as stream:
        np.savez(
            stream,
            names=np.array(list(found)),
            lows=np.array([spread.low for spread in found.values()]),
            highs=np.array([spread.high for spread in found.values()]),
            counts=np.array(counts),
        )
    partial.replace(entry)
