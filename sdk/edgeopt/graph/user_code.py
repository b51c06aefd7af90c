"""Finds the functions that users name as ``file.py:function`` or ``package.module:function``.

`check_function` looks without running anything; `load_function` imports and is meant for child processes, as the user's
code may hang or crash.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeopt.errors import EdgeoptError


def is_function(source: str) -> bool:
    """Whether `source` has the form of ``file.py:function`` or ``package.module:function``, or is a Python file."""
    place, _, name = source.rpartition(":")
    return source.endswith(".py") or (bool(place) and name.isidentifier() and not Path(source).exists())


def check_function(source: str, error: type[EdgeoptError]) -> Path | None:
    """The file that holds the function, after a look at its text; ``None`` for a module's name.

    Args:
        source: What the user typed.
        error: The class to raise: `ModelError` for networks, `DataError` for data and metrics.

    Raises:
        EdgeoptError: Of class `error`: no such file or function, or no function named; lists what the file has.
    """
    place, _, name = source.rpartition(":")
    if source.endswith(".py"):
        place, name = source, ""
    if not place.endswith(".py"):
        return None
    path = Path(place).expanduser()
    if not path.is_file():
        raise error(f"there is no file {place}.", remedy="Give the path of a Python file, as in nets.py:build.")
    try:
        functions, others = _names_in(path)
    except (SyntaxError, ValueError) as problem:
        raise error(f"{place} is not valid Python: {problem}.") from None
    if not name:
        raise error(f"{place} is a Python file; say which function.", remedy=_choices(functions))
    if name not in [*functions, *others]:
        raise error(f"{place} has no function {name}.", remedy=_choices(functions))
    return path


def _names_in(path: Path) -> tuple[list[str], list[str]]:
    """Functions and classes at the top level of a file, and other names there that may be callable."""
    functions: list[str] = []
    others: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            functions.append(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            others += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            others += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return functions, others


def _choices(names: list[str]) -> str:
    shown = ", ".join(name for name in names if not name.startswith("_"))
    return f"It has: {shown}." if shown else "It defines none."


def load_function(source: str, error: type[EdgeoptError]) -> Callable[..., Any]:
    """Import the user's function.

    Raises:
        EdgeoptError: Of class `error`: it is not there, its module cannot be imported, or it cannot be called.
    """
    path = check_function(source, error)
    place, _, name = source.rpartition(":")
    try:
        module = _load_file(path) if path else importlib.import_module(place)
    except Exception as problem:
        raise user_problem(f"importing {place}", problem, error) from None
    function = getattr(module, name, None)
    if not callable(function):
        found = "nothing" if function is None else f"a {type(function).__name__}"
        callables = [key for key, value in vars(module).items() if callable(value)]
        raise error(f"{source}: {name} is {found}, not a function.", remedy=_choices(callables))
    result: Callable[..., Any] = function
    return result


def _load_file(path: Path) -> ModuleType:
    """Import a file under a name of our own; its neighbours can be imported by it, as when Python runs it."""
    name = f"edgeopt_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def user_problem(doing: str, problem: BaseException, error: type[EdgeoptError]) -> EdgeoptError:
    """An exception of the user's code as one of ours: class, message, and the line of the user's file it came from."""
    if isinstance(problem, EdgeoptError):
        return problem
    if isinstance(problem, ModuleNotFoundError) and problem.name == "torch":
        return error(f"{doing} needs torch, which is not installed.", remedy="Run: pip install 'edgeopt[torch]'.")
    if isinstance(problem, ModuleNotFoundError):
        return error(
            f"{doing} failed: there is no module {problem.name}.",
            remedy="Install it beside edgeopt, or name the file that has it, as in nets.py:build.",
        )
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if _is_users(frame.filename)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    text = " ".join(str(problem).split())[:300]
    remedy = "Correct it there; called from Python by itself, it shows its whole traceback."
    return error(f"{doing} failed: {type(problem).__name__}: {text}{place}.", remedy=remedy)


def _is_users(filename: str) -> bool:
    ours = Path(__file__).parent.parent
    path = Path(filename)
    return path.exists() and not path.is_relative_to(ours) and "site-packages" not in path.parts
