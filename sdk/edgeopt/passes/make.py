"""Makes one variant: every pass of a recipe in its own child process, checked and compared after each.

Results are kept by a key of all that they depend on, so that recipes share their first passes and a run that was killed
goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt.child import Progress, run_child
from edgeopt.core.formats import ONNX
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import ChildError, EdgeoptError, ParityError, PassError
from edgeopt.graph.parity import Parity
from edgeopt.graph.user_code import is_function, source_text
from edgeopt.passes._base import EXACT, Pass, format_of
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
        deadline_seconds: For each pass; passes that train get their own `max_seconds` on top.
        trainable: The network in a form in which nothing is folded, for recipes that train; ``None`` takes the source.
        training: Sample file for passes that train, or ``None``.
        loss: The user's loss as ``file.py:function``; empty takes the one that fits the labels.
        on_progress: Hears how far a pass is.
    """

    golden: Path
    cache: Path
    calibration: Path | None = None
    machine: str = "x86_64"
    isa: tuple[str, ...] = ()
    seed: int = 0
    keep_float: tuple[str, ...] = ()
    deadline_seconds: float = 600.0
    trainable: Path | None = None
    training: Path | None = None
    loss: str = ""
    on_progress: Progress | None = None


@dataclass(frozen=True)
class Made:
    """A variant's file and how it compares.

    Attributes:
        path: The file; the source itself where the recipe is empty or every optional pass fell back.
        notes: What the passes had to say, in order.
        kept_float: Nodes that stayed in float.
        parity: Agreement with the source model on the golden samples.
        stages: The ONNX files that led there, first to last; the source is not among them.
    """

    path: Path
    notes: tuple[str, ...] = ()
    kept_float: tuple[str, ...] = ()
    parity: Parity = UNCHANGED
    stages: tuple[Path, ...] = ()

    @property
    def format(self) -> str:
        """Of the file, by its suffix; one without is ONNX."""
        return self.path.suffix[1:] or ONNX


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
    original = _original(source, [step for _, step in steps], context)
    made, key = Made(original), digest_of(file_digest(original), file_digest(source), tool_versions())
    for spec, step in steps:
        key = digest_of(key, _identity(spec, step, context))
        made = _Step(original, spec, step, context, key).result(made)
    return made


def _original(source: Path, steps: Sequence[Pass], context: MakeContext) -> Path:
    """The form of the unmodified network that a recipe starts from."""
    return context.trainable if context.trainable and any(step.trains for step in steps) else source


def digest_of(*parts: Any) -> str:
    """A key of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _identity(spec: PassSpec, step: Pass, context: MakeContext) -> list[Any]:
    """Everything that this step's bytes depend on, besides its input."""
    uses_calibration = step.needs_calibration or step.trains
    data = [file_digest(context.calibration) if context.calibration and uses_calibration else ""]
    if step.trains:
        data += [file_digest(context.training) if context.training else "", context.loss]
    return [
        spec.name,
        asdict(step.options),
        [_text_of(value) for value in [*asdict(step.options).values(), context.loss] if isinstance(value, str)],
        data,
        context.seed,
        context.machine,
        sorted(context.isa),
        _kept(step, context),
    ]


def _text_of(value: str) -> str:
    """What an option that names the user's function depends on."""
    return source_text(value, PassError) if is_function(value) else ""


def _kept(step: Pass, context: MakeContext) -> list[str]:
    """Layers that must stay in float; nothing to passes that train, or every such layer would train all again."""
    return sorted(context.keep_float) if step.min_cosine < EXACT and not step.trains else []


@dataclass(frozen=True)
class _Step:
    """One pass of a recipe, and the key that its result is kept by."""

    original: Path
    spec: PassSpec
    step: Pass
    context: MakeContext
    key: str

    def result(self, before: Made) -> Made:
        """What an earlier call kept, if it is whole, else what is made now."""
        return self._stored(before) or self._made_now(before)

    def _path(self, suffix: str) -> Path:
        return self.context.cache / f"{self.key}.{suffix}"

    @property
    def _result(self) -> Path:
        return self._path(format_of(self.step))

    def _stored(self, before: Made) -> Made | None:
        try:
            document = json.loads(self._path("json").read_text())
            if document.get("skipped"):
                return _after_skip(before, document["skipped"])
            if file_digest(self._result) != document["digest"]:
                return None
        except (OSError, ValueError, KeyError):
            return None
        return _after(before, self._result, document)

    def _made_now(self, before: Made) -> Made:
        with tempfile.TemporaryDirectory(dir=self.context.cache, prefix="work-") as work:
            try:
                document = self._run(before.path, Path(work))
            except PassError as error:
                if not self.step.optional:
                    raise
                note = f"{error.message} Went on with the result before it."
                if not isinstance(error.__cause__, ChildError):
                    self._keep({"skipped": note})
                return _after_skip(before, note)
            produced = Path(work, f"result.{format_of(self.step)}")
            document["digest"] = file_digest(produced)
            produced.replace(self._result)
        self._keep(document)
        self._path("checkpoint").unlink(missing_ok=True)
        return _after(before, self._result, document)

    def _run(self, current: Path, work: Path) -> dict[str, Any]:
        """The pass in its child; every failure comes back as a `PassError` that names the pass."""
        name, context = self.spec.name, self.context
        try:
            document: dict[str, Any] = run_child(
                "edgeopt.passes._step:run_step",
                self._arguments(current, work),
                deadline_seconds=context.deadline_seconds + getattr(self.step.options, "max_seconds", 0.0),
                what=f"pass {name}",
                on_progress=context.on_progress,
            )
        except ParityError as error:
            raise ParityError(f"pass {name}: {error.message}", remedy=error.remedy) from None
        except ChildError as error:
            raise PassError(error.message, remedy=error.remedy) from error
        except EdgeoptError as error:
            raise PassError(f"pass {name}: {error.message}", remedy=error.remedy) from None
        return document

    def _arguments(self, current: Path, work: Path) -> dict[str, Any]:
        context = self.context
        return {
            "name": self.spec.name,
            "options": dict(self.spec.options),
            "paths": {
                "source": str(current),
                "destination": str(work / f"result.{format_of(self.step)}"),
                "original": str(self.original),
                "golden": str(context.golden),
            },
            "context": {
                "work": str(work),
                "calibration": str(context.calibration or ""),
                "cache": str(context.cache),
                "machine": context.machine,
                "isa": list(context.isa),
                "seed": context.seed,
                "keep_float": _kept(self.step, context),
                "original": str(self.original),
                "training": str(context.training or ""),
                "loss": context.loss,
                "checkpoint": str(self._path("checkpoint")),
            },
        }

    def _keep(self, document: Mapping[str, Any]) -> None:
        partial = self._path(f"{os.getpid()}-{threading.get_ident()}.part")
        partial.write_text(json.dumps(document))
        partial.replace(self._path("json"))


def _after(before: Made, path: Path, document: Mapping[str, Any]) -> Made:
    return Made(
        path=path,
        notes=(*before.notes, *document["notes"]),
        kept_float=(*before.kept_float, *document["kept_float"]),
        parity=Parity(**document["parity"]),
        stages=(*before.stages, path) if path.suffix == f".{ONNX}" else before.stages,
    )


def _after_skip(before: Made, reason: str) -> Made:
    return replace(before, notes=(*before.notes, reason))
