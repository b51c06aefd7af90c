"""`edgeopt ui`: the local page of runs, devices and rollouts."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from edgeopt.cli import options, output

PORT = 8476


def ui(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where it listens on 127.0.0.1; 0 takes a free one.")
    ] = PORT,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address only.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show runs, devices and rollouts in the browser of this computer, and follow what is at work.

    Only this computer can reach it, and only with the address that is printed: it has a token. Nothing can be changed
    there. Ctrl-C ends it, with exit code 0.
    """
    from edgeopt.workflow.ui.serving import require_server, serve
    from edgeopt.workflow.workspace import Workspace

    require_server()

    def ready(address: str) -> None:
        if as_json:
            output.print_json({"url": address})
        else:
            sys.stdout.write(f"edgeopt is at {address}\nCtrl-C ends it.\n")
        sys.stdout.flush()
        if not no_browser and not as_json and _has_screen():
            import webbrowser

            webbrowser.open(address)

    with Workspace.open() as workspace:
        try:
            serve(workspace, port, ready=ready)
        except KeyboardInterrupt:
            sys.stderr.write("Ended.\n")


def _has_screen() -> bool:
    """Whether a browser would open a window; elsewhere one that takes over the terminal could begin."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
