"""A rollout on a terminal: its waves, the boards at work with their speed, and what was measured against the budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgeopt.core.rollout import BoardProgress, Plan, Rollout
from edgeopt.report import fleet_summary as summary
from edgeopt.report import quantities as q
from edgeopt.report.layout import facts, table, text

STYLES = {
    "committed": "green",
    "failed": "red",
    "rolled_back": "red",
    "bricked": "bold red",
    "unreachable": "yellow",
    "waiting": "yellow",
}
_BAR = 24
_LIVE_ROWS = 12
_PLAN_ROWS = 200


class Speeds:
    """How much of what is on its way each board has, and how fast it goes. Time comes in."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int, int]] = {}
        self._speeds: dict[str, float] = {}

    def sent(self, board: str, there: int, of: int, now: float) -> None:
        """What a board has of what it is sent."""
        then, before, _ = self._last.get(board, (now, there, of))
        if now > then and there > before:
            self._speeds[board] = (there - before) / (now - then)
        self._last[board] = (now, there, of)

    def ended(self, board: str) -> None:
        """Nothing more is sent to a board."""
        self._last.pop(board, None)
        self._speeds.pop(board, None)

    def of(self, board: str) -> float | None:
        """Bytes a second; ``None`` where nothing is known."""
        return self._speeds.get(board)

    def share(self, board: str) -> str:
        """How much is there, in words; empty where nothing is on its way."""
        _, there, of = self._last.get(board, (0.0, 0, 0))
        return f"{q.size(there)} of {q.size(of)}" if of else ""


def live_view(rollout: Rollout, speeds: Speeds) -> Group:
    """The whole table: waves above, below the boards at work and those that failed last."""
    busy = [board for board in rollout.boards if board.state in summary.AT_WORK]
    bad = [board for board in rollout.boards if board.state in summary.FAILED]
    latest = sorted(bad, key=lambda board: -board.updated_at)[: max(3, _LIVE_ROWS - len(busy))]
    rows = [*busy[:_LIVE_ROWS], *latest]
    parts: list[Text | Table] = [Text.assemble(text(summary.headline(rollout), "bold")), wave_table(rollout)]
    if rows:
        parts.append(board_table(rows, rollout, speeds))
    if len(busy) > _LIVE_ROWS:
        parts.append(text(f"and {len(busy) - _LIVE_ROWS} more at work", "dim"))
    return Group(*parts)


def wave_table(rollout: Rollout) -> Table:
    """A line a wave."""
    made = table("wave", "size", "boards", "done", "", "failed", "away", "gate", right=(0, 1, 2, 3, 5, 6))
    for wave in summary.waves(rollout):
        away = wave.counts["unreachable"] + wave.counts["waiting"]
        gate = text(summary.gate_line(wave.gate), "red" if wave.gate.verdict == "halt" else "") if wave.gate else ""
        at_work = "bold" if wave.number == rollout.wave else ""
        counts = (str(wave.boards), str(wave.counts["committed"]), _bar(wave), str(wave.failed), str(away))
        made.add_row(Text(str(wave.number), at_work), text(wave.size, limit=16), *counts, gate)
    return made


def _bar(wave: summary.WaveRow) -> Text:
    total = max(1, wave.boards)
    good, bad = (round(_BAR * part / total) for part in (wave.counts["committed"], wave.failed))
    settled = max(good + bad, round(_BAR * wave.settled / total))
    rest = _BAR - min(_BAR, settled)
    return Text.assemble(
        ("█" * good, "green"), ("█" * bad, "red"), ("█" * (settled - good - bad), "yellow"), ("░" * rest, "dim")
    )


def board_table(boards: Iterable[BoardProgress], rollout: Rollout, speeds: Speeds | None = None) -> Table:
    """A line a board, measured figures against the budget of the gate."""
    allowed = summary.percent(rollout.plan.gate.max_slower)
    made = table("wave", "board", "state", "sent", "speed", "latency", f"of {allowed}", "why", right=(0, 3, 4, 5, 6))
    for board in boards:
        speed = speeds.of(board.board) if speeds else None
        found = summary.change(board)
        over = "bold red" if summary.over_budget(board, rollout) else "green"
        made.add_row(
            str(board.wave or q.NONE),
            text(board.board, limit=32),
            text(summary.MARKS.get(board.state, board.state), STYLES.get(board.state, "cyan")),
            (speeds.share(board.board) if speeds else "") or q.size(board.sent_bytes),
            f"{q.size(speed)}/s" if speed else "",
            q.milliseconds(board.after.median_ns) if board.after else "",
            Text(summary.percent(found), over) if found is not None else "",
            text(board_reason(board), "dim", 120),
        )
    return made


def board_reason(board: BoardProgress) -> str:
    """Why a board stands where it stands."""
    return f"{board.failure}: {board.detail}" if board.failure else board.detail


def board_line(board: BoardProgress, rollout: Rollout) -> str:
    """A settled board as one line of a log."""
    found = summary.change(board)
    parts = [f"wave {board.wave} {board.board}: {summary.MARKS.get(board.state, board.state)}"]
    parts += [f"{q.size(board.sent_bytes)} sent"] * bool(board.sent_bytes)
    if board.after is not None:
        parts.append(q.milliseconds(board.after.median_ns))
    if found is not None:
        parts.append(f"{summary.percent(found)} of {summary.percent(rollout.plan.gate.max_slower)} allowed")
    return ", ".join([*parts, *filter(None, (board_reason(board),))])


def print_plan(plan: Plan, console: Console) -> None:
    """What would happen, a line a board."""
    unit = q.size_unit(board.send_bytes for board in plan.boards)
    made = table("wave", "board", "profile", "action", "now", "send", "free", "takes", "reason", right=(0, 5, 6, 7))
    for board in plan.boards[:_PLAN_ROWS]:
        made.add_row(
            str(board.wave or q.NONE),
            text(board.board, limit=32),
            text(board.profile, limit=24),
            text(board.action),
            text(board.before or q.NONE, limit=20),
            f"{q.significant(board.send_bytes / unit[1])} {unit[0]}" if board.send_bytes else "0 B",
            q.size(board.free_bytes),
            q.duration(board.seconds) if board.seconds else q.NONE,
            text(board.reason, "dim", 160),
        )
    console.print(made)
    if len(plan.boards) > _PLAN_ROWS:
        console.print(text(f"and {len(plan.boards) - _PLAN_ROWS} more boards (--json lists all)", "dim"))
    total = sum(board.send_bytes for board in plan.boards)
    acts = [board.action for board in plan.boards]
    counts = ", ".join(f"{acts.count(action)} {action}" for action in dict.fromkeys(acts))
    console.print(text(f"{plan.release}: {counts}; {q.size(total)} to send; plan {plan.digest[:12]}"))


def print_rollout(rollout: Rollout, console: Console) -> None:
    """A rollout as it stands: the decision, the waves, and the boards that need looking at."""
    well = summary.went_well(rollout)
    style = "bold green" if well else "bold yellow" if rollout.state in ("done", "halted", "cancelled") else "bold"
    console.print(wave_table(rollout))
    troubled = summary.FAILED | {"unreachable", "waiting"}
    looked_at = [*(board for board in rollout.boards if board.state in troubled), *summary.refused(rollout)]
    if looked_at:
        console.print(board_table(summary.urgent_first(looked_at, rollout)[:_PLAN_ROWS], rollout))
    console.print(text(("★ " if well else "") + summary.headline(rollout), style))
    for sentence in summary.sentences(rollout):
        console.print(Padding(text(sentence), (0, 0, 0, 2), expand=False))
    rows = [(row[0] or "no profile", f"latency {summary.percent(row[1])}") for row in summary.latest_changes(rollout)]
    facts(console, [("rollout", rollout.rollout_id), *rows])


def print_rollouts(rollouts: Sequence[Rollout], console: Console) -> None:
    """A line a rollout."""
    made = table("rollout", "started, UTC", "release", "state", "wave", "boards", "reason", right=(4, 5))
    for one in rollouts:
        counts = summary.counts_of(one)
        made.add_row(
            one.rollout_id,
            q.moment(one.started_at),
            text(one.plan.release, limit=60),
            text(one.state.replace("_", " ")),
            str(one.wave),
            f"{counts['committed']}/{counts.total()}",
            text(one.reason, "dim", 160),
        )
    console.print(made)
