"""A board that pulls takes a patch where its store has one for what it runs, and the file where that is no good."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.deltas.best import best_patch
from edgeopt_runner import storage
from edgeopt_runner.agent import deltas
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.agent.web import Web
from edgeopt_runner.protocol import ready_patches
from edgeopt_runner.protocol.ready_patches import Ready
from edgeopt_runner.protocol.samples import write_samples
from support.pull_tree import PullTree
from support.pulling import PullingBoard
from support.worker import conv_network, outputs_of


def network(folder: Path, bias: float) -> tuple[Path, bytes]:
    """A network of a quarter MiB of which only the bias differs, and its golden samples."""
    folder.mkdir(exist_ok=True)
    model = conv_network(folder / f"{bias}.onnx", channels=2048, bias=bias)
    inputs = np.random.default_rng(1).normal(size=(4, 1, 3, 16, 16)).astype(np.float32)
    golden = folder / f"{bias}.npz"
    write_samples(str(golden), {"input:x": inputs, "reference:logits": outputs_of(model, inputs)})
    return model, golden.read_bytes()


class Store:
    """A tree with 1.0 and 2.0 of one network."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tree = folder, PullTree(folder / "tree")
        self.old, self._golden = network(folder / "networks", 0.0)
        self.new, self._next_golden = network(folder / "networks", 1.0)
        self.base, self.aim = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.old, self.new))
        self.size = self.new.stat().st_size

    def board_of_the_first(self) -> PullingBoard:
        """A board that runs 1.0 and is offered 2.0."""
        self._offer("1.0", 1, self.old, self._golden)
        board = PullingBoard(self.folder / "board", self.tree, f"file://{self.tree.folder}")
        assert board.outcome() == "committed"
        self._offer("2.0", 2, self.new, self._next_golden)
        return board

    def _offer(self, version: str, counter: int, model: Path, golden: bytes) -> None:
        self.tree.release("digits", version, counter, model.read_bytes(), golden)
        self.tree.offer("digits", version, f"{counter:016x}")
        self.tree.publish()

    def patch(self, *codecs: str) -> Ready:
        """The patch from 1.0 to 2.0, among the blobs."""
        made = best_patch({self.base: self.old}, self.new, codecs or ("zlib",), self.folder / "patches")
        assert made is not None
        self.tree.blob(made.path.read_bytes())
        return Ready(made.base, made.digest, made.size_bytes, codecs or ("zlib",))

    def list(self, data: bytes) -> None:
        """Put a list of patches for 2.0 there."""
        place = self.tree.folder / ready_patches.path(self.aim)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_what_changed_is_fetched_and_the_rest_taken_from_what_runs_also_after_a_kill(store: Store) -> None:
    board, patch = store.board_of_the_first(), store.patch("zlib", "lzma")
    store.list(ready_patches.encode([patch]))
    assert patch.size < 0.1 * store.size
    assert board.poll(fault="pull.patch:kill9")[0] == -signal.SIGKILL
    board.assert_sound("digits", "1.0")
    _, said = board.poll()
    assert (said[0]["outcome"], said[-1]["received_bytes"] < 0.5 * store.size) == ("committed", True), said
    board.assert_sound("digits", "2.0")
    assert not (board.root / "objects" / patch.sha256).exists()


def test_a_rebuild_that_is_killed_costs_the_patch_and_not_the_update(store: Store) -> None:
    board = store.board_of_the_first()
    store.list(ready_patches.encode([store.patch()]))
    _, said = board.poll(fault="rebuild.before_rename:kill9")
    assert (said[0]["outcome"], said[-1]["received_bytes"] > store.size) == ("committed", True), said
    board.assert_sound("digits", "2.0")


def of_another_content(store: Store) -> bytes:
    return ready_patches.encode([store.patch()._replace(sha256=store.tree.blob(b"no patch" * 200), size=1600)])


WRONG: dict[str, Callable[[Store], bytes]] = {
    "no list": lambda store: b"<html>",
    "another base": lambda store: ready_patches.encode([store.patch()._replace(base="ab" * 32)]),
    "a codec that is not here": lambda store: ready_patches.encode([store.patch()._replace(codecs=("zstd",))]),
    "a patch that is not there": lambda store: ready_patches.encode([store.patch()._replace(sha256="cd" * 32)]),
    "another size": lambda store: ready_patches.encode([store.patch()._replace(size=7)]),
    "as large as the file": lambda store: ready_patches.encode([store.patch()._replace(size=store.size)]),
    "no patch": of_another_content,
    "too long": lambda store: b" " * (ready_patches.LIMIT_BYTES + 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_patch_that_is_of_no_use_makes_nothing(
    store: Store, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_LOCK", str(tmp_path / "board.lock"))
    root = str(tmp_path / "root")
    storage.prepare(root)
    shutil.copy(store.old, storage.object_path(root, store.base))
    store.list(WRONG[name](store))
    tree, need = (
        Tree(f"file://{store.tree.folder}", Web(), Patience("board", 1)),
        {"sha256": store.aim, "size": store.size},
    )
    assert not deltas.bring(tree, root, need, [store.base], "board")
    assert not Path(storage.object_path(root, store.aim)).exists()
    assert tree.received_bytes < 0.5 * store.size


ROW: dict[str, Any] = Ready("", "ab" * 32, 7, ["zlib"])._asdict()


@pytest.mark.parametrize(
    "change",
    [
        {"base": None},
        {"base": "x"},
        {"sha256": "../x"},
        {"size": 0},
        {"size": True},
        {"codecs": "zlib"},
        {"codecs": [7]},
    ],
)
def test_rows_that_are_none_are_left_out_of_a_list(change: dict[str, Any]) -> None:
    assert ready_patches.read(json.dumps({"schema": 1, "patches": [{**ROW, **change}, ROW, 3]}).encode()) == [
        Ready("", "ab" * 32, 7, ("zlib",))
    ]
