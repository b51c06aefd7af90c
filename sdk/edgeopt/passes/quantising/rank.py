"""Ranks layers by their share of the quantisation error, in a child process.

Wu, Judd, Zhang, Isaev, Micikevicius: Integer Quantization for Deep Learning Inference, 2020, §6.1 (partial
quantisation: sensitivity of one layer at a time). There the metric is run for every layer; here the noise of the
outputs over a few samples stands for it, which takes a second where that takes minutes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import EdgeoptError
from edgeopt.graph.session import open_session, run_feed
from edgeopt.passes._base import Pass, PassContext
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.registry import load_pass
from edgeopt_runner.protocol.samples import SampleFile

RANKING_SAMPLES = 4
"""More would change the order little, and running them is most of the time of a ranking."""


def rank_layers(name: str, options: dict[str, Any], source: str, context: dict[str, Any], seconds: float) -> list[Any]:
    """Quantise one layer at a time and measure what it does to the outputs; arguments and result are JSON.

    Args:
        name: Entry-point name of the quantising pass.
        options: Its options.
        source: The file that the pass starts from.
        context: ``work``, ``cache``, ``calibration``, ``machine``, ``isa``, ``seed``.
        seconds: Layers not reached by then come last, with an error of 0.

    Returns:
        ``[node name, squared error of the outputs]`` by falling error.
    """
    fields = {**context, "isa": tuple(context["isa"])}
    for key in ("work", "cache", "calibration"):
        fields[key] = Path(context[key])
    trial = _Trial(load_pass(PassSpec(name, options)), Path(source), PassContext(**fields))
    end = time.monotonic() + seconds
    errors = {layer: trial.error(layer) if time.monotonic() < end else 0.0 for layer in trial.layers}
    return sorted(([layer, error] for layer, error in errors.items()), key=lambda row: -row[1])


class _Trial:
    """The float outputs, and those with one layer quantised."""

    def __init__(self, step: Pass, source: Path, context: PassContext) -> None:
        import onnx

        self._step, self._source, self._context = step, source, context
        prepared = prepare(source, context)
        graph = onnx.load(prepared).graph
        constants = {tensor.name for tensor in graph.initializer}
        self._nodes = [node.name for node in graph.node]
        self.layers = [
            node.name for node in graph.node if node.op_type in step.operators and constants.intersection(node.input)
        ]
        assert context.calibration is not None
        self._feeds = [sample.inputs for sample in SampleFile(str(context.calibration)).read(RANKING_SAMPLES)]
        session = open_session(prepared)
        self._wanted = [run_feed(session, feed) for feed in self._feeds]

    def error(self, layer: str) -> float:
        """Squared error of the outputs over their square when only `layer` is quantised; 0 where it cannot be."""
        import dataclasses

        others = tuple(name for name in self._nodes if name != layer)
        destination = self._context.work / "trial.onnx"
        try:
            self._step.apply(self._source, destination, dataclasses.replace(self._context, keep_float=others))
            session = open_session(destination)
            return sum(_noise(w, run_feed(session, feed)) for w, feed in zip(self._wanted, self._feeds, strict=True))
        except EdgeoptError:
            return 0.0


def _noise(wanted: dict[str, Any], found: dict[str, Any]) -> float:
    """Relative squared error over all outputs; infinite values count as 1e6."""
    import numpy as np

    total = 0.0
    for name, reference in wanted.items():
        a, b = np.asarray(reference, dtype=np.float64), np.asarray(found[name], dtype=np.float64)
        noise = float(((a - b) ** 2).sum()) / max(float((a**2).sum()), 1e-12)
        total += noise if np.isfinite(noise) else 1e6
    return total
