"""The pictures of a rollout placed on paper: before and after of each board by profile, and every board over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.core.release import HealthFigures
from edgeopt.core.rollout import BoardProgress, Rollout
from edgeopt.report import fleet_summary as summary
from edgeopt.report import quantities as q
from edgeopt.report.axes import Axis, axis_for

WIDTH, LEFT, RIGHT, TOP = 640, 180, 84, 10
_ROW = 26
_MOST_BOARDS = 24
_CHARACTERS = 16
_KINDS = {"committed": "kept", "rolled_back": "back", "failed": "back", "bricked": "back"}


@dataclass(frozen=True)
class Dot:
    """A measurement: its median, and its p95 as the end of the interval, in pixels from the left."""

    x: float
    x_p95: float
    tip: str


@dataclass(frozen=True)
class PairRow:
    """A board: before and after, and where its own budget ends."""

    y: int
    label: str
    kind: str
    before: Dot
    after: Dot
    budget_x: float
    change: str


@dataclass(frozen=True)
class ProfilePicture:
    """Before and after of the boards of one profile.

    Attributes:
        profile: Its name.
        rows: Slowest change first.
        ticks: Positions and labels of the latency axis, in ms.
        height: Of the sheet, in pixels.
        budget: The budget lines of the rows as one path.
        says: What the gate estimated, in words.
        left_out: Boards measured but not drawn.
    """

    profile: str
    rows: tuple[PairRow, ...]
    ticks: tuple[tuple[float, str], ...]
    height: int
    budget: str
    says: str
    left_out: int


@dataclass(frozen=True)
class Moment:
    """Something that happened, placed on the time line."""

    x: float
    y: float
    kind: str
    tip: str


@dataclass(frozen=True)
class Timeline:
    """Every board at the time of its last change, by wave, and the gates between.

    Attributes:
        boards: Dots.
        gates: Lines from top to bottom.
        waves: Pairs of height and name.
        ticks: Positions and labels of the time axis.
        height: Of the sheet, in pixels.
    """

    boards: tuple[Moment, ...]
    gates: tuple[Moment, ...]
    waves: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    height: int


def profile_pictures(rollout: Rollout) -> tuple[ProfilePicture, ...]:
    """A picture for each profile with a board that was measured before and after."""
    by_profile: dict[str, list[BoardProgress]] = {}
    for board in rollout.boards:
        if summary.change(board) is not None:
            by_profile.setdefault(board.profile, []).append(board)
    estimates = {row[0]: row[1:] for row in summary.latest_changes(rollout)}
    return tuple(_picture(name, boards, rollout, estimates.get(name)) for name, boards in sorted(by_profile.items()))


def _picture(
    profile: str, boards: Sequence[BoardProgress], rollout: Rollout, estimate: tuple[float, float, float] | None
) -> ProfilePicture:
    chosen = _chosen(boards)
    allowed = 1 + rollout.plan.gate.max_slower
    values = [value / 1e6 for board in chosen for value in _extent(board, allowed)]
    axis = axis_for([value for value in values if value > 0], may_log=True)
    rows = tuple(_row(index, board, axis, allowed) for index, board in enumerate(chosen))
    says = f"median change {summary.percent(_middle(boards))}"
    if estimate is not None:
        low, high = summary.percent(estimate[1]), summary.percent(estimate[2])
        says = f"gate: {summary.percent(estimate[0])}, between {low} and {high}"
    height = TOP + _ROW * len(rows) + 30
    ticks = tuple((_x(axis, tick), q.tick(tick)) for tick in axis.ticks)
    budget = " ".join(f"M{row.budget_x} {row.y - 9}v18" for row in rows)
    return ProfilePicture(profile or "no profile", rows, ticks, height, budget, says, len(boards) - len(chosen))


def _chosen(boards: Sequence[BoardProgress]) -> tuple[BoardProgress, ...]:
    """The slowest changes, and an even sample of the others, slowest first."""
    ordered = sorted(boards, key=lambda board: (-(summary.change(board) or 0.0), board.board))
    if len(ordered) <= _MOST_BOARDS:
        return tuple(ordered)
    worst, rest = ordered[: _MOST_BOARDS // 2], ordered[_MOST_BOARDS // 2 :]
    step = len(rest) / (_MOST_BOARDS - len(worst))
    return tuple([*worst, *(rest[int(index * step)] for index in range(_MOST_BOARDS - len(worst)))])


def _extent(board: BoardProgress, allowed: float) -> tuple[float, ...]:
    assert board.before is not None
    assert board.after is not None
    medians = (board.before.median_ns, board.after.median_ns, board.before.median_ns * allowed)
    return (*medians, board.before.p95_ns, board.after.p95_ns)


def _row(index: int, board: BoardProgress, axis: Axis, allowed: float) -> PairRow:
    assert board.before is not None
    assert board.after is not None
    found = summary.change(board)
    return PairRow(
        y=TOP + _ROW * index + _ROW // 2,
        label=_short(board.board),
        kind=_KINDS.get(board.state, "open"),
        before=_dot(board.before, axis, "before"),
        after=_dot(board.after, axis, "after"),
        budget_x=_x(axis, board.before.median_ns * allowed / 1e6),
        change=summary.percent(found if found is not None else 0.0),
    )


def _short(name: str) -> str:
    """A board's name with its middle left out: names of a fleet differ at their ends."""
    if len(name) <= _CHARACTERS:
        return name
    half = (_CHARACTERS - 1) // 2
    return f"{name[:half]}…{name[-half - 1 :]}"


def _dot(figures: HealthFigures, axis: Axis, name: str) -> Dot:
    tip = f"{name}: median {q.milliseconds(figures.median_ns)}, p95 {q.milliseconds(figures.p95_ns)}"
    tip += f", {figures.runs} runs" + (f", {figures.disturbed}" if figures.disturbed else "")
    return Dot(_x(axis, figures.median_ns / 1e6), _x(axis, max(figures.p95_ns, figures.median_ns) / 1e6), tip)


def _x(axis: Axis, value: float) -> float:
    if axis.log and value <= 0:
        return float(LEFT)
    return round(LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT), 1)


def _middle(boards: Sequence[BoardProgress]) -> float:
    changes = sorted(found for board in boards if (found := summary.change(board)) is not None)
    return changes[len(changes) // 2]


def timeline_of(rollout: Rollout) -> Timeline | None:
    """The time line; ``None`` before anything happened."""
    boards = [board for board in summary.taking_part(rollout) if board.updated_at >= rollout.started_at > 0]
    if not boards:
        return None
    times = [*(board.updated_at for board in boards), *(gate.judged_at for gate in rollout.gates), rollout.finished_at]
    end = max(times)
    span = max(end - rollout.started_at, 1.0)
    rows = {row.number: index for index, row in enumerate(summary.waves(rollout))}

    def place(seconds: float) -> float:
        share = min(1.0, max(0.0, (seconds - rollout.started_at) / span))
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def dot(index: int, board: BoardProgress) -> Moment:
        spread = (index * 7) % 5 * 6 - 12
        state = summary.MARKS.get(board.state, board.state)
        tip = f"{board.board}: {state}, {q.moment(board.updated_at)} UTC"
        kind = _KINDS.get(board.state, "open")
        return Moment(place(board.updated_at), TOP + 44 * rows[board.wave] + 22 + spread, kind, tip)

    gates = tuple(
        Moment(place(gate.judged_at), TOP + 44 * rows.get(gate.wave, 0) + 22, gate.verdict, summary.gate_line(gate))
        for gate in rollout.gates
    )
    shown = summary.urgent_first(boards, rollout)[:1500]
    height = TOP + 44 * len(rows) + 30
    ticks = tuple((place(rollout.started_at + span * part / 2), _after(span * part / 2)) for part in range(3))
    names = tuple((TOP + 44.0 * index + 26, f"wave {number}") for number, index in rows.items())
    return Timeline(tuple(dot(*pair) for pair in enumerate(shown)), gates, names, ticks, height)


def _after(seconds: float) -> str:
    return f"+{q.duration(seconds)}" if seconds > 0 else "start"
