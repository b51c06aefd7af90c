"""A fleet as Prometheus reads it: the text exposition format, version 0.0.4, from what is known here.

Source: Prometheus, "Exposition formats" (prometheus.io/docs/instrumenting/exposition_formats).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from edgeopt.core.release import BoardRelease, HealthFigures
from edgeopt.core.rollout import BoardState, Rollout, RolloutState
from edgeopt.core.sighting import Sighting
from edgeopt.report.fleet_summary import counts_of
from edgeopt.report.visible import visible

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABEL_LIMIT = 128
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
Labels = Mapping[str, str]


def exposition(rollouts: Sequence[Rollout], boards: Sequence[Sighting]) -> str:
    """All metrics.

    Args:
        rollouts: The newest of each app.
        boards: Every board that was ever looked at.
    """
    families = (*_rollout_families(rollouts), *_board_families(boards))
    return "".join(_family(*family) for family in families)


Family = tuple[str, str, Iterable[tuple[Labels, float]]]
"""Name, help and samples of a gauge."""


def _rollout_families(rollouts: Sequence[Rollout]) -> Iterator[Family]:
    named = [({"rollout": one.rollout_id, "release": one.plan.release}, one) for one in rollouts]
    yield (
        "edgeopt_rollout_state",
        "1 for the state that the rollout is in, 0 for the others.",
        [({**labels, "state": state}, one.state == state) for labels, one in named for state in get_args(RolloutState)],
    )
    yield (
        "edgeopt_rollout_wave",
        "The wave at work or last at work.",
        [(labels, one.wave) for labels, one in named],
    )
    counts = [(labels, counts_of(one)) for labels, one in named]
    yield (
        "edgeopt_rollout_boards",
        "Boards that take part, by state.",
        [({**labels, "state": state}, count[state]) for labels, count in counts for state in get_args(BoardState)],
    )
    yield (
        "edgeopt_rollout_sent_bytes",
        "Bytes that the rollout sent so far.",
        [(labels, sum(board.sent_bytes for board in one.boards)) for labels, one in named],
    )
    yield (
        "edgeopt_rollout_latency_change",
        "Relative change of the latency against before, by profile, as the last gate estimated it.",
        [
            ({**labels, "profile": row[0], "stat": stat}, value)
            for labels, one in named
            for row in {row[0]: row for gate in one.gates for row in gate.slower}.values()
            for stat, value in zip(("estimate", "low", "high"), row[1:], strict=True)
        ],
    )


def _board_families(boards: Sequence[Sighting]) -> Iterator[Family]:
    yield (
        "edgeopt_board_up",
        "Whether the board answered when it was asked last.",
        [({"board": board.board, "profile": board.profile}, board.reachable) for board in boards],
    )
    yield (
        "edgeopt_board_seen_timestamp_seconds",
        "When the board answered last.",
        [({"board": board.board, "profile": board.profile}, board.seen_at) for board in boards if board.seen_at],
    )
    pairs = [(board, release) for board in boards for release in board.releases]
    yield (
        "edgeopt_board_release_info",
        "The release that is active on the board; always 1.",
        [(_info(board, release), 1) for board, release in pairs],
    )
    yield (
        "edgeopt_board_verified",
        "Whether the active files were hashed and fit their manifest.",
        [({"board": board.board, "app": release.app}, release.verified) for board, release in pairs],
    )
    yield (
        "edgeopt_board_signed",
        "Whether the active release was verified against the board's trust root.",
        [({"board": board.board, "app": release.app}, release.signed) for board, release in pairs],
    )
    measured = [(board, release, release.figures) for board, release in pairs if release.figures]
    yield (
        "edgeopt_board_latency_seconds",
        "Latency that the last health check measured on the board.",
        [sample for board, release, figures in measured for sample in _latencies(board, release, figures)],
    )
    yield (
        "edgeopt_board_memory_bytes",
        "Peak resident memory that the last health check measured.",
        [({"board": b.board, "profile": b.profile, "app": r.app}, f.memory_bytes) for b, r, f in measured],
    )


def _info(board: Sighting, release: BoardRelease) -> Labels:
    return {
        "board": board.board,
        "profile": board.profile,
        "app": release.app,
        "version": release.version,
        "manifest": release.manifest[:12],
        "state": release.state,
    }


def _latencies(board: Sighting, release: BoardRelease, figures: HealthFigures) -> Iterator[tuple[Labels, float]]:
    labels = {"board": board.board, "profile": board.profile, "app": release.app}
    yield {**labels, "stat": "median"}, figures.median_ns / 1e9
    yield {**labels, "stat": "p95"}, figures.p95_ns / 1e9


def _family(name: str, help_text: str, samples: Iterable[tuple[Labels, float]]) -> str:
    """A family in the text format; samples with the same labels are given once, as the format demands."""
    assert _NAME.fullmatch(name)
    unique = {_labels(labels): value for labels, value in samples}
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
    lines += [f"{name}{labels} {_number(value)}" for labels, value in unique.items()]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """A label's value: invisible characters written out, then the format's own three escapes."""
    return visible(value, _LABEL_LIMIT).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
