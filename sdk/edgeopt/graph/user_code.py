"""Finds the functions that users name as ``file.py:function`` or ``package.module:function``, perhaps with arguments.

`check_function` looks without running anything; `load_function` imports and is meant for child processes, as the user's
code may hang or crash.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeopt.errors import EdgeoptError
from edgeopt.graph.user_call import Call, arguments_of, call_of


def is_function(source: str) -> bool:
    """Whether `source` has the form of ``file.py:function`` or ``package.module:function``, or is a Python file."""
    return call_of(source) is not None


def check_function(source: str, error: type[EdgeoptError]) -> Path | None:
    """The file that holds the function, after a look at its text; ``None`` for a module's name.

    Args:
        source: What the user typed.
        error: The class to raise: `ModelError` for networks, `DataError` for data and metrics.

    Raises:
        EdgeoptError: Of class `error`: no such file or function, or no function named (lists what the file has), or
            arguments that are no literals.
    """
    call = call_of(source) or Call(source)
    arguments_of(call, error)
    if not call.place.endswith(".py"):
        return None
    path = Path(call.place).expanduser()
    if not path.is_file():
        raise error(f"there is no file {call.place}.", remedy="Give the path of a Python file, as in nets.py:build.")
    try:
        functions, others = _names_in(path)
    except (SyntaxError, ValueError) as problem:
        raise error(f"{call.place} is not valid Python: {problem}.") from None
    if not call.name:
        raise error(f"{call.place} is a Python file; say which function.", remedy=_choices(functions))
    if call.name not in [*functions, *others]:
        raise error(f"{call.place} has no function {call.name}.", remedy=_choices(functions))
    return path


def source_text(source: str, error: type[EdgeoptError]) -> str:
    """What a function's results depend on: the text of its file, its name and arguments.

    Of a module, as its file cannot be found without importing it, its name alone.

    Raises:
        EdgeoptError: As for `check_function`.
    """
    path, call = check_function(source, error), call_of(source)
    return f"{path.read_text(encoding='utf-8')}\n{call.name}{call.arguments}" if path and call else source


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


def load_function(
    source: str, error: type[EdgeoptError], *, given: int = 0, known: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Import the user's function, with the arguments that the user gave put in.

    Args:
        source: What the user typed.
        error: The class to raise.
        given: How many values it will be called with; the user's come behind them.
        known: Values for parameters of these names that have no default and that the user leaves out.

    Returns:
        What is called with `given` values.

    Raises:
        EdgeoptError: Of class `error`: it is not there, its module cannot be imported, it cannot be called, or it does
            not take these arguments; says which it takes.
    """
    path = check_function(source, error)
    call = call_of(source) or Call(source)
    try:
        module = _load_file(path) if path else importlib.import_module(call.place)
    except Exception as problem:
        raise user_problem(f"importing {call.place}", problem, error) from None
    function = getattr(module, call.name, None)
    if not callable(function):
        found = "nothing" if function is None else f"a {type(function).__name__}"
        callables = [key for key, value in vars(module).items() if callable(value)]
        raise error(f"{source}: {call.name} is {found}, not a function.", remedy=_choices(callables))
    positional, named = arguments_of(call, error)
    named |= _fitting(function, known or {}, len(positional) + given, named)
    _demand_fit(function, call, (*[None] * given, *positional), named, error)
    return lambda *values: function(*values, *positional, **named)


def _fitting(
    function: Callable[..., Any], known: Mapping[str, Any], first: int, named: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of the known values that a function asks for and does not get otherwise."""
    signature = _signature(function)
    if not known or signature is None:
        return {}
    parameters = list(signature.parameters.values())
    by_position = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    missing = [one.name for one in parameters if one.default is one.empty]
    return {name: known[name] for name in missing if name in known and name not in {*by_position[:first], *named}}


def _demand_fit(
    function: Callable[..., Any],
    call: Call,
    positional: tuple[Any, ...],
    named: Mapping[str, Any],
    error: type[EdgeoptError],
) -> None:
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind(*positional, **named)
    except TypeError as problem:
        shown = signature.replace(
            parameters=[one.replace(annotation=one.empty) for one in signature.parameters.values()],
            return_annotation=signature.empty,
        )
        raise error(
            f"{call.place}:{call.name}{call.arguments or '()'} cannot be called: {problem}.",
            remedy=f"It takes {shown}.",
        ) from None


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """``None`` for the few that do not tell, as some written in C."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


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
