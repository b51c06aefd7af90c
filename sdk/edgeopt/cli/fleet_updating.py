"""What `edgeopt fleet update`, `resume`, `pause`, `cancel` and `rollback` do, once their words are read."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeopt.cli import output
from edgeopt.cli.fleet_running import confirmed, drive_and_show, plain_events, show_plan
from edgeopt.errors import EXIT_DEVICE, RolloutBusyError, UsageError

if TYPE_CHECKING:
    from edgeopt.core.fleet import Fleet
    from edgeopt.workflow.fleet.rolling import Prepared, RolloutRequest
    from edgeopt.workflow.workspace import Workspace


@dataclass(frozen=True)
class Way:
    """How a command does it.

    Attributes:
        only_plan: Change nothing.
        yes: Do not ask.
        takeover: Take the rollout from whoever drives it.
        as_json, quiet: What is printed.
    """

    only_plan: bool = False
    yes: bool = False
    takeover: bool = False
    as_json: bool = False
    quiet: bool = False


def command_line() -> str:
    """This command as it was typed, for the log."""
    return shlex.join(["edgeopt", *sys.argv[1:]])


def update(request: RolloutRequest, way: Way, path: Path | None) -> None:
    """Plan, ask, and drive."""
    from edgeopt.workflow.fleet.boards import load_fleet
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        fleet = load_fleet(workspace, path)
        prepared = _prepare(request, fleet, workspace, way)
        if way.only_plan:
            show_plan(prepared.plan, as_json=way.as_json)
            if prepared.refused and not prepared.takes_part:
                raise typer.Exit(EXIT_DEVICE)  # as the update itself would end
            return
        _go(prepared, request, fleet, workspace, way)


def _prepare(request: RolloutRequest, fleet: Fleet, workspace: Workspace, way: Way) -> Prepared:
    from edgeopt.workflow.fleet.rolling import prepare

    with output.progress(silent=way.quiet or way.as_json) as progress:
        progress.stage("Asking boards", 0)
        return prepare(
            request, fleet, workspace, heard=lambda board, found: progress.advance(f"{board}: {found.action}")
        )


def _go(prepared: Prepared, request: RolloutRequest, fleet: Fleet, workspace: Workspace, way: Way) -> None:
    from edgeopt.workflow.fleet.engine import Terms
    from edgeopt.workflow.fleet.rolling import begin

    if way.as_json:
        from edgeopt import documents

        plain_events({"event": "plan", "plan": documents.plain(prepared.plan), "resumed": bool(prepared.rollout_id)})
    elif not prepared.rollout_id and not way.quiet:
        show_plan(prepared.plan, as_json=False)
    if not prepared.rollout_id and not prepared.takes_part:
        _nothing_to_do(prepared, way)
        return
    if not prepared.rollout_id:
        _ask(f"Bring {request.release} to {prepared.takes_part} boards?", way)
    elif not way.as_json:
        output.console().print(f"Going on with rollout {prepared.rollout_id}.")
    rollout_id = begin(prepared, request, workspace)
    terms = Terms(takeover=way.takeover)
    drive_and_show(rollout_id, fleet, workspace, terms, as_json=way.as_json, quiet=way.quiet)


def _ask(question: str, way: Way) -> None:
    if not confirmed(question, yes=way.yes):
        raise UsageError("the rollout was not confirmed.", remedy="Answer y, or give --yes.")


def _nothing_to_do(prepared: Prepared, way: Way) -> None:
    """Every board runs it, or cannot take it: no rollout is begun."""
    code = EXIT_DEVICE if prepared.refused else 0
    if way.as_json:
        plain_events({"event": "end", "state": "done", "refused": list(prepared.refused), "exit_code": code})
    else:
        left = f"{len(prepared.refused)} refused it" if prepared.refused else "no board needs it"
        output.console().print(f"Nothing is to be done for {prepared.plan.release}: {left}.", soft_wrap=True)
    if code:
        raise typer.Exit(code)


def order(name: str, command: str, path: Path | None = None, *, as_json: bool) -> None:
    """Leave an order for whoever drives a rollout; nobody does: it is carried out here."""
    from edgeopt.workflow.fleet.orders import give_order
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        given = give_order(name, command, workspace, inventory=path)
    if as_json:
        output.print_json({"rollout": given.rollout_id, "order": command, "driven_by": given.driver})
        return
    alone = "it is cancelled" if command == "cancel" else "nobody drives it; it stands"
    who = f"{given.driver} carries it out within a second" if given.driver else alone
    output.console().print(f"{command} of rollout {given.rollout_id}: {who}.", soft_wrap=True)


def resume(name: str, way: Way, path: Path | None) -> None:
    """Order it to go on, and drive it where nobody does."""
    from edgeopt.workflow.fleet.boards import load_fleet
    from edgeopt.workflow.fleet.engine import Terms
    from edgeopt.workflow.fleet.orders import give_order
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        fleet = load_fleet(workspace, path)
        given = give_order(name, "resume", workspace)
        if given.driver and not way.takeover:
            if way.as_json:
                output.print_json({"rollout": given.rollout_id, "order": "resume", "driven_by": given.driver})
            else:
                output.console().print(f"rollout {given.rollout_id} goes on; {given.driver} drives it.")
            return
        terms = Terms(takeover=way.takeover)
        drive_and_show(given.rollout_id, fleet, workspace, terms, as_json=way.as_json, quiet=way.quiet)


def roll_back(name: str, version: str, waves: tuple[str, ...], way: Way, path: Path | None) -> None:
    """Publish the old content as a new release and send it to the boards that changed."""
    from edgeopt.workflow.fleet.boards import load_fleet
    from edgeopt.workflow.fleet.returning import restore, way_back
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        fleet = load_fleet(workspace, path)
        back = way_back(name, version, workspace)
        boards = len(back.boards)
        _ask(f"Bring {boards} boards from {back.release} back to {back.app}@{back.version}?", way)
        request = restore(back, waves, workspace, command=command_line(), inventory=path)
        prepared = _prepare(request, fleet, workspace, way)
        try:
            _go(prepared, request, fleet, workspace, replace(way, yes=True))
        except RolloutBusyError as error:  # this command again would sign another way back
            remedy = f"The way back is signed; go on with it: edgeopt fleet resume {request.release} --takeover."
            raise RolloutBusyError(error.message, remedy=remedy) from None
