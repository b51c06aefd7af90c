"""Rollouts over simulated boards, planned and driven as the commands do it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.core.fleet import Caps, Fleet
from edgeopt.core.release import HealthFigures
from edgeopt.core.rollout import BoardProgress, GatePolicy, GateVerdict, Rollout
from edgeopt.fleet.patience import Patience
from edgeopt.fleet.plan import Forecast, build_plan
from edgeopt.fleet.rollout import new_rollout
from edgeopt.store.rollouts import RolloutStore
from edgeopt.workflow.fleet.engine import Terms, Watcher, drive
from edgeopt.workflow.fleet.engine_port import Order
from support.simulated_boards import SimulatedFleet, SimulatedSource

HASTE = Patience(tries=2, first_wait_seconds=0.02, away_seconds=0.1)
UPDATE = Forecast("update", send_bytes=100)


def figures(median_ns: float = 8e6, **changes: Any) -> HealthFigures:
    """What a board measured."""
    values = {"median_ns": int(median_ns), "p95_ns": int(median_ns * 1.2), "memory_bytes": 60 << 20, "cosine": 0.9999}
    return HealthFigures(**{**values, "runs": 50, **changes})


def progress(name: str, state: str = "committed", wave: int = 1, **fields: Any) -> BoardProgress:
    """How far a board is."""
    values: dict[str, Any] = {"profile": "pi5", "site": "", **fields}
    return BoardProgress(name, wave=wave, state=state, **values)


def planned(
    store: RolloutStore,
    boards: Fleet,
    manifest: str,
    waves: tuple[str, ...] = ("1", "10%", "100%"),
    gate: GatePolicy | None = None,
    caps: Caps | None = None,
    *,
    rollout_id: str = "0123456789abcdef",
    release: str = "detector@1.0.0",
    forecasts: dict[str, Forecast] | None = None,
) -> str:
    """Plan a rollout and keep it; returns its name."""
    known = forecasts or {board.name: UPDATE for board in boards.boards}
    plan = build_plan(
        release, manifest, boards.boards, known, waves=waves, terms=(gate or GatePolicy(), caps or Caps())
    )
    store.create(new_rollout(rollout_id, plan), key="key", now=1.0)
    return rollout_id


@dataclass
class Watching:
    """Keeps what it hears."""

    verdicts: list[GateVerdict] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    def moved(self, head: Rollout, boards: tuple[BoardProgress, ...]) -> None:
        self.heads.append(head.state)
        self.states += [(board.board, board.state) for board in boards]

    def judged(self, verdict: GateVerdict) -> None:
        self.verdicts.append(verdict)

    def bytes(self, board: str, there: int, of: int) -> None:
        assert 0 <= there <= of


def run(
    store: RolloutStore,
    rollout_id: str,
    simulated: SimulatedFleet,
    source: SimulatedSource,
    watcher: Watcher | None = None,
) -> Rollout:
    """Drive a rollout as far as it goes."""
    return drive(store, rollout_id, simulated.fleet, simulated.carrier(source), Terms(patience=HASTE), watcher)


def counts(rollout: Rollout) -> dict[str, int]:
    """Boards by state."""
    found: dict[str, int] = {}
    for board in rollout.boards:
        found[board.state] = found.get(board.state, 0) + 1
    return found


def forecast_of(
    simulated: SimulatedFleet, source: SimulatedSource, *, fence: int = 0
) -> Iterator[tuple[str, Forecast]]:
    """What every board's preflight says, as a plan takes it."""
    carrier = simulated.carrier(source)
    target = f"releases/detector/{source.version}.json"
    for name, board in simulated.boards.items():
        with carrier(name) as port:
            order = Order("plan", name, "detector", source.version, source.digest, target, board.profile, fence)
            found = port.preflight(order)
            action = "skip" if found.action == "refuse" else found.action
            yield name, Forecast(action, found.reason, found.send_bytes, found.free_bytes)


def database(folder: Path) -> RolloutStore:
    """A store of our own."""
    return RolloutStore(folder / "ledger.sqlite")
