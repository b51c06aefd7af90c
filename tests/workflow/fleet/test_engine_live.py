"""Files to a real runner: as patches where they are smaller, whole where the board cannot rebuild."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.core.device import Device
from edgeopt.remote.board import Base, BoardClient, Needed, TrustState
from edgeopt.remote.client import Connection, connect
from edgeopt.signing.key_folder import KeyFolder
from edgeopt.signing.repository import Repository
from edgeopt.signing.setup import initialise
from edgeopt.workflow.fleet.engine_live import Carrier, LiveBoard
from edgeopt.workflow.fleet.engine_port import Order, Preflight

ORDER = Order("r", "local", "detector", "1", "0" * 64, "releases/detector/1.json", "pi5", 1)


class Files:
    """A source of files that a test made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return digest

    def manifest(self, app: str, version: str) -> Path:
        return self.folder / "manifest"

    def file(self, digest: str) -> Path | None:
        path = self.folder / digest
        return path if path.exists() else None

    def metadata(self, trust: TrustState) -> Mapping[str, Any]:
        return {}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with connect(Device("local", "local", root=str(tmp_path / "root"))) as opened:
        yield opened


def models() -> tuple[bytes, bytes]:
    """Two files of 400 KB of which an eighth differs."""
    old = np.random.default_rng(1).integers(0, 256, 400_000, np.uint8)
    new = old.copy()
    new[:50_000] = np.random.default_rng(2).integers(0, 256, 50_000, np.uint8)
    return old.tobytes(), new.tobytes()


@pytest.mark.parametrize("has_base", [True, False])
def test_a_patch_is_sent_where_the_board_has_a_base_and_the_file_where_it_only_says_so(
    connection: Connection, tmp_path: Path, has_base: bool
) -> None:
    source = Files(tmp_path)
    old, new = (source.add(data) for data in models())
    if has_base:
        connection.push(tmp_path / old, old)
    carrier = Carrier({}, source, tmp_path / "patches")
    board = LiveBoard(connection, carrier)
    parcel = board._parcel(Needed(new, 400_000, 0), (Base(old, 400_000, "0.9"),))
    assert parcel.patch is not None
    assert parcel.send_bytes < 0.2 * 400_000
    progress: list[tuple[int, int]] = []
    throttled: list[int] = []
    found = Preflight("update", send_bytes=parcel.send_bytes, way=(_Room(), [parcel]))
    sent = board.send(ORDER, found, throttled.append, lambda there, of: progress.append((there, of)))
    assert connection.have([new]) == {new}
    assert sent == parcel.send_bytes + (0 if has_base else 400_000)
    assert sum(throttled) == sent
    assert progress[-1] == (parcel.send_bytes, parcel.send_bytes)


class _Room:
    """What a preflight says of space, where there is enough."""

    need_bytes, free_bytes, collect_bytes, needs = 0, 1 << 40, 0, ()


def test_what_half_arrived_is_resumed_and_not_patched(connection: Connection, tmp_path: Path) -> None:
    source = Files(tmp_path)
    old, new = (source.add(data) for data in models())
    board = LiveBoard(connection, Carrier({}, source, tmp_path / "patches"))
    parcel = board._parcel(Needed(new, 400_000, 100_000), (Base(old, 400_000, "0.9"),))
    assert (parcel.patch, parcel.send_bytes) == (None, 300_000)


def test_who_was_overtaken_by_another_process_brings_the_board_the_newest_metadata(
    connection: Connection, tmp_path: Path
) -> None:
    tree = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys"))
    initialise(tree, passphrase=None, now=time.time())
    other = BoardClient(connection)
    other.enrol(tree.root())

    class Overtaken(Files):
        def metadata(self, trust: TrustState) -> Mapping[str, Any]:
            found = tree.metadata_for_push(asdict(trust))
            if trust.timestamp == 0:
                tree.refresh(also=("timestamp",))
                other.bring_trust(tree.metadata_for_push(asdict(other.trust())))
            return found

    LiveBoard(connection, Carrier({}, Overtaken(tmp_path))).bring_trust()
    assert other.trust().timestamp == 2


def test_where_no_patch_can_be_kept_files_go_whole(connection: Connection, tmp_path: Path) -> None:
    source = Files(tmp_path)
    old, new = (source.add(data) for data in models())
    (tmp_path / "disk").write_text("in the way")
    carrier = Carrier({}, source, tmp_path / "disk" / "patches")
    for _ in range(2):
        parcel = LiveBoard(connection, carrier)._parcel(Needed(new, 400_000, 0), (Base(old, 400_000, "0.9"),))
        assert (parcel.patch, parcel.send_bytes) == (None, 400_000)


def test_a_job_that_was_never_given_has_no_outcome(connection: Connection, tmp_path: Path) -> None:
    board = LiveBoard(connection, Carrier({}, Files(tmp_path)))
    assert board.collect(ORDER, lambda _: None) is None
    assert board.release("detector") is None
