"""Drives a rollout for a command: the live table, lines or events, and the exit code."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import typer

from edgeopt.cli import output
from edgeopt.errors import EdgeoptError

if TYPE_CHECKING:
    from edgeopt.core.fleet import Fleet
    from edgeopt.core.rollout import Plan, Rollout
    from edgeopt.workflow.fleet.engine import Terms
    from edgeopt.workflow.workspace import Workspace


def drive_and_show(
    rollout_id: str,
    fleet: Fleet,
    workspace: Workspace,
    terms: Terms,
    *,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Drive a rollout to where it goes; leaves with its exit code where that is not 0."""
    from edgeopt.report.fleet_progress import RolloutView
    from edgeopt.workflow.fleet.rolling import exit_code, roll_out
    from edgeopt.workflow.fleet.rollouts import find_rollout

    with RolloutView(json_to=sys.stdout if as_json else None, quiet=quiet) as view:
        view.begin(find_rollout(rollout_id, workspace))
        ended = roll_out(rollout_id, fleet, workspace, terms=terms, watcher=view)
    code = exit_code(ended)
    with contextlib.suppress(BrokenPipeError):
        _show_end(ended, code, as_json=as_json)
    if code:
        raise typer.Exit(code)


def _show_end(rollout: Rollout, code: int, *, as_json: bool) -> None:
    if as_json:
        from edgeopt.report.fleet_events import line_of, rollout_event
        from edgeopt.report.fleet_summary import refused

        left_out = [{"board": board.board, "reason": board.detail} for board in refused(rollout)]
        event = {**rollout_event(rollout, time.time()), "event": "end", "refused": left_out, "exit_code": code}
        sys.stdout.write(line_of(event))
        return
    from edgeopt.report.fleet_table import print_rollout
    from edgeopt.report.layout import text

    console = output.console()
    print_rollout(rollout, console)
    console.print(text(_next_command(rollout), "dim"), soft_wrap=True)


def _next_command(rollout: Rollout) -> str:
    name, release = rollout.rollout_id, rollout.plan.release
    back = "rollback" if any(board.state == "committed" for board in rollout.boards) else "cancel"
    commands = {
        "halted": f"Next: edgeopt fleet report {name} --html rollout.html; then edgeopt fleet resume {name} "
        f"or edgeopt fleet {back} {name}",
        "done": f"Next: edgeopt fleet status; edgeopt fleet report {name} --html rollout.html",
        "cancelled": f"Next: edgeopt fleet rollback {name} takes {release} off the boards that have it",
    }
    return commands.get(rollout.state, f"Next: the same command goes on; or edgeopt fleet resume {name}")


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print what would happen."""
    if as_json:
        output.print_json(plan)
        return
    from edgeopt.report.fleet_table import print_plan

    print_plan(plan, output.console())


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the user agrees; without a terminal only by ``--yes``."""
    return yes or (sys.stdin.isatty() and typer.confirm(question, default=False))


def failing_on(errors: list[tuple[str, EdgeoptError]]) -> None:
    """Leave with the worst exit code of what went wrong with single boards."""
    if errors:
        raise typer.Exit(max(error.exit_code for _, error in errors))


def plain_events(document: dict[str, Any]) -> None:
    """One JSON object on a line of its own."""
    from edgeopt.report.fleet_events import line_of

    sys.stdout.write(line_of(document))
