"""`edgeopt device ...`: the inventory, and everything that is done to one board."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgeopt.cli import device_enrol, options, output

app = typer.Typer(no_args_is_help=True, help="Add, list, probe, check, provision, roll back and clean devices.")
app.command("enrol")(device_enrol.enrol)

Name = Annotated[str, typer.Argument(help="The device's name; local is this machine.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name you give it.")],
    address: Annotated[str, typer.Argument(help="user@host, user@host:port or an alias of your ssh_config.")],
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="The host key you expect: SHA256:...; then nothing is asked.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", "-i", help="Private key to log in with.")] = None,
    jump: Annotated[str | None, typer.Option("--jump", "-J", help="Go through user@host:port first.")] = None,
    python: Annotated[str | None, typer.Option("--python", help="Interpreter on the device.")] = None,
    root: Annotated[str, typer.Option("--root", help="Folder on the device.")] = "~/.edgeopt",
    label: Annotated[list[str] | None, typer.Option("--label", help="key=value, as often as you like.")] = None,
    profile: options.Profile = None,
    as_json: options.Json = False,
) -> None:
    """Pin a board's host key, look at the board, and remember it."""
    from edgeopt.workflow import devices as work
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        device = work.describe_device(
            name, address, key=key, jump=jump, python=python, root=root, labels=label or [], profile=profile
        )
        added = work.add_device(device, workspace, fingerprint=fingerprint, confirm=_confirm)
    if as_json:
        output.print_json(
            {"device": _plain(added.device), "facts": _plain(added.facts), "fingerprint": added.fingerprint}
        )
        return
    from edgeopt.report.listings import print_facts
    from edgeopt_targets.matching import unknown_board
    from edgeopt_targets.profile_files import find_profile

    console = output.console()
    print_facts(added.facts, console)
    if profile is None and (said := unknown_board(find_profile(str(added.device.profile)), added.facts)):
        console.print(said)
    console.print(f"{name} is added (profile {added.device.profile}).")
    if not added.facts.runtimes:
        console.print(f"Next: edgeopt device provision {name}, for it has no inference runtime yet", soft_wrap=True)
    then = "Then" if not added.facts.runtimes else "Next"
    console.print(
        f"{then}: edgeopt deploy MODEL --target {name}; or edgeopt fleet enrol {name}, to be sent releases",
        soft_wrap=True,
    )


def _confirm(question: str) -> bool:
    """Ask on the terminal; without one the answer is no."""
    return sys.stdin.isatty() and typer.confirm(question, default=False)


def _plain(noun: object) -> object:
    from edgeopt import documents

    return documents.plain(noun)


@app.command("list")
def list_devices(as_json: options.Json = False) -> None:
    """The devices that you added."""
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        found = workspace.inventory.devices()
    if as_json:
        output.print_json({"devices": [_plain(device) for device in found]})
        return
    from edgeopt.report.listings import print_devices

    print_devices(found, output.console())


@app.command()
def remove(name: Name, as_json: options.Json = False) -> None:
    """Forget a device (nothing on it is touched; see clean)."""
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        workspace.inventory.remove(name)
    if as_json:
        output.print_json({"removed": name})
        return
    output.console().print(f"{name} is forgotten. What edgeopt left on it stays until: edgeopt device clean")


@app.command()
def trust(
    name: Name,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="The host key you expect: SHA256:...; then nothing is asked.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="The board was re-installed: pin its new key.")] = False,
    as_json: options.Json = False,
) -> None:
    """Pin a device's host key, or replace the pinned one."""
    from edgeopt.workflow import devices as work
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        device = work.find_device(name, workspace)
        pinned = work.trust_device(device, fingerprint=fingerprint, confirm=_confirm, replace=replace)
    if as_json:
        output.print_json({"device": name, "fingerprint": pinned})
        return
    output.console().print(f"{name}: host key {pinned} is pinned.", soft_wrap=True)


@app.command()
def probe(name: Name = "local", as_json: options.Json = False) -> None:
    """What a device is and what it can run."""
    from edgeopt.workflow import devices as work
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        facts, profile = work.probe_device(work.find_device(name, workspace))
    if as_json:
        output.print_json({"facts": _plain(facts), "profile": profile.name})
        return
    from edgeopt.report.listings import print_facts
    from edgeopt_targets.matching import unknown_board

    console = output.console()
    print_facts(facts, console)
    console.print(f"profile     {profile.name}: {profile.description}")
    if said := unknown_board(profile, facts):
        console.print(f"            {said}")


@app.command()
def doctor(name: Name = "local", as_json: options.Json = False) -> None:
    """Check everything that a deployment needs, with the remedy for what is missing."""
    from edgeopt.errors import EXIT_DEVICE
    from edgeopt.workflow import devices as work
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        checks = work.examine_device(work.find_device(name, workspace))
    if as_json:
        output.print_json({"checks": [_plain(check) for check in checks]})
    else:
        from edgeopt.report.listings import print_checks

        print_checks(checks, output.console())
    if not all(check.ok for check in checks):
        raise typer.Exit(EXIT_DEVICE)


@app.command()
def provision(
    name: Name,
    runtime: Annotated[
        list[str] | None,
        typer.Option("--runtime", help="onnxruntime, litert, ncnn, ...; again for more. Default: the profile's best."),
    ] = None,
    wheelhouse: Annotated[
        str | None, typer.Option("--wheelhouse", help="Take wheels from this folder; needs no network at all.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Give a device the inference runtime: wheels are resolved here and installed there; it needs no internet."""
    from edgeopt.workflow.devices import find_device
    from edgeopt.workflow.provisioning import provision_device
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace, output.progress(silent=quiet or as_json) as progress:
        device = find_device(name, workspace)
        done = provision_device(device, workspace, runtimes=runtime or (), wheelhouse=wheelhouse, listener=progress)
    if as_json:
        output.print_json(done)
        return
    runtimes = ", ".join(f"{runtime['name']} {runtime['version']}" for runtime in done["runtimes"])
    output.console().print(f"{name} now has {runtimes} in {done['interpreter']}", soft_wrap=True)


@app.command()
def restrict(
    name: Name,
    key: Annotated[
        str | None, typer.Option("--key", "-i", help="A private key with its .pub beside it. Default: a new one.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Log in from now on with a key that may talk to the runner and nothing else."""
    from pathlib import Path

    from edgeopt.workflow.restricting import restrict_device
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        done = restrict_device(name, workspace, key=Path(key) if key else None)
    if as_json:
        output.print_json({"device": _plain(done.device), "key": str(done.key), "others": done.others})
        return
    console = output.console()
    console.print(f"{name} is now reached with {done.key}, which gets the runner and no shell.", soft_wrap=True)
    if done.others:
        console.print(
            f"Signatures protect the board only when nobody else logs in: {done.others} other lines are still in "
            f"{done.path} there. Log in with your own key once more and take them out.",
            soft_wrap=True,
        )


@app.command()
def apps(name: Name = "local", as_json: options.Json = False) -> None:
    """What is active on a device, and what it can go back to."""
    from edgeopt.workflow import devices as work
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        found = work.list_apps(work.find_device(name, workspace))
    if as_json:
        output.print_json({"apps": found})
        return
    console = output.console()
    if not found:
        console.print(f"Nothing is active on {name}. Next: edgeopt deploy MODEL --target {name}")
    for app_facts in found:
        back = f", can go back to release {app_facts['previous']}" if app_facts["previous"] else ""
        digest = str(app_facts["sha256"])[:12]
        console.print(f"{app_facts['app']}  release {app_facts['current']}  {digest}{back}")


@app.command()
def rollback(
    name: Name,
    application: Annotated[str, typer.Argument(metavar="APP", help="The application's name.")],
    as_json: options.Json = False,
) -> None:
    """Make the previous release of an application active again."""
    from edgeopt.workflow import devices as work
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        deployment = work.roll_back(work.find_device(name, workspace), application)
    if as_json:
        output.print_json(deployment)
        return
    output.console().print(f"{application} on {name} runs release {deployment.release} again. {deployment.detail}")


@app.command()
def clean(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Also when applications are active there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
) -> None:
    """Take everything that edgeopt put on a device away again."""
    from edgeopt.errors import UsageError
    from edgeopt.workflow import devices as work
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        device = work.find_device(name, workspace)
        if not yes and not _confirm(f"Remove {device.root} with all models and runtimes on {name}?"):
            raise UsageError("clean was not confirmed.", remedy="Answer y, or give --yes.")
        work.clean_device(device, force=force)
    if as_json:
        output.print_json({"device": name, "removed": device.root})
        return
    output.console().print(f"{name}: {device.root} is gone.")
