"""Orders for executors: a small network whose third layer does not bear 8 bits, and recipes for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import EdgeoptError
from edgeopt.workflow.executors._base import Order, Promise
from support.compressing import fragile_onnx, sample_file

PLAIN = Recipe("plain", (PassSpec("cast_half"),))
EIGHT = Recipe("eight", (PassSpec("quantise_static", {"calibrator": "minmax"}),))


def make_order(folder: Path, recipe: Recipe = PLAIN, *, outlier: float = 100.0, **changes: Any) -> Order:
    """An order with its files in `folder`; every order of one folder is of the same files."""
    network = folder / "fragile.onnx"
    if not network.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fragile_onnx(network, outlier)
        sample_file(folder / "samples", network)
    samples = folder / "samples"
    files = {"source": network, "golden": samples, "evaluation": samples, "calibration": samples}
    order = Order(recipe, files, folder / "passes", "fidelity", "x86_64", ("avx2",))
    return replace(order, **changes)


def outcome(promise: Promise) -> tuple[Any, ...]:
    """What two executors have to agree in."""
    try:
        answer = promise.result()
    except EdgeoptError as error:
        return type(error), error.message, error.remedy
    made = answer.made
    return made.path.read_bytes(), made.format, made.parity, made.kept_float, made.notes, answer.value, answer.notes


@contextmanager
def killing(pids: Callable[[], Collection[int]], *, most: int = 1000) -> Iterator[list[int]]:
    """Kill every process that `pids` names while the block runs, `most` of them; a list of those that were."""
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while not ended.is_set() and len(killed) < most:
            for pid in pids():
                if pid not in killed and len(killed) < most:
                    killed.append(pid)
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        ended.set()
        killer.join()
