"""The child's side of a call: reads what to do, does it, writes the result; may tell how far it is."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from edgeopt import errors

ORDER, RESULT, PROGRESS, NEEDED, LOG = "job.json", "result.json", "progress.json", "needed.json", "log"
"""Files in a child's folder."""

HEAVY = (
    "numpy",
    "scipy",
    "onnx",
    "onnxruntime",
    "onnx_ir",
    "onnxslim",
    "torch",
    "onnxscript",
    "torch_pruning",
    "tensorly",
)
"""Libraries that are worth having loaded for the next child; importing them starts no thread that a fork would lose."""

_PROGRESS = "EDGEOPT_CHILD_PROGRESS"
"""Names the file that a child writes its progress to; a variable, as the child's own processes may write it too."""


def report_progress(text: str, share: float) -> None:
    """Say, from inside a child, how far it is; without effect elsewhere.

    Args:
        text: For a person: ``epoch 3 of 10, loss 0.21, 12 s left``.
        share: How much is done, 0 to 1.
    """
    if path := os.environ.get(_PROGRESS):
        partial = Path(f"{path}.{os.getpid()}.part")
        partial.write_text(json.dumps([text, share]))
        partial.replace(path)


def run_job(folder: Path) -> int:
    """Read the job, call the function, write the result atomically; returns the exit code."""
    die_with_parent()
    os.environ[_PROGRESS] = str(folder / PROGRESS)
    job = json.loads((folder / ORDER).read_text())
    module_name, _, name = job["function"].partition(":")
    try:
        document: dict[str, Any] = {"result": getattr(importlib.import_module(module_name), name)(**job["arguments"])}
    except errors.EdgeoptError as error:
        document = {"error": {"class": error.code, "message": error.message, "remedy": error.remedy}}
    (folder / NEEDED).write_text(json.dumps([name for name in HEAVY if name in sys.modules]))
    partial = folder / "result.part"
    partial.write_text(json.dumps(document))
    partial.replace(folder / RESULT)
    return 0


def die_with_parent() -> None:
    """Ask Linux to end us when the parent is killed; elsewhere watch for being adopted."""
    import ctypes
    import threading

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
