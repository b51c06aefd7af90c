"""How commands speak: tables on stdout, progress and errors on stderr, or one JSON document."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgeopt.errors import EdgeoptError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.report.progress import Progress

EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130


def console() -> Console:
    """The console that tables go to."""
    from rich.console import Console

    return Console(highlight=False)


def accept_any_terminal() -> None:
    """A terminal that cannot show a character shows a stand-in; it never ends a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def progress(*, silent: bool) -> Progress:
    """A progress display on stderr."""
    from rich.console import Console

    from edgeopt.report.progress import Progress

    return Progress(Console(stderr=True, highlight=False), quiet=silent)


def print_json(document: Any) -> None:
    """Print one JSON document; nouns become plain data first."""
    from edgeopt import documents

    data = document if isinstance(document, dict | list) else documents.plain(document)
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def indented(text: str) -> str:
    """A paragraph below a heading, as wide as the terminal."""
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    ") + "\n"


def fail(error: EdgeoptError, *, as_json: bool) -> NoReturn:
    """Say what happened, the value and the remedy; leave with the error's exit code."""
    _fail(error.code, error.message, error.remedy, error.exit_code, as_json)


def _fail(code: str, message: str, remedy: str, exit_code: int, as_json: bool) -> NoReturn:
    if as_json:
        document = {"code": code, "message": message, "remedy": remedy, "exit_code": exit_code}
        sys.stdout.write(json.dumps({"error": document}, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"edgeopt: {message}\n" + (f"  what to do: {remedy}\n" if remedy else ""))
    sys.exit(exit_code)


def fail_interrupted(*, as_json: bool) -> NoReturn:
    """After Ctrl-C: what is measured is kept."""
    remedy = "Everything measured so far is kept; the same command goes on from here."
    _fail("Interrupted", "interrupted.", remedy, EXIT_INTERRUPTED, as_json)


def fail_internal(error: BaseException, *, as_json: bool) -> NoReturn:
    """A mistake of ours: keep the traceback in a file, show one line."""
    from edgeopt.home import home

    path = home() / "last-error.txt"
    text = "".join(traceback.format_exception(error))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        where = f"The traceback is in {path}; please report it."
    except OSError:
        where = text
    _fail("InternalError", f"internal error: {type(error).__name__}: {error}", where, EXIT_INTERNAL, as_json)


def display_path(path: Path) -> str:
    """A path as short as it can be said: relative to the current folder where it lies below it."""
    try:
        return str(path.relative_to(os.getcwd()))
    except ValueError:
        return str(path)


def require_writable(path: Path, option: str) -> None:
    """Refuse a place for a result before the work is done that would be lost there.

    Raises:
        UsageError: Its folder is missing or not writable, or it is a folder.
    """
    if path.is_dir():
        raise UsageError(
            f"{option} {str(path)!r} is a folder.", remedy=f"Name a file: {option} {path / 'report.html'}."
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"{option} {str(path)!r}: its folder cannot be written.", remedy="Make the folder first.")
