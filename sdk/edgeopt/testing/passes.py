"""Conformance suite for authors of passes: what every pass must do, checked on networks of your choice.

In a test of your package::

    import pytest
    from edgeopt.testing.passes import CHECKS, Case

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_pass_conforms(check, tmp_path):
        check(Case("my_pass", {"bits": 4}, network=..., samples=..., work=tmp_path))
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.passes._base import EXACT, Pass, PassContext, format_of
from edgeopt.passes._step import run_step
from edgeopt.passes.registry import load_pass, pass_class

SIZE_FACTOR = 1.5
SIZE_SLACK_BYTES = 64 << 10


@dataclass(frozen=True)
class Case:
    """A pass and something to try it on.

    Attributes:
        name: Entry-point name of the pass.
        options: Options that differ from its defaults.
        network: ONNX file that the pass can change.
        samples: Sample file with the network's inputs, at least four samples.
        work: Empty folder.
        isa: ISA flags of the device that is meant.
        training: Sample file with labels, for passes that train.
    """

    name: str
    network: Path
    samples: Path
    work: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    isa: tuple[str, ...] = ("avx2",)
    training: Path | None = None


def check_declares_itself(case: Case) -> None:
    """Name, bound and operators are what the slot says; options are a frozen dataclass with readable defaults."""
    kind = pass_class(case.name)
    assert kind.name == case.name, f"the class calls itself {kind.name!r}, its entry point {case.name!r}"
    assert -1 <= kind.min_cosine <= 1, f"min_cosine is {kind.min_cosine}"
    options = kind.options_class
    assert dataclasses.is_dataclass(options), "options_class is not a dataclass"
    assert options.__hash__ is not None, "options_class is not frozen"
    assert options() == options(), "two sets of default options are not equal"
    assert kind.__doc__, "the pass has no docstring"
    assert options.__doc__, "its options have no docstring"


def check_refuses_unknown_options(case: Case) -> None:
    """An option that does not exist is named in the error."""
    message = _refusal(lambda: load_pass(PassSpec(case.name, {"no_such_option": 1})))
    assert "no_such_option" in message, "an unknown option was accepted, or not named"


def check_is_right(case: Case) -> None:
    """The made file checks, loads, is not constant and agrees as well as the pass declares; nothing was refused.

    The step that a recipe runs in a child process runs in this one here: a child would only load the libraries again.
    """
    work = case.work / "right"
    work.mkdir(parents=True)
    destination = work / f"result.{format_of(_loaded(case))}"
    paths = {"source": case.network, "destination": destination, "original": case.network, "golden": case.samples}
    context = {
        "work": str(work),
        "calibration": str(case.samples),
        "machine": "x86_64",
        "isa": list(case.isa),
        "seed": 0,
        "keep_float": [],
        "original": str(case.network),
        "training": str(case.training or ""),
    }
    found = run_step(case.name, dict(case.options), {name: str(path) for name, path in paths.items()}, context)
    json.dumps(found)  # as it leaves the child


def check_repeats_itself(case: Case) -> None:
    """Same input and seed, same bytes; the input is left as it was."""
    before = case.network.read_bytes()
    first, second = _apply(case, "first"), _apply(case, "second")
    assert first.read_bytes() == second.read_bytes(), "two runs made different bytes"
    assert case.network.read_bytes() == before, "the pass changed its input"


def check_is_bounded(case: Case) -> None:
    """The result is not much larger than the input."""
    size, limit = _apply(case, "bounded").stat().st_size, case.network.stat().st_size * SIZE_FACTOR + SIZE_SLACK_BYTES
    assert size <= limit, f"the result has {size} bytes, more than the {limit:.0f} allowed"


def check_keeps_float(case: Case) -> None:
    """A lossy pass refuses to keep a node that does not exist, rather than keep nothing in silence."""
    if pass_class(case.name).min_cosine >= EXACT or pass_class(case.name).trains:
        return
    message = _refusal(lambda: _apply(case, "kept", keep_float=("no_such_node",)))
    assert "no_such_node" in message, "an unknown node in keep_float was accepted, or not named"


def check_asks_for_calibration(case: Case) -> None:
    """A pass that needs samples says so when there are none; one that does not works without."""
    refused = bool(_refusal(lambda: _apply(case, "uncalibrated", calibration=None)))
    assert refused == _loaded(case).needs_calibration, f"needs_calibration is {not refused}, refused without: {refused}"


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_declares_itself,
    check_refuses_unknown_options,
    check_is_right,
    check_repeats_itself,
    check_is_bounded,
    check_keeps_float,
    check_asks_for_calibration,
)
"""All checks; each takes a `Case` and raises AssertionError."""


def _refusal(action: Callable[[], object]) -> str:
    """The message of the PassError that `action` raises; empty where it raises none."""
    try:
        action()
    except PassError as error:
        return str(error)
    return ""


def _loaded(case: Case) -> Pass:
    return load_pass(PassSpec(case.name, case.options))


def _apply(case: Case, name: str, **changes: Any) -> Path:
    work = case.work / name
    work.mkdir(parents=True)
    context = PassContext(
        work=work, calibration=case.samples, isa=case.isa, training=case.training, original=case.network
    )
    step = _loaded(case)
    destination = work / f"result.{format_of(step)}"
    step.apply(case.network, destination, dataclasses.replace(context, **changes))
    return destination
