"""How commands speak: tables on stdout, progress and errors on stderr, or one JSON document."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgeopt.errors import EdgeoptError

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


def fail(error: EdgeoptError, *, as_json: bool) -> NoReturn:
    """Say what happened, the value and the remedy; leave with the error's exit code."""
    if as_json:
        document = {"code": error.code, "message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
        sys.stdout.write(json.dumps({"error": document}, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"edgeopt: {error.message}\n")
        if error.remedy:
            sys.stderr.write(f"  what to do: {error.remedy}\n")
    sys.exit(error.exit_code)


def fail_interrupted() -> NoReturn:
    """After Ctrl-C: what is measured is kept."""
    sys.stderr.write(
        "\nedgeopt: interrupted. Everything measured so far is kept; the same command goes on from here.\n"
    )
    sys.exit(EXIT_INTERRUPTED)


def fail_internal(error: BaseException) -> NoReturn:
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
    sys.stderr.write(f"edgeopt: internal error: {type(error).__name__}: {error}\n  what to do: {where}\n")
    sys.exit(EXIT_INTERNAL)


def display_path(path: Path) -> str:
    """A path as short as it can be said: relative to the current folder where it lies below it."""
    try:
        return str(path.relative_to(os.getcwd()))
    except ValueError:
        return str(path)
