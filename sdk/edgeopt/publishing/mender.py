"""What Mender needs to carry releases: the update module for boards, and the files that go into an artifact. Pure."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from edgeopt.errors import UsageError
from edgeopt_runner.protocol import offers

MODULE = "edgeopt-model"
"""Name of the update module: the type of the payload, and of the file in ``/usr/share/mender/modules/v3``."""


def module_script(root: str, python: str = "python3") -> str:
    """The update module: it hands every state to the runner's bundle on the board.

    Args:
        root: The runner's root on the board, absolute.
        python: Interpreter there.

    Raises:
        UsageError: The root is not absolute; Mender has no home to resolve it by.
    """
    if not root.startswith("/"):
        raise UsageError(f"--root {root!r} is not absolute.", remedy="Mender runs as root: give the whole path.")
    bundle = f"{root.rstrip('/')}/runner/current/edgeopt_runner.pyz"
    words = shlex.join([python, "-I", bundle, "mender", "--root", root])
    return f"""#!/bin/sh
# Mender update module (protocol v3) of edgeopt: /usr/share/mender/modules/v3/{MODULE}
exec {words} "$@"
"""


def artifact_files(tree: Path, app: str, version: str) -> tuple[Path, ...]:
    """Files of a release that one assignment or artifact has to bear: metadata, manifest, models, golden samples.

    Args:
        tree: The release tree.
        app: The app.
        version: A published version.

    Raises:
        UsageError: The release is not in the tree.
    """
    folder = tree / "targets" / "releases" / app
    manifests = sorted(folder.glob(f"*.{version}.json"))
    named = [path for path in manifests if path.name.partition(".")[2] == f"{version}.json"]
    if len(named) != 1:
        raise UsageError(
            f"{offers.target(app, version)} is not in {tree}.", remedy="Publish it first: edgeopt publish."
        )
    entries = json.loads(named[0].read_text())["entries"].values()
    digests = {entry[kind]["digest"] for entry in entries for kind in ("model", "golden")}
    metadata = sorted(path for path in (tree / "metadata").glob("*.json") if not path.name.startswith("."))
    return (*metadata, named[0], *(tree / "blobs" / digest for digest in sorted(digests)))


def artifact_command(files: tuple[Path, ...], app: str, version: str, device_type: str) -> str:
    """The command of ``mender-artifact`` that makes an artifact of these files."""
    words = ["mender-artifact", "write", "module-image", "-T", MODULE, "-n", f"{app}-{version}", "-t", device_type]
    given = [word for path in files for word in ("-f", str(path))]
    return shlex.join([*words, "-o", f"{app}-{version}.mender", *given])
