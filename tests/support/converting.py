"""Converting a trained network and judging the file in the engine that a board would use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.core.recipe import PassSpec
from edgeopt.graph.session import open_session, run_feed
from edgeopt.passes._base import PassContext
from edgeopt.passes._step import check_parity
from edgeopt.passes.registry import load_pass
from edgeopt_runner.protocol.samples import SampleFile
from support.trained import Trained


@dataclass(frozen=True)
class Converted:
    """A file with what was said about it, its smallest cosine to the original, and its top-1."""

    path: Path
    notes: tuple[str, ...]
    kept_float: tuple[str, ...]
    cosine: float
    top1: float


def converted(name: str, trained: Trained, work: Path, cache: Path, *, keep: tuple[str, ...] = (), **options: Any):
    step = load_pass(PassSpec(name, options))
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"made.{step.format}"
    context = PassContext(work, calibration=trained.calibration, original=trained.network, cache=cache, keep_float=keep)
    report = step.apply(trained.network, path, context)
    parity = check_parity(trained.network, path, trained.evaluation, step.min_cosine)
    return Converted(path, report.notes, report.kept_float, parity.cosine, top1(path, trained.evaluation))


def top1(path: Path, samples: Path) -> float:
    session, hits, count = open_session(path), 0, 0
    for sample in SampleFile(str(samples)).read():
        (scores,) = run_feed(session, sample.inputs).values()
        hits += int(scores.argmax()) == int(np.ravel(sample.label)[0])
        count += 1
    return hits / count
