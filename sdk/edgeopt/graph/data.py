"""Data in: calibration, evaluation and golden sample files that fit the model, with reference outputs inside."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt.child import run_child
from edgeopt.core.run import DataSummary
from edgeopt.core.tensor import Signature
from edgeopt.documents import plain
from edgeopt.errors import DataError
from edgeopt.graph.evaluate import BUILT_IN
from edgeopt.graph.sample_options import SampleOptions
from edgeopt.graph.user_code import is_function, source_text


@dataclass(frozen=True)
class Samples:
    """Sample files (`edgeopt_runner.protocol.samples`) that fit a model.

    Attributes:
        summary: Where they came from.
        calibration: Inputs only.
        evaluation: Inputs, labels where there are some, reference outputs.
        golden: The first few of the evaluation samples, without labels.
        baseline: The source model's metric on the evaluation samples.
        notes: What the user should know (casts, small sets).
    """

    summary: DataSummary
    calibration: Path
    evaluation: Path
    golden: Path
    baseline: float
    notes: tuple[str, ...] = ()


def load_samples(
    source: str | None, model_path: Path, signature: Signature, *, options: SampleOptions, folder: Path
) -> Samples:
    """Read data, fit it to the model, split it, and compute the source model's outputs on it.

    Args:
        source: An `.npz` file (arrays by input name, optional `labels`), ``file.py:function`` or
            ``package.module:function`` that yields ``(inputs, labels)`` or inputs, or ``None`` for generated inputs.
            Of a function's stream only as much is read as the split can use, from its start: shuffle it there.
        model_path: The source model's ONNX file.
        signature: Its inputs and outputs.
        options: Sizes, seed, preparation, metric.
        folder: Where the three files go; exists.

    Raises:
        DataError: The data cannot be read or does not fit, or the metric cannot be computed from it; says which sample,
            which input, what the model wants, and a remedy.
        ModelError: The source model does not run on the data.
        ChildError: The user's function or the model crashed or ran past the deadline.
    """
    files = [text for text in (source, options.metric) if text is not None and is_function(text)]
    code = "\n".join(source_text(text, DataError) for text in files)
    check_source(source)
    _check_metric(options.metric)
    with tempfile.TemporaryDirectory(prefix=".samples-", dir=folder) as scratch:
        collected = run_child(
            "edgeopt.graph.collect:collect",
            {"source": source, "signature": plain(signature), "options": plain(options), "folder": scratch},
            deadline_seconds=options.deadline_seconds,
            what=f"reading {source or 'generated inputs'}",
        )
        labelled = "labels" in collected["members"]
        settled = replace(options, metric=options.metric or ("top1" if labelled else "fidelity"))
        result = run_child(
            "edgeopt.graph.split:split",
            {
                "collected": collected,
                "model": str(model_path),
                "signature": plain(signature),
                "options": plain(settled),
                "code": code,
                "folder": scratch,
            },
            deadline_seconds=options.deadline_seconds,
            what=f"running {model_path.name} on the samples",
        )
        for name in ("calibration", "evaluation", "golden"):
            Path(scratch, f"{name}.npz").replace(folder / f"{name}.npz")
    return Samples(
        summary=_summary(source, settled, result, labelled),
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        golden=folder / "golden.npz",
        baseline=result["baseline"],
        notes=(*collected["notes"], *result["notes"]),
    )


def _summary(source: str | None, options: SampleOptions, result: Mapping[str, Any], labelled: bool) -> DataSummary:
    return DataSummary(
        source=source or "generated",
        digest=result["digest"],
        calibration_samples=result["calibration"],
        evaluation_samples=result["evaluation"],
        metric=options.metric or "fidelity",
        labelled=labelled,
        generated=source is None,
        seed=options.seed,
        overlap=options.overlap,
    )


def check_source(source: str | None) -> None:
    """Refuse what cannot be data.

    Raises:
        DataError: It is neither an `.npz` file that is there nor a function.
    """
    if source is None or is_function(source):
        return
    path = Path(source)
    if path.suffix.lower() != ".npz":
        raise DataError(
            f"{source} is no kind of data that is known here ({path.suffix or 'no suffix'}).",
            remedy="Give an .npz file or a Python function, as in data.py:val.",
        )
    if not path.is_file():
        raise DataError(f"there is no file {source}.", remedy="Check the path.")


def _check_metric(metric: str | None) -> None:
    if metric is not None and metric not in BUILT_IN and not is_function(metric):
        raise DataError(f"--metric is {metric!r}.", remedy="It is top1, fidelity or file.py:function.")
