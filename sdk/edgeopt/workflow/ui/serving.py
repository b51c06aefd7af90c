"""Serves the local page on the loopback interface until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from importlib.util import find_spec

from edgeopt.errors import UsageError
from edgeopt.workflow.fleet.rollouts import rollout_store
from edgeopt.workflow.ui.contents import Contents
from edgeopt.workflow.workspace import Workspace

HOST = "127.0.0.1"
_NEEDED = ("starlette", "uvicorn")
_LAST_ANSWERS_SECONDS = 2


def require_server() -> None:
    """Refuse where the web framework is not installed.

    Raises:
        UsageError: It is not.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"edgeopt ui needs {' and '.join(missing)}, which this computer does not have.",
            remedy="Install it: pip install 'edgeopt[ui]'.",
        )


def listening(port: int) -> socket.socket:
    """A socket on the loopback interface that nobody else has.

    Args:
        port: 0 takes a free one.

    Raises:
        UsageError: The port is taken or not allowed.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # of a server that has just ended, not one that lives
        made.bind((HOST, port))
        made.listen(64)
    except (OSError, OverflowError) as error:
        made.close()
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(
            f"cannot listen on {HOST}:{port}: {reason}.",
            remedy="Is edgeopt ui running already? --port 0 takes a free one.",
        ) from None
    return made


def serve(workspace: Workspace, port: int, *, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        workspace: What is shown.
        port: 0 takes a free one.
        ready: Told the address, with the token, when it listens.

    Raises:
        UsageError: The port is taken, or the web framework is not installed.
        KeyboardInterrupt: Ctrl-C, after the last answers went out.
    """
    require_server()
    import uvicorn

    from edgeopt.workflow.ui.access import Guard
    from edgeopt.workflow.ui.views import application

    token = secrets.token_urlsafe(32)
    with listening(port) as bound, rollout_store(workspace) as rollouts:
        actual = bound.getsockname()[1]
        config = uvicorn.Config(
            Guard(application(Contents(workspace, rollouts)), token=token, port=actual),
            log_config=None,  # its lines of access would hold the token
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            http="h11",
            timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
        )
        ready(f"http://{HOST}:{actual}/?token={token}")
        uvicorn.Server(config).run(sockets=[bound])
