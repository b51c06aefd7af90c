"""`edgeopt fleet status`, `enrol` and `import`: which boards there are, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeopt.cli import options, output
from edgeopt.errors import EXIT_DEVICE, EdgeoptError

if TYPE_CHECKING:
    from edgeopt.core.fleet import Fleet

importing = typer.Typer(no_args_is_help=True, help="Make fleet.yaml of what other tools know.")

FleetFile = Annotated[
    str | None,
    typer.Option("--fleet", metavar="FILE", help="The inventory.  [default: fleet.yaml here, else in edgeopt's home]"),
]
Selector = Annotated[str, typer.Argument(metavar="[SELECTOR]", help="region=north,tier!=canary; a board; all.")]
Out = Annotated[str, typer.Option("--out", metavar="FILE", help="Where to write; - prints it.")]


def status(
    selector: Selector = "all",
    fleet_file: FleetFile = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=1024, help="Boards at a time.")] = 64,
    reports: Annotated[
        str,
        typer.Option(
            "--reports",
            metavar="URL",
            envvar="EDGEOPT_REPORTS",
            help="Where boards that pull put their reports: a folder, s3://BUCKET/PREFIX. Who reported is not asked.",
        ),
    ] = "",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Ask boards what they run, files hashed there; what is not as it was left is shown. Ends with 4 where any is."""
    from edgeopt.core.fleet import Caps
    from edgeopt.workflow.fleet.boards import load_fleet, select
    from edgeopt.workflow.fleet.status import fleet_status
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace, output.progress(silent=quiet or as_json) as progress:
        boards = select(load_fleet(workspace, Path(fleet_file) if fleet_file else None), selector)
        progress.stage("Asking boards", len(boards))
        found = fleet_status(
            boards,
            workspace,
            heard=lambda one: progress.advance(one.board),
            caps=Caps(concurrency=concurrency),
            reports_url=reports,
        )
    if as_json:
        from edgeopt import documents

        output.print_json({"boards": [documents.plain(one) for one in found]})
    else:
        from edgeopt.report.fleet_status import print_status

        print_status(found, output.console())
    if any(one.drift or not one.sighting.reachable for one in found):
        raise typer.Exit(EXIT_DEVICE)


def enrol(
    selector: Annotated[str, typer.Argument(metavar="SELECTOR", help="Which boards; all for every one.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Pin host keys that nobody knows without asking: trust on first use.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Boards that trust another root forget it.")] = False,
    fleet_file: FleetFile = None,
    as_json: options.Json = False,
) -> None:
    """Pin the boards' host keys here, and our root of trust there: from then on they take signed releases only."""
    from edgeopt import documents
    from edgeopt.cli.fleet_running import confirmed, failing_on
    from edgeopt.workflow.fleet.boards import enrol_board, load_fleet, select
    from edgeopt.workflow.fleet.tree import Tree
    from edgeopt.workflow.workspace import Workspace

    done, errors = [], list[tuple[str, EdgeoptError]]()
    with Workspace.open() as workspace:
        boards = select(load_fleet(workspace, Path(fleet_file) if fleet_file else None), selector)
        Tree.open(workspace)  # without keys nothing is to be asked of any board
        for board in boards:
            try:
                done.append(
                    enrol_board(board, workspace, confirm=lambda text: confirmed(text, yes=yes), replace=replace)
                )
            except EdgeoptError as error:
                errors.append((board.name, error))
    failed = [{"board": name, "message": error.message, "remedy": error.remedy} for name, error in errors]
    if as_json:
        output.print_json({"enrolled": [documents.plain(one) for one in done], "failed": failed})
    else:
        from edgeopt.report.fleet_status import print_enrolled

        rows = [(one.board, one.profile, f"trusts root {one.root_version}") for one in done]
        print_enrolled(rows, [(name, str(error)) for name, error in errors], output.console())
    failing_on(errors)


@importing.command("ssh-config")
def import_ssh(
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help="Default: ~/.ssh/config.")] = None,
    out: Out = "fleet.yaml",
    as_json: options.Json = False,
) -> None:
    """Every host that ssh_config names without a pattern."""
    from edgeopt.workflow.fleet.inventory_file import import_ssh_config

    _write(import_ssh_config(Path(file).expanduser() if file else None), out, as_json=as_json)


@importing.command("ansible")
def import_inventory(
    file: Annotated[str, typer.Argument(metavar="FILE", help="INI, YAML, or what ansible-inventory --list wrote.")],
    out: Out = "fleet.yaml",
    as_json: options.Json = False,
) -> None:
    """The hosts of an Ansible inventory; groups become labels, nothing in it is run."""
    from edgeopt.workflow.fleet.inventory_file import import_ansible

    _write(import_ansible(Path(file)), out, as_json=as_json)


def _write(fleet: Fleet, out: str, *, as_json: bool) -> None:
    from edgeopt.workflow.fleet.boards import fleet_text
    from edgeopt.workflow.fleet.inventory_file import write_fleet

    if out == "-":
        typer.echo(fleet_text(fleet), nl=False)
        return
    write_fleet(Path(out), fleet)
    if as_json:
        output.print_json({"file": out, "boards": [board.name for board in fleet.boards]})
        return
    output.console().print(f"{out} has {len(fleet)} boards. Next: edgeopt fleet enrol all", soft_wrap=True)
