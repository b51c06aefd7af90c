"""For tests of sample sets: made of a source by the children that do so, or in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.documents import plain
from edgeopt.graph.collect import collect
from edgeopt.graph.data import Samples, load_samples
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.graph.sample_options import SampleOptions
from edgeopt.graph.split import split
from edgeopt_runner.protocol.samples import SampleFile

RNG = np.random.default_rng(0)


def load(source: str | Path | None, model: Path, folder: Path, **options: Any) -> Samples:
    (folder / "made").mkdir(exist_ok=True)
    text = None if source is None else str(source)
    signature = inspect_onnx(model).signature
    return load_samples(text, model, signature, options=SampleOptions(**options), folder=folder / "made")


def in_process(source: str | Path | None, model: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """What the two children do, without the cost of starting them."""
    (folder / "made").mkdir(exist_ok=True)
    signature = plain(inspect_onnx(model).signature)
    asked = plain(SampleOptions(**options))
    collected = collect(None if source is None else str(source), signature, asked, str(folder / "made"))
    asked["metric"] = asked["metric"] or ("top1" if "labels" in collected["members"] else "fidelity")
    return split(collected, str(model), signature, asked, "", str(folder / "made"))


def made(folder: Path, name: str) -> SampleFile:
    return SampleFile(str(folder / "made" / f"{name}.npz"))


def images(count: int) -> Any:
    return RNG.standard_normal((count, 1, 8, 8)).astype(np.float32)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path
