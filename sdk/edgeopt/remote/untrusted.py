"""What a device says is untrusted: control characters go, numbers must be finite, depth and size have ends."""

from __future__ import annotations

import math
import re
from typing import Any

from edgeopt.errors import ProtocolError

_DEPTH = 32
_TEXT_LIMIT = 1 << 20
_INTEGER_LIMIT = 1 << 63
_DIGEST = re.compile(r"[0-9a-f]{64}")
# C0 but tab and newline, DEL, C1, bidirectional controls, line separators, lone surrogates, byte-order mark
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def clean_text(text: str) -> str:
    """Text without terminal escapes and other control characters, at most 1 MiB of it."""
    return _CONTROL.sub("", text[:_TEXT_LIMIT])


def one_line(text: str, limit: int = 200) -> str:
    """Clean text on one line, shortened to `limit` characters."""
    return " ".join(clean_text(text).split())[:limit]


def checked(value: Any, where: str, depth: int = 0) -> Any:
    """A JSON value with all of its text cleaned.

    Args:
        value: What the parser made.
        where: Device and verb, for the message.
        depth: How deep in the document we are.

    Raises:
        ProtocolError: A number that is not finite or absurdly large, or a document nested too deep.
    """
    if depth > _DEPTH:
        raise ProtocolError(f"{where}: an answer nested more than {_DEPTH} deep.")
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): checked(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [checked(item, where, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ProtocolError(f"{where}: an answer with the number {value}.")
    if isinstance(value, int) and abs(value) >= _INTEGER_LIMIT:
        raise ProtocolError(f"{where}: an answer with a number of {value.bit_length()} bits.")
    return value


def check_digest(digest: str, where: str) -> None:
    """Refuse what is no SHA-256 before it becomes part of a command or of a path.

    Raises:
        ProtocolError: It is not 64 hexadecimal digits.
    """
    if not _DIGEST.fullmatch(digest):
        raise ProtocolError(f"{where}: {digest[:80]!r} is not a SHA-256 digest.")


def field(document: Any, name: str, kind: type[Any], where: str) -> Any:
    """A field of an answer, of the type that it must have.

    Raises:
        ProtocolError: It is missing or of another type.
    """
    value = document.get(name) if isinstance(document, dict) else None
    if kind is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ProtocolError(f"{where}: {name} is {str(value)[:80]!r}, not of type {kind.__name__}.")
    return value
