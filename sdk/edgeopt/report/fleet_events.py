"""What happens in a rollout as documents for machines: one JSON object a line."""

from __future__ import annotations

import json
from typing import Any

from edgeopt.core.release import HealthFigures
from edgeopt.core.rollout import BoardProgress, GateVerdict, Rollout
from edgeopt.report.fleet_summary import change, counts_of, headline


def rollout_event(rollout: Rollout, time: float) -> dict[str, Any]:
    """The rollout's own state; `counts` are boards by state."""
    return {
        "event": "rollout",
        "time": time,
        "rollout": rollout.rollout_id,
        "release": rollout.plan.release,
        "state": rollout.state,
        "wave": rollout.wave,
        "reason": rollout.reason,
        "counts": dict(sorted(counts_of(rollout).items())),
        "summary": headline(rollout),
    }


def board_event(board: BoardProgress, rollout_id: str) -> dict[str, Any]:
    """A board got further; `change` is relative, of the median latency."""
    return {
        "event": "board",
        "time": board.updated_at,
        "rollout": rollout_id,
        "board": board.board,
        "profile": board.profile,
        "site": board.site,
        "wave": board.wave,
        "state": board.state,
        "failure": board.failure,
        "detail": board.detail,
        "attempts": board.attempts,
        "sent_bytes": board.sent_bytes,
        "version": board.version,
        "before": _figures(board.before),
        "after": _figures(board.after),
        "change": change(board),
    }


def gate_event(gate: GateVerdict, rollout_id: str) -> dict[str, Any]:
    """What a gate said."""
    slower = [{"profile": row[0], "estimate": row[1], "low": row[2], "high": row[3]} for row in gate.slower]
    return {
        "event": "gate",
        "time": gate.judged_at,
        "rollout": rollout_id,
        "wave": gate.wave,
        "verdict": gate.verdict,
        "reasons": list(gate.reasons),
        "counts": dict(gate.counts),
        "slower": slower,
    }


def line_of(event: dict[str, Any]) -> str:
    """An event on one line, ASCII only: nothing in it can end the line or move a cursor."""
    return json.dumps(event, separators=(",", ":"), allow_nan=False) + "\n"


def _figures(figures: HealthFigures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "median_ns": figures.median_ns,
        "p95_ns": figures.p95_ns,
        "memory_bytes": figures.memory_bytes,
        "cosine": figures.cosine,
        "runs": figures.runs,
        "disturbed": figures.disturbed,
    }
