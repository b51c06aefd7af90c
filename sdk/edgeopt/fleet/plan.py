"""The plan of a rollout: what happens to each board, in which wave; frozen, with a digest of all of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeopt.core.fleet import Board, Caps
from edgeopt.core.rollout import GatePolicy, Plan, PlannedBoard
from edgeopt.documents import plain
from edgeopt.fleet.waves import assign_waves


@dataclass(frozen=True)
class Forecast:
    """What is known of a board before anything is done: a preflight's answer, or why there is none.

    Attributes:
        action, reason, send_bytes, free_bytes, seconds, before: As in `PlannedBoard`.
    """

    action: Literal["update", "nothing", "skip", "unknown"]
    reason: str = ""
    send_bytes: int = 0
    free_bytes: int | None = None
    seconds: float | None = None
    before: str = ""


UNKNOWN = Forecast("unknown", "not asked")


def build_plan(
    release: str,
    manifest: str,
    boards: Sequence[Board],
    forecasts: Mapping[str, Forecast],
    *,
    waves: Sequence[str],
    terms: tuple[GatePolicy, Caps],
) -> Plan:
    """Freeze a rollout.

    Args:
        release: ``app@version``.
        manifest: SHA-256 of its manifest.
        boards: Those that the operator selected.
        forecasts: By name of the board; one that is not there is ``unknown``.
        waves: Words of `fleet.waves`.
        terms: When the next wave may begin, and how much at once.

    Returns:
        Boards that need nothing, or cannot take part, are in wave 0, after the others.

    Raises:
        UsageError: A wave names no board.
    """
    known = {board.name: forecasts.get(board.name, UNKNOWN) for board in boards}
    working = [board for board in boards if known[board.name].action in ("update", "unknown")]
    planned: list[PlannedBoard] = []
    for number, wave in enumerate(assign_waves(working, waves, release), 1):
        planned += [_planned(board, known[board.name], number) for board in wave]
    names = {board.board for board in planned}
    for board in boards:
        forecast = known[board.name]
        if board.name not in names:
            if forecast.action in ("update", "unknown"):
                forecast = dataclasses.replace(forecast, action="skip", reason="no wave takes it", send_bytes=0)
            planned.append(_planned(board, forecast, 0))
    gate, caps = terms
    return sealed(Plan(release, manifest, tuple(waves), tuple(planned), gate, caps))


def _planned(board: Board, forecast: Forecast, wave: int) -> PlannedBoard:
    return PlannedBoard(board.name, board.profile, board.site, wave, **dataclasses.asdict(forecast))


def sealed(plan: Plan) -> Plan:
    """The plan with the digest of everything else in it."""
    document = plain(dataclasses.replace(plan, digest=""))
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return dataclasses.replace(plan, digest=hashlib.sha256(text.encode()).hexdigest())
