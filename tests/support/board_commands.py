"""edgeopt's commands on emulated boards, which may take minutes where the cores are busy."""

from __future__ import annotations

import json
from typing import Any

from support import workflow
from support.workflow import NOISE, Computer

PATIENCE_SECONDS = 1000.0
_IN_AN_EMULATOR = """
from edgeopt.remote import loader
from edgeopt.workflow import measuring
measuring.ATTEMPTS = 1
loader.FIRST_FRAME_SECONDS = 240.0
"""
COMMAND = _IN_AN_EMULATOR + workflow.COMMAND
"""A launch that others disturbed is not repeated: an emulator's cores are never idle, and no time is asserted. And a
first answer takes long there where the computer is busy."""


def run(edgeopt: Computer, *words: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    process = edgeopt.start(*words)
    out, error = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out, error


def answer(edgeopt: Computer, *words: str, status: int = 0) -> dict[str, Any]:
    """The JSON document of a command that ends well, or with the status that is given."""
    ended, out, error = run(edgeopt, *words, "--json")
    assert ended == status, out[-2000:] + error[-2000:]
    document: dict[str, Any] = json.loads(out)
    return document


def provision(edgeopt: Computer, device: str, *words: str) -> dict[str, str]:
    """Provision a device; versions of its runtimes by name.

    Its noise counts as known from then on, which saves the launches that would find it: no time is asserted here.
    """
    environment = answer(edgeopt, "device", "provision", device, *words)
    facts = answer(edgeopt, "device", "probe", device)["facts"]
    with edgeopt.workspace() as workspace:
        workspace.ledger.remember_device_noise(facts["fingerprint"], NOISE)
    found = {runtime["name"]: runtime["version"] for runtime in facts["runtimes"]}
    assert sorted(found.values()) == sorted(runtime["version"] for runtime in environment["runtimes"])
    return found
