"""What converters have in common: how long a first use may take, and what they cannot do."""

from __future__ import annotations

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext

FIRST_USE_SECONDS = 1800.0
"""Default of `max_seconds`: the converter's environment may have to be made."""


def check_seconds(value: float) -> None:
    """Refuse a time that is none. Raises ValueError."""
    if not value > 0:
        raise ValueError(f"max_seconds is {value}, must be above 0")


def refuse_kept(context: PassContext, tool: str) -> None:
    """Refuse to keep layers in float where a tool cannot be told which.

    Raises:
        PassError: The context names some.
    """
    if context.keep_float:
        raise PassError(f"{tool} cannot keep single layers in float: {context.keep_float[0]}.")
