"""The verb ``agent``: settings of this board's pull agent, written, told or taken away."""

import os
import shutil
import sys
from typing import Any, Dict, Mapping

from edgeopt_runner import processes
from edgeopt_runner.agent import FILES, device_key, enrolment, settings
from edgeopt_runner.protocol import BAD_REQUEST
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import targets


def agent(root: str, params: Mapping[str, Any]) -> Dict[str, Any]:
    """Write the settings (``settings``, ``certificates``), take them away (``remove``), or only tell.

    Returns:
        ``configured``, ``device_id``, ``url``, ``public_key``, ``enrolled``, and what starts the agent here:
        ``python`` and ``bundle``.

    Raises:
        Refusal: ``bad_request``.
    """
    document, certificates = params.get("settings"), params.get("certificates", "")
    if params.get("remove") is True:
        remove(root)
    elif document is not None:
        if not isinstance(document, dict) or not isinstance(certificates, str):
            raise Refusal(BAD_REQUEST, "settings are %.80r" % (document,), "Send an object, and certificates as text.")
        settings.write(root, document, certificates)
        enrolment.note(root)
    return _told(root)


def remove(root: str) -> None:
    """Take the agent's files away, its key too; what else lies there stays."""
    folder = settings.folder(root)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if FILES.match(name):
            path = os.path.join(folder, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    try:
        os.rmdir(folder)
    except OSError:
        pass  # never there, or something of somebody else's is


def _told(root: str) -> Dict[str, Any]:
    configured = os.path.exists(os.path.join(settings.folder(root), settings.NAME))
    known = settings.load(root) if configured else None
    return {
        "configured": configured,
        "device_id": known.device_id if known else "",
        "url": known.url if known else "",
        "public_key": device_key.public(root) if known else "",
        "enrolled": targets.enrolled(root),
        "python": sys.executable,
        "bundle": _stable(root),
    }


def _stable(root: str) -> str:
    """The bundle by a path that stays when a newer one is placed."""
    stable = os.path.join(root, "runner", "current", os.path.basename(processes.bundle()))
    return stable if os.path.isfile(stable) else processes.bundle()
