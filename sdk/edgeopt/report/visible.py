"""Makes text from devices and users safe to show: nothing in it can move a cursor, reorder a line or forge one."""

from __future__ import annotations

import unicodedata

LIMIT = 2000
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, limit: int = LIMIT) -> str:
    r"""The text with control, bidirectional and other invisible characters written out (``\x1b``, ``\u202e``).

    Args:
        text: Anything that a device or a user said.
        limit: Longest result in characters; what is longer ends in an ellipsis.
    """
    shown = "".join(_shown(character) for character in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _shown(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    if unicodedata.category(character) in _UNSAFE:
        return character.encode("unicode_escape", "backslashreplace").decode("ascii")
    return character
