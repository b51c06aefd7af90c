"""One pass in a child process: apply it, then check what it made; only what passes every check leaves the child."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeopt.core.formats import ONNX
from edgeopt.core.recipe import PassSpec
from edgeopt.errors import EdgeoptError, ParityError, PassError
from edgeopt.graph.parity import Parity, compare, first_divergence
from edgeopt.graph.session import open_session
from edgeopt.passes._base import ANY, EXACT, WIDELY_READ_IR, Pass, PassContext, format_of
from edgeopt.passes.graphs.prepare import opset_of
from edgeopt.passes.graphs.questions import census
from edgeopt.passes.registry import load_pass
from edgeopt_runner.protocol.samples import REFERENCE, SampleFile

PARITY_SAMPLES = 4
_LAST_OPSET_OF_IR_10 = 22


def run_step(
    name: str, options: dict[str, Any], paths: dict[str, str], context: dict[str, Any], min_cosine: float | None = None
) -> dict[str, Any]:
    """Apply one pass and check the result; arguments and result are JSON.

    Args:
        name: Entry-point name of the pass.
        options: Its options.
        paths: ``source``, ``destination``, ``original`` (the unmodified network) and ``golden`` (sample file).
        context: Fields of `PassContext`.
        min_cosine: Another bound than the pass's own.

    Raises:
        PassError: The pass failed, or made something that does not check, load or do what the pass is for.
        ParityError: The result's outputs are wrong.
    """
    step = load_pass(PassSpec(name, options))
    destination = Path(paths["destination"])
    report = step.apply(Path(paths["source"]), destination, _context(context))
    opset, ir_version = _check_file(step, destination)
    bound = step.min_cosine if min_cosine is None else min_cosine
    original, golden = Path(paths["original"]), Path(paths["golden"])
    if bound >= EXACT and paths["source"] != paths["original"]:  # what it has to equal is its own input
        check_parity(Path(paths["source"]), destination, golden, bound, stored=False)
        bound = ANY
    parity = check_parity(original, destination, golden, bound)
    return {
        "notes": report.notes,
        "kept_float": report.kept_float,
        "parity": asdict(parity),
        "opset": opset,
        "ir_version": ir_version,
    }


def _context(fields: dict[str, Any]) -> PassContext:
    optional = ("calibration", "cache", "original", "training", "checkpoint")
    paths = {name: Path(fields[name]) if fields.get(name) else None for name in optional}
    return PassContext(
        work=Path(fields["work"]),
        machine=fields["machine"],
        isa=tuple(fields["isa"]),
        seed=fields["seed"],
        keep_float=tuple(fields["keep_float"]),
        loss=fields.get("loss", ""),
        **paths,
    )


def _check_file(step: Pass, path: Path) -> tuple[int, int]:
    """Check form, loading and census; opset and IR version of the file, zeros where it is not ONNX."""
    import onnx

    if not path.exists() or not path.stat().st_size:
        raise PassError("it ended without a file.")
    if format_of(step) != ONNX:
        _require_loads(path)
        return 0, 0
    versions = _lower_ir(path)
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise PassError(f"its result is not valid ONNX: {' '.join(str(error).split())[:300]}") from None
    _require_loads(path)
    if step.yields and not step.yields.intersection(census(path)):
        raise PassError(
            f"it changed nothing: the result holds no {' or '.join(sorted(step.yields))}.",
            remedy="The network has no layer that this pass can compress.",
        )
    return versions


def _require_loads(path: Path) -> None:
    try:
        open_session(path)
    except EdgeoptError as error:
        raise PassError(f"its result does not load: {error.message}", remedy=error.remedy) from None


def _lower_ir(path: Path) -> tuple[int, int]:
    """Mark the file with the oldest IR version that says the same, so that older runtimes read it."""
    import onnx

    model = onnx.load(path)
    opset = opset_of(model)
    if model.ir_version > WIDELY_READ_IR and opset <= _LAST_OPSET_OF_IR_10:
        model.ir_version = WIDELY_READ_IR
        onnx.save(model, path)
    return opset, model.ir_version


def check_parity(original: Path, candidate: Path, golden: Path, min_cosine: float, *, stored: bool = True) -> Parity:
    """Compare outputs with the original's: those stored with the golden samples, where there are some and `stored`.

    Raises:
        ParityError: Not finite, constant where the original is not, or below `min_cosine`; names the first layer that
            differs where it can be found.
    """
    known = stored and SampleFile(str(golden)).names(REFERENCE)
    parity = compare(None if known else original, candidate, golden, PARITY_SAMPLES)
    if not parity.finite:
        raise ParityError("its outputs are not finite." + _where(original, candidate, golden))
    if parity.constant:
        raise ParityError("its outputs do not depend on the inputs.")
    if parity.cosine < min_cosine:
        raise ParityError(
            f"its outputs differ from the original's: cosine {parity.cosine:.4f}, at least {min_cosine:g} was asked, "
            f"largest difference {parity.max_abs:.3g}." + _where(original, candidate, golden)
        )
    return parity


def _where(original: Path, candidate: Path, golden: Path) -> str:
    if candidate.suffix != f".{ONNX}":
        return ""
    with contextlib.suppress(EdgeoptError, ValueError, RuntimeError):
        found = first_divergence(original, candidate, golden, bound=0.99)
        return f" It starts at {found}." if found else ""
    return ""
