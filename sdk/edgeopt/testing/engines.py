"""Conformance suite for authors of engines: what every device-side adapter of a runtime must do.

Run all checks at once with `check_engine`, or one test a check::

    @pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda check: check.__name__)
    def test_my_engine(check):
        check(EngineCase(ENGINE, "model.bin", feeds))

An engine is taken by its shape (`edgeopt_runner.engines`), not its class: this suite imports nothing of the runner.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.core.profile import Settings


@dataclass(frozen=True)
class EngineCase:
    """What the checks are run on.

    Attributes:
        engine: The engine; its runtime must be installed.
        model_path: A model file that it can load, deterministic, with at least one output that follows its inputs.
        feeds: Arrays by input name, with all dimensions.
        settings: Settings to load it with; `runtime` is replaced by the engine's name.
    """

    engine: Any
    model_path: Path | str
    feeds: Mapping[str, Any]
    settings: Settings = field(default_factory=Settings)

    def load(self, **replaced: Any) -> Any:
        """A session of the case's model."""
        settings = {**asdict(self.settings), "runtime": self.engine.name, **replaced}
        return self.engine.load(str(self.model_path), settings)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return set(first) == set(second) and all(
        np.allclose(first[name], second[name], rtol=1e-4, atol=1e-5) for name in first
    )


def tells_its_version(case: EngineCase) -> None:
    """`available()` gives a version and a list of providers, as plain strings."""
    found = case.engine.available()
    _require(isinstance(case.engine.name, str) and bool(case.engine.name), "name must be a word that settings can use")
    _require(isinstance(found, dict), f"available() must return a dict where the runtime is installed, not {found!r}")
    _require(
        isinstance(found.get("version"), str) and bool(found["version"]), "available()['version'] must be a string"
    )
    providers = found.get("providers")
    plain = isinstance(providers, list) and all(isinstance(name, str) for name in providers)
    _require(plain, f"available()['providers'] must be a list of strings, not {providers!r}")


def names_inputs_and_outputs(case: EngineCase) -> None:
    """A session names all inputs, and `run` returns an array for every output it names, in that order."""
    session = case.load()
    try:
        _require(set(session.inputs) == set(case.feeds), f"inputs are {session.inputs}, fed are {sorted(case.feeds)}")
        outputs = session.run(dict(case.feeds))
        _require(list(outputs) == list(session.outputs), f"run() gave {list(outputs)}, outputs are {session.outputs}")
        arrays = all(isinstance(value, np.ndarray) for value in outputs.values())
        _require(arrays and bool(outputs), "run() must return NumPy arrays by output name")
    finally:
        session.close()


def repeats_itself(case: EngineCase) -> None:
    """The same feeds give the same outputs, in one session and in the next, and feeds are not written to."""
    feeds = {name: np.array(value) for name, value in case.feeds.items()}
    session = case.load()
    try:
        first = {name: np.array(value) for name, value in session.run(feeds).items()}
        _require(_same(first, session.run(feeds)), "run() gave other outputs for the same feeds")
    finally:
        session.close()
    _require(all(np.array_equal(feeds[name], case.feeds[name]) for name in feeds), "run() changed the caller's feeds")
    session = case.load()
    try:
        _require(_same(first, session.run(feeds)), "a second session gave other outputs for the same feeds")
    finally:
        session.close()


def keeps_returned_outputs(case: EngineCase) -> None:
    """Outputs that a caller holds are not overwritten by a later run."""
    session = case.load()
    try:
        held = session.run(dict(case.feeds))
        copies = {name: np.array(value) for name, value in held.items()}
        session.run({name: np.zeros_like(value) for name, value in case.feeds.items()})
        _require(_same(copies, held), "a later run() overwrote outputs that were returned before")
    finally:
        session.close()


def prepares_timed_calls(case: EngineCase) -> None:
    """`prepare` returns a call without arguments; several prepared on one session keep their own feeds."""
    session = case.load()
    try:
        calls = [session.prepare(dict(case.feeds)) for _ in range(4)]
        for call in calls + calls:
            call()
        _require(_same(session.run(dict(case.feeds)), session.run(dict(case.feeds))), "prepared calls spoil later runs")
    finally:
        session.close()


def tells_placement(case: EngineCase) -> None:
    """`placement()` counts operators by provider, or is empty, and the session works afterwards."""
    session = case.load()
    try:
        before = {name: np.array(value) for name, value in session.run(dict(case.feeds)).items()}
        placement = session.placement()
        fits = isinstance(placement, dict) and all(
            isinstance(name, str) and isinstance(count, int) for name, count in placement.items()
        )
        _require(fits, f"placement() must be counts by name, not {placement!r}")
        _require(_same(before, session.run(dict(case.feeds))), "the session is broken after placement()")
    finally:
        session.close()


def honours_threads(case: EngineCase) -> None:
    """One and two threads both work and agree."""
    results = []
    for threads in (1, 2):
        session = case.load(threads=threads)
        try:
            results.append({name: np.array(value) for name, value in session.run(dict(case.feeds)).items()})
        finally:
            session.close()
    _require(_same(*results), "outputs depend on the number of threads")


def takes_the_rows_it_says(case: EngineCase) -> None:
    """Where `rows` is 0, feeds joined along their first dimension give joined outputs; else feeds have so many rows."""
    session = case.load()
    try:
        if session.rows:
            counts = {len(value) for value in case.feeds.values()}
            _require(counts == {session.rows}, f"rows is {session.rows}, but the feeds have {sorted(counts)}")
        if session.rows == 0:
            alone = {name: np.array(value) for name, value in session.run(dict(case.feeds)).items()}
            joined = session.run({name: np.concatenate([value, value]) for name, value in case.feeds.items()})
            doubled = {name: np.concatenate([value, value]) for name, value in alone.items()}
            _require(_same(doubled, joined), "rows is 0, but two samples together give other outputs than one by one")
            _require(
                _same(alone, session.run(dict(case.feeds))), "one sample after two gives other outputs than before"
            )
    finally:
        session.close()


def refuses_settings_it_does_not_have(case: EngineCase) -> None:
    """A precision and a provider that nobody has raise `LoadFailed` (a ValueError): ignored, they would be measured."""
    for name in ("precision", "provider"):
        try:
            case.load(**{name: "no-such-thing"}).close()
        except ValueError as error:
            _require(bool(str(error)) and "\n" not in str(error), "load() must say why on one line")
        else:
            raise AssertionError(f"load() accepted {name} 'no-such-thing'")


def refuses_what_is_no_model(case: EngineCase) -> None:
    """A file that is no model, and one that is not there, raise `LoadFailed` (a ValueError) with one line."""
    with tempfile.TemporaryDirectory() as folder:
        garbage = Path(folder, "garbage")
        garbage.write_bytes(b"this is not a model" * 100)
        for path in (garbage, Path(folder, "absent")):
            try:
                case.engine.load(str(path), {**asdict(case.settings), "runtime": case.engine.name}).close()
            except ValueError as error:
                _require(
                    bool(str(error)) and "\n" not in str(error), f"load() must say why on one line, not {error!s:.80}"
                )
            else:
                raise AssertionError(f"load() accepted {path.name}, which is no model")


def refuses_wrong_feeds(case: EngineCase) -> None:
    """Feeds that do not fit raise `RunFailed` (a RuntimeError), and the session still works afterwards."""
    session = case.load()
    try:
        before = {name: np.array(value) for name, value in session.run(dict(case.feeds)).items()}
        try:
            session.run({})
        except RuntimeError as error:
            _require(bool(str(error)) and "\n" not in str(error), "run() must say why on one line")
        else:
            raise AssertionError("run() accepted a feed without its inputs")
        _require(_same(before, session.run(dict(case.feeds))), "the session is broken after it refused wrong feeds")
    finally:
        session.close()


ENGINE_CHECKS: tuple[Callable[[EngineCase], None], ...] = (
    tells_its_version,
    names_inputs_and_outputs,
    repeats_itself,
    keeps_returned_outputs,
    prepares_timed_calls,
    tells_placement,
    honours_threads,
    takes_the_rows_it_says,
    refuses_settings_it_does_not_have,
    refuses_what_is_no_model,
    refuses_wrong_feeds,
)
"""Every check, in order; each raises AssertionError with what the engine does wrong."""


def check_engine(
    engine: Any, model_path: Path | str, feeds: Mapping[str, Any], *, settings: Settings | None = None
) -> tuple[str, ...]:
    """Run every check and return what is wrong, one sentence each; empty for an engine that conforms.

    Args:
        engine: The engine.
        model_path: See `EngineCase`.
        feeds: See `EngineCase`.
        settings: See `EngineCase`; default settings where left out.
    """
    case = EngineCase(engine, model_path, feeds, settings or Settings())
    problems = []
    for check in ENGINE_CHECKS:
        try:
            check(case)
        except AssertionError as error:
            problems.append(f"{check.__name__}: {error}")
        except Exception as error:  # whatever a foreign engine raises is a finding, and the other checks still run
            problems.append(f"{check.__name__}: it raised {type(error).__name__}: {error}")
    return tuple(problems)
