"""What is known of a task before it runs, as numbers: counts as logarithms, and which runtime and device it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeopt.core.work import Task, Work
from edgeopt.selection.prediction.roofline import about_ns

Array = NDArray[np.float64]

_KINDS = {
    "layers": ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv"),
    "products": ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "MatMulNBits"),
    "steps": ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "Loop", "Scan"),
    "moves": ("Transpose", "Reshape", "Concat", "Slice", "Gather", "Split", "Pad", "Resize", "Expand"),
    "pairs": ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"),
}


def named_features(task: Task) -> dict[str, float]:
    """Features by name; those that are 0 are left out, so that a name that was never seen means nothing."""
    settings, work, runtime = task.settings, task.work, task.settings.runtime
    counted = _counted(work)
    found = {
        **counted,
        "about": math.log(about_ns(task)),
        "threads": math.log(settings.threads),
        "sessions": math.log(settings.sessions),
        "batch": math.log(settings.batch),
        "inter_op": math.log(settings.inter_op),
        f"runtime {runtime}": 1.0,
        f"levels {runtime} {settings.graph_optimisation}": 1.0,
        f"computes {runtime} {settings.precision} {settings.provider}": 1.0,
        f"device {task.machine.fingerprint}": 1.0,
        f"runtime {runtime} on {task.machine.name}": 1.0,
    }
    for name in ("macs", "narrow", "nodes", "steps"):
        found[f"{name} in {runtime}"] = counted[name]
    return {name: value for name, value in found.items() if value}


def _counted(work: Work) -> dict[str, float]:
    nodes = max(1, sum(work.operators.values()))
    products = work.macs + work.narrow_macs
    kinds = {kind: sum(work.operators.get(name, 0) for name in names) / nodes for kind, names in _KINDS.items()}
    return {
        "macs": math.log1p(products),
        "narrow": work.narrow_macs / max(1, products),
        "weights": math.log1p(work.weight_bytes),
        "activations": math.log1p(work.activation_bytes),
        "nodes": math.log(nodes),
        **kinds,
    }


class Scale:
    """Turns features into rows of equal length and like size, by what was seen in a set of tasks.

    Args:
        tasks: At least one.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        rows = [named_features(task) for task in tasks]
        self._names = sorted({name for row in rows for name in row})
        raw = self._raw(rows)
        self._middle, spread = raw.mean(axis=0), raw.std(axis=0)
        self._spread = np.where(spread > 1e-9, spread, 1.0)

    def rows(self, tasks: Sequence[Task]) -> Array:
        """[tasks, features], middle 0 and spread 1 over the tasks that the scale was made of."""
        scaled: Array = (self._raw([named_features(task) for task in tasks]) - self._middle) / self._spread
        return scaled

    def _raw(self, rows: Sequence[dict[str, float]]) -> Array:
        return np.array([[row.get(name, 0.0) for name in self._names] for row in rows], np.float64)
