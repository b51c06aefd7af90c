"""Reads how users name a function: ``file.py:function`` or ``package.module:function``, perhaps with arguments.

Arguments are Python literals, as in ``nets.py:build(width=16, name="small")``; nothing in them is evaluated.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import EdgeoptError

_FORM = re.compile(r"(?P<place>.+?):(?P<name>[^\W\d]\w*)\s*(?P<arguments>\(.*)?", re.DOTALL)
_LITERALS = "Arguments are numbers, text in quotes, True, False, None, and lists, tuples or dicts of them."


@dataclass(frozen=True)
class Call:
    """A function as the user named it.

    Attributes:
        place: File or module.
        name: Of the function; empty where a file was named alone.
        arguments: Their text with its parentheses; empty where there is none.
    """

    place: str
    name: str = ""
    arguments: str = ""


def call_of(source: str) -> Call | None:
    """What `source` names where it has the form of a function; the arguments are not looked into."""
    if source.endswith(".py"):
        return Call(source)
    found = _FORM.fullmatch(source)
    if found is None or (not found["arguments"] and Path(source).exists()):
        return None
    return Call(found["place"], found["name"], (found["arguments"] or "").strip())


def arguments_of(call: Call, error: type[EdgeoptError]) -> tuple[list[Any], dict[str, Any]]:
    """Values that the user gave, by position and by name.

    Raises:
        EdgeoptError: Of class `error`: not the arguments of a call, or one that is no literal; says which.
    """
    if not call.arguments:
        return [], {}
    what = f"the arguments of {call.place}:{call.name}"
    try:
        parsed: ast.expr = ast.parse(f"f{call.arguments}", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as problem:
        place = f" at character {problem.offset - 1}" if isinstance(problem, SyntaxError) and problem.offset else ""
        reason = problem.msg if isinstance(problem, SyntaxError) else str(problem) or type(problem).__name__
        raise error(f"{what} cannot be read{place} of {call.arguments!r}: {reason}.", remedy=_LITERALS) from None
    if not isinstance(parsed, ast.Call) or not isinstance(parsed.func, ast.Name):
        raise error(f"{what} are followed by something else: {call.arguments!r}.", remedy=_LITERALS)
    positional = [_literal(node, number, what, error) for number, node in enumerate(parsed.args, 1)]
    named: dict[str, Any] = {}
    for number, keyword in enumerate(parsed.keywords, len(positional) + 1):
        if keyword.arg is None or keyword.arg in named:
            refusal = "** is not allowed" if keyword.arg is None else f"{keyword.arg} is given twice"
            raise error(f"{what}, number {number}: {refusal}.", remedy=_LITERALS)
        named[keyword.arg] = _literal(keyword.value, number, what, error)
    return positional, named


def _literal(node: ast.expr, number: int, what: str, error: type[EdgeoptError]) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise error(f"{what}, number {number}: {ast.unparse(node)} is no literal.", remedy=_LITERALS) from None
