"""The bytes that signatures of metadata are over: canonical JSON as python-tuf and securesystemslib write it.

OLPC's form: keys sorted by code point, no spaces, only quote and backslash escaped, no floating point, UTF-8.
"""

from typing import Any, Callable


def _string(text: str) -> str:
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')


def _write(value: Any, out: Callable[[str], None]) -> None:
    if isinstance(value, str):
        out(_string(value))
    elif value is None or isinstance(value, bool):
        out({True: "true", False: "false", None: "null"}[value])
    elif isinstance(value, int):
        out(str(value))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            out("," if index else "[")
            _write(item, out)
        out("]" if value else "[]")
    elif isinstance(value, dict):
        for index, key in enumerate(sorted(value)):
            out("," if index else "{")
            out(_string(key) + ":")
            _write(value[key], out)
        out("}" if value else "{}")
    else:
        raise ValueError("canonical JSON has no %s" % type(value).__name__)


def encode(value: Any) -> bytes:
    """The canonical bytes of what a JSON parser returned.

    Raises:
        ValueError: It has a number that is not whole, or a string with a lone surrogate.
    """
    parts = []  # type: ignore[var-annotated]
    _write(value, parts.append)
    return "".join(parts).encode("utf-8")
