"""`edgeopt device enrol`: whom a board believes, and how it comes by releases where nobody sends them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeopt.cli import options, output

if TYPE_CHECKING:
    from edgeopt.workflow.enrolling import Enrolled, Hawkbit

_LONGEST_TOKEN = 4096


def enrol(
    name: Annotated[str, typer.Argument(help="The device's name.")],
    url: Annotated[
        str | None, typer.Option("--url", help="The board pulls from here: http(s)://... or file:///media/...")
    ] = None,
    every: Annotated[str, typer.Option("--every", help="Time between polls.")] = "30m",
    report_url: Annotated[
        str | None, typer.Option("--report-url", help="The board puts its reports here (WebDAV, presigned S3).")
    ] = None,
    application: Annotated[
        list[str] | None, typer.Option("--app", help="Pull only this application; again for more.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option("--ca", metavar="FILE", help="Authorities (PEM) that the board believes.")
    ] = None,
    hawkbit: Annotated[
        str | None,
        typer.Option("--hawkbit", metavar="URL", help="A hawkBit server orders: https://HOST/TENANT/controller/v1."),
    ] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="FILE", help="Holds the board's security token of hawkBit.")
    ] = None,
    controller: Annotated[str, typer.Option("--controller", help="The board's name there.  [default: NAME]")] = "",
    timer: Annotated[bool, typer.Option("--timer/--no-timer", help="Have systemd start the agent there.")] = True,
    replace: Annotated[bool, typer.Option("--replace", help="The board trusts another root: forget that.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take agent and timer off the board.")] = False,
    as_json: options.Json = False,
) -> None:
    """Pin your root of trust on a board; with --url or --hawkbit the board looks for releases by itself."""
    from edgeopt.publishing.units import span_of
    from edgeopt.workflow import enrolling
    from edgeopt.workflow.devices import find_device
    from edgeopt.workflow.workspace import Workspace

    server = _hawkbit(hawkbit, token_file, controller)
    authorities = Path(ca).expanduser() if ca else None
    with Workspace.open() as workspace:
        device = find_device(name, workspace)
        if remove:
            enrolling.dismiss_device(device, workspace)
            _say_removed(name, as_json=as_json)
            return
        pulling = None
        if url or server:
            apps = tuple(application or ())
            pulling = enrolling.Pulling(url or "", span_of(every), report_url or "", apps, authorities, server)
        done = enrolling.enrol_device(device, workspace, pulling=pulling, replace=replace, timer=timer)
    if as_json:
        output.print_json(done)
        return
    _say(done, timer=timer)


def _hawkbit(url: str | None, token_file: str | None, controller: str) -> Hawkbit | None:
    """Who orders; the token is read from a file, so that no list of processes shows it."""
    from edgeopt.errors import UsageError
    from edgeopt.workflow.enrolling import Hawkbit

    if url is None:
        if token_file or controller:
            option = "--token-file" if token_file else "--controller"
            raise UsageError(f"{option} is for hawkBit.", remedy="Give --hawkbit URL, too.")
        return None
    if token_file is None:
        raise UsageError("--hawkbit needs the board's token.", remedy="Give --token-file FILE.")
    try:
        token = Path(token_file).expanduser().read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"--token-file {token_file!r}: {error}.", remedy="Give a file with the token.") from None
    if not token or len(token) > _LONGEST_TOKEN or any(not "!" <= character <= "~" for character in token):
        raise UsageError(f"--token-file {token_file!r} holds no token.", remedy="Copy the token from hawkBit's target.")
    return Hawkbit(url, token, controller)


def _say_removed(name: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"removed": name})
        return
    output.console().print(f"{name} pulls no more.")


def _say(done: Enrolled, *, timer: bool) -> None:
    console = output.console()
    console.print(f"{done.device} trusts your root, version {done.root_version}.")
    if done.url and done.started_by:
        console.print(f"It pulls from {done.url}; a {done.started_by} timer of systemd starts it.", soft_wrap=True)
    elif done.url:
        why = "No systemd runs there" if timer else "Nothing starts it there"
        console.print(f"It pulls from {done.url}. {why}: put this line into its crontab (crontab -e):", soft_wrap=True)
    for line in filter(None, (done.cron_line, done.note)):
        console.print(line, soft_wrap=True, markup=False)
