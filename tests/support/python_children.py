"""Python programs as child processes that a test starts, watches and kills."""

from __future__ import annotations

import subprocess
import sys


def start_python(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a program text with the tests' import path; its output can be read from the pipes."""
    preamble = f"import sys; sys.path[:0] = {sys.path!r}\n"
    return subprocess.Popen(
        [sys.executable, "-c", preamble + program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
