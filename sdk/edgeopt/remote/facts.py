"""Makes `DeviceFacts` from what a device says about itself, which is untrusted."""

from __future__ import annotations

from typing import Any

from edgeopt.core.device import DeviceFacts
from edgeopt.documents import decode
from edgeopt.errors import DocumentError, ProtocolError
from edgeopt.remote.untrusted import one_line


def facts_of(answer: dict[str, Any], device: str) -> DeviceFacts:
    """The facts in the answer to ``probe``.

    Args:
        answer: The answer, its text already clean.
        device: The device's name, for messages.

    Raises:
        ProtocolError: A field is missing or of the wrong type, or a number cannot be.
    """
    try:
        facts: DeviceFacts = decode(DeviceFacts, _single_lines(answer), where=f"{device}: probe")
    except DocumentError as error:
        raise ProtocolError(error.message, remedy="Is something else than the runner answering?") from None
    if facts.bits not in (32, 64) or min(facts.cores_logical, facts.cores_physical) < 1 or facts.memory_bytes < 0:
        raise ProtocolError(f"{device}: probe: {facts.bits} bits, {facts.cores_logical} cores cannot be.")
    return facts


def _single_lines(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list):
        return [_single_lines(item) for item in value]
    if isinstance(value, dict):
        return {key: _single_lines(item) for key, item in value.items()}
    return value
