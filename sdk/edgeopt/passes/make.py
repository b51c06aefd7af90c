"""Makes one variant: every pass of a recipe in its own child process, checked and compared after each.

Results are kept by a key of all that they depend on, so that recipes share their first passes and a run that was killed
goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeopt.child import run_child
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import ChildError, EdgeoptError, ParityError, PassError
from edgeopt.graph.parity import Parity
from edgeopt.passes._base import EXACT, Pass
from edgeopt.passes._files import file_digest
from edgeopt.passes.registry import load_pass
from edgeopt.passes.tools import tool_versions

UNCHANGED = Parity(cosine=1.0, max_abs=0.0, sqnr_db=200.0, finite=True, constant=False)


@dataclass(frozen=True)
class MakeContext:
    """What making a variant needs besides network and recipe.

    Attributes:
        golden: Sample file for parity, best with the original's outputs in it.
        cache: Folder for results and intermediate files; variants and runs may share it, and it may be deleted.
        calibration: Sample file with typical inputs, or ``None``.
        machine: ``uname -m`` of the device.
        isa: Its ISA flags.
        seed: Seed of every random choice.
        keep_float: Names of nodes that lossy passes leave in float.
        deadline_seconds: For each pass.
    """

    golden: Path
    cache: Path
    calibration: Path | None = None
    machine: str = "x86_64"
    isa: tuple[str, ...] = ()
    seed: int = 0
    keep_float: tuple[str, ...] = ()
    deadline_seconds: float = 600.0


@dataclass(frozen=True)
class Made:
    """A variant's file and how it compares.

    Attributes:
        path: ONNX file; the source itself where the recipe is empty or every optional pass fell back.
        notes: What the passes had to say, in order.
        kept_float: Nodes that stayed in float.
        parity: Agreement with the source model on the golden samples.
    """

    path: Path
    notes: tuple[str, ...] = ()
    kept_float: tuple[str, ...] = ()
    parity: Parity = UNCHANGED


def make_variant(source: Path, recipe: Recipe, context: MakeContext) -> Made:
    """Run a recipe.

    Args:
        source: ONNX file of the unmodified network.
        recipe: What to do.
        context: Data, device and folders.

    Raises:
        PassError: A pass failed, crashed, ran past its deadline or made nothing of use; names the pass. Drops this
            variant only.
        ParityError: The outputs after a pass are wrong.
    """
    steps = [(spec, load_pass(spec)) for spec in recipe.passes]
    context.cache.mkdir(parents=True, exist_ok=True)
    made, key = Made(source), digest_of(file_digest(source), tool_versions())
    for spec, step in steps:
        key = digest_of(key, _identity(spec, step, context))
        made = _stored(made, context.cache, key) or _made_now(source, made, spec, step, context, key)
    return made


def digest_of(*parts: Any) -> str:
    """A key of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _identity(spec: PassSpec, step: Pass, context: MakeContext) -> list[Any]:
    """Everything that this step's bytes depend on, besides its input."""
    data = file_digest(context.calibration) if context.calibration and step.needs_calibration else ""
    return [
        spec.name,
        asdict(step.options),
        data,
        context.seed,
        context.machine,
        sorted(context.isa),
        _kept(step, context),
    ]


def _kept(step: Pass, context: MakeContext) -> list[str]:
    return sorted(context.keep_float) if step.min_cosine < EXACT else []


def _stored(before: Made, cache: Path, key: str) -> Made | None:
    """What an earlier call kept, if it is whole."""
    path, record = cache / f"{key}.onnx", cache / f"{key}.json"
    try:
        document = json.loads(record.read_text())
        if document.get("skipped"):
            return _after_skip(before, document["skipped"])
        if file_digest(path) != document["digest"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return _after(before, path, document)


def _after(before: Made, path: Path, document: Mapping[str, Any]) -> Made:
    return Made(
        path=path,
        notes=(*before.notes, *document["notes"]),
        kept_float=(*before.kept_float, *document["kept_float"]),
        parity=Parity(**document["parity"]),
    )


def _after_skip(before: Made, reason: str) -> Made:
    return Made(before.path, (*before.notes, reason), before.kept_float, before.parity)


def _made_now(source: Path, before: Made, spec: PassSpec, step: Pass, context: MakeContext, key: str) -> Made:
    path = context.cache / f"{key}.onnx"
    with tempfile.TemporaryDirectory(dir=context.cache, prefix="work-") as work:
        try:
            document = _run(source, before.path, spec, step, context, Path(work))
        except PassError as error:
            if not step.optional:
                raise
            note = f"{error.message} Went on with the result before it."
            if not isinstance(error.__cause__, ChildError):
                _keep(context.cache, key, {"skipped": note})
            return _after_skip(before, note)
        produced = Path(work, "result.onnx")
        document["digest"] = file_digest(produced)
        produced.replace(path)
    _keep(context.cache, key, document)
    return _after(before, path, document)


def _run(source: Path, current: Path, spec: PassSpec, step: Pass, context: MakeContext, work: Path) -> dict[str, Any]:
    """One pass in its child; every failure comes back as a `PassError` that names the pass."""
    arguments = {
        "name": spec.name,
        "options": dict(spec.options),
        "paths": {
            "source": str(current),
            "destination": str(work / "result.onnx"),
            "original": str(source),
            "golden": str(context.golden),
        },
        "context": {
            "work": str(work),
            "calibration": str(context.calibration) if context.calibration else "",
            "cache": str(context.cache),
            "machine": context.machine,
            "isa": list(context.isa),
            "seed": context.seed,
            "keep_float": _kept(step, context),
        },
    }
    try:
        document: dict[str, Any] = run_child(
            "edgeopt.passes._step:run_step",
            arguments,
            deadline_seconds=context.deadline_seconds,
            what=f"pass {spec.name}",
        )
    except ParityError as error:
        raise ParityError(f"pass {spec.name}: {error.message}", remedy=error.remedy) from None
    except ChildError as error:
        raise PassError(error.message, remedy=error.remedy) from error
    except EdgeoptError as error:
        raise PassError(f"pass {spec.name}: {error.message}", remedy=error.remedy) from None
    return document


def _keep(cache: Path, key: str, document: Mapping[str, Any]) -> None:
    partial = cache / f"{key}.{os.getpid()}.part"
    partial.write_text(json.dumps(document))
    partial.replace(cache / f"{key}.json")
