"""A small network, its samples and jobs for the worker, which runs in a process of its own as on a device."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.core.plan import QUICK, Plan
from edgeopt.core.profile import Settings

SHORT = replace(
    QUICK, min_seconds=0.2, max_seconds=2.0, window_seconds=0.05, warmup_seconds=0.05, max_warmup_seconds=1.0
)
"""A quick plan for tests, too short for good numbers."""

_RUN = """
import importlib, json, sys
from edgeopt_runner import memory
kind = importlib.import_module("edgeopt_runner." + sys.argv[4])
events = []
result = kind.run(sys.argv[1], json.load(open(sys.argv[2])), events.append)
answer = {"events": events, "result": result, "modules": sorted(sys.modules), "peak_bytes": memory.peak_bytes()}
json.dump(answer, open(sys.argv[3], "w"), allow_nan=False)
"""


def conv_network(path: Path, *, channels: int = 8, size: int = 16, bias: float = 0.0, classes: int = 5) -> Path:
    """Conv, ReLU, mean, Gemm: input ``x`` [1, 3, size, size], output ``logits`` [1, classes]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(channels, 3, 3, 3)).astype(np.float32),
        "g": random.normal(size=(channels, classes)).astype(np.float32),
        "b": np.full(classes, bias, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "b"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def outputs_of(model: Path, inputs: np.ndarray) -> np.ndarray:
    """Outputs [N, 1, classes] of `conv_network` for inputs [N, 1, 3, size, size], from a session of the test's own."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, {"x": item})[0] for item in inputs])


ENTRIES = {"check": "checking"}


class Board:
    """A runner's root with a model, golden samples and a labelled evaluation set."""

    def __init__(self, folder: Path, **network: Any) -> None:
        from edgeopt_runner.protocol.samples import write_samples

        self.root = folder / "root"
        (self.root / "objects").mkdir(parents=True)
        model = conv_network(folder / "model.onnx", **network)
        random = np.random.default_rng(1)
        size = network.get("size", 16)
        inputs = random.normal(size=(12, 1, 3, size, size)).astype(np.float32)
        reference = outputs_of(model, inputs)
        labels = reference.argmax(axis=-1)
        labels[:3] = (labels[:3] + 1) % reference.shape[-1]
        arrays = {"input:x": inputs, "reference:logits": reference, "labels": labels}
        write_samples(str(folder / "golden.npz"), {name: array[:4] for name, array in arrays.items()})
        write_samples(str(folder / "evaluation.npz"), arrays)
        self.inputs, self.reference = inputs, reference
        self.model = self.add(model)
        self.golden = self.add(folder / "golden.npz")
        self.evaluation = self.add(folder / "evaluation.npz")

    def add(self, path: Path) -> str:
        """Put a file among the objects; its digest."""
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        (self.root / "objects" / digest).write_bytes(data)
        return digest

    def job(self, *, plan: Plan = SHORT, settings: Settings | None = None, **fields: Any) -> dict[str, Any]:
        """A job document of kind ``measure``, fields replaced as asked."""
        model = fields.pop("model", self.model)
        job = {
            "job_id": "ab" * 16,
            "nonce": "cd" * 16,
            "kind": "measure",
            "owner": {"owner": "o", "host": "h", "reason": "test"},
            "limits": {"memory_bytes": None, "deadline_seconds": {}},
            "artifact": {"sha256": model, "size": 1, "format": "onnx"},
            "settings": asdict(settings or Settings()),
            "plan": asdict(plan),
            "golden": self.golden,
            "min_cosine": 0.99,
            "evaluation": self.evaluation,
            "metric": "top1",
            "max_start_celsius": None,
        }
        return {**job, **fields}

    def work(
        self, job: dict[str, Any], *, fault: str = "", python: str = sys.executable, entry: str = ""
    ) -> dict[str, Any]:
        """Run a job in a fresh process: ``events``, ``result``, its ``modules``, its ``peak_bytes`` since warm-up.

        `entry` is the runner's module whose ``run`` does the kind; by default the one that does it in the runner.
        """
        order, answer = self.root / "order.json", self.root / "answer.json"
        order.write_text(json.dumps(job))
        answer.unlink(missing_ok=True)
        environment = {key: value for key, value in os.environ.items() if key != "EDGEOPT_FAULT"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "runners")
        if fault:
            environment["EDGEOPT_FAULT"] = fault
        command = [
            python,
            "-c",
            _RUN,
            str(self.root),
            str(order),
            str(answer),
            entry or ENTRIES.get(job["kind"], "worker"),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(answer.read_text())
