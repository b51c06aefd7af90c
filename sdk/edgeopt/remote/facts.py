"""Makes `DeviceFacts` from what a device says about itself, which is untrusted."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgeopt.core.device import DeviceFacts
from edgeopt.documents import decode
from edgeopt.errors import DocumentError, ProtocolError
from edgeopt.remote.untrusted import one_line

_MOST_ITEMS = 128
"""More than any board has of anything; what is beyond it is left out."""

_MOST_KHZ = 100_000_000
_PAGES = range(1 << 12, (1 << 21) + 1)


def facts_of(answer: dict[str, Any], device: str) -> DeviceFacts:
    """The facts in the answer to ``probe``.

    A field that an older runner does not know keeps its default; an optional number that cannot be is ``None``.

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
    return _without_the_impossible(facts)


def _without_the_impossible(facts: DeviceFacts) -> DeviceFacts:
    possible = {
        "kernel_bits": facts.kernel_bits in (32, 64),
        "page_bytes": facts.page_bytes in _PAGES,
        "swap_bytes": (facts.swap_bytes or 0) >= 0,
        "max_khz": 0 < (facts.max_khz or 0) <= _MOST_KHZ,
        "cores_fast": 0 < (facts.cores_fast or 0) < facts.cores_logical,
    }
    impossible: dict[str, Any] = {name: None for name, ok in possible.items() if not ok}
    return dataclasses.replace(facts, **impossible)


def _single_lines(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list):
        return [_single_lines(item) for item in value[:_MOST_ITEMS]]
    if isinstance(value, dict):
        return {one_line(str(key)): _single_lines(item) for key, item in list(value.items())[:_MOST_ITEMS]}
    return value
