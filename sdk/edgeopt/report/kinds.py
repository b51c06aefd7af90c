"""A run for several boards in words and rows: what the terminal and the page both say."""

from __future__ import annotations

from edgeopt.core.group import GroupRecord
from edgeopt.core.kinds import BoardPart
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Interval
from edgeopt.report import quantities as q
from edgeopt.report import summary

COLUMNS = ("board", "kind", "launches", "against its kind", "active", "state")


def headline(record: GroupRecord) -> str:
    """The answer in one sentence."""
    boards, kinds = sum(len(run.boards) for run in record.runs), len(record.runs)
    where = f"{boards} board{'s' * (boards != 1)} of {kinds} kind{'s' * (kinds != 1)}"
    if record.incomplete:
        return f"{where}: no winner yet on {', '.join(record.incomplete)}."
    if record.common is not None:
        return f"{where}: {record.common.name} for all, {record.common.worst:.2f} times a kind's own best at worst."
    missed = [run.profile_name for run in record.runs if run.state == "infeasible"]
    if missed:
        return f"{where}: nothing meets the budget on {', '.join(missed)}."
    return f"{where}, each with its winner."


def sentences(record: GroupRecord) -> tuple[str, ...]:
    """One for each kind, and for all of them where there is one winner."""
    said = [f"{run.profile_name}: {summary.headline(run)}" for run in record.runs]
    if record.common is not None:
        ratios = ", ".join(f"{profile} {ratio:.2f}" for profile, ratio in record.common.ratios.items())
        said.append(f"{record.common.name} against each kind's own best: {ratios}; no other file is nearer at worst.")
    return tuple(said)


def warnings(record: GroupRecord) -> tuple[str, ...]:
    """What the user should know of single boards, worst first."""
    lost = [f"{name} dropped out: {reason}" for name, reason in record.lost.items()]
    parts = [part for run in record.runs for part in run.boards]
    return (*lost, *(f"{one.device.name} disagrees with its kind: {one.disagrees}." for one in parts if one.disagrees))


def row(run: RunRecord, part: BoardPart) -> tuple[str, ...]:
    """The cells of `COLUMNS` for one board."""
    active = f"release {part.deployment.release}" if part.deployment else q.NONE
    state = "✗ dropped out" if part.lost else "≠ disagrees" if part.disagrees else "ok"
    return part.device.name, run.profile_name, str(part.launches), ratio(part.ratio), active, state


def ratio(value: Interval | None) -> str:
    """How many times the time of the others a board takes, with the ends of the interval."""
    return q.NONE if value is None else f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"
