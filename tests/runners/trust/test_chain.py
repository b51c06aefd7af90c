"""What a board trusts next: recovery from stolen keys, files that do not belong together, files that it has already."""

from __future__ import annotations

import pytest
from tuf.api.exceptions import RepositoryError

from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import chain
from edgeopt_runner.trust.chain import Incoming, Trusted
from support.hostile_metadata import NOW, Files, Oracle, first_world


def ours(held: Trusted, files: Files, now: int) -> Trusted:
    """What the board trusts after an update."""
    followed = chain.follow_roots(held.root, files.roots)
    held = held._replace(root=followed[-1]) if followed else held
    return chain.update(held, Incoming(files.timestamp, files.snapshot, files.targets, files.delegated), now)


def test_a_version_that_a_thief_pushed_up_is_forgotten_once_the_key_is_rotated() -> None:
    world = first_world()
    held, oracle = Trusted(chain.first_root(world.roots[0])), Oracle(world.roots[0])
    for role in ("timestamp", "snapshot"):
        world.version[role] = 2**31
    stolen = world.files()
    oracle.keep(oracle.update(stolen, NOW), stolen)
    held = ours(held, stolen, NOW)
    world.version.update(timestamp=7, snapshot=7)
    with pytest.raises(Refusal, match="has seen version 2147483648") as caught:
        ours(held, world.files(), NOW)
    assert caught.value.code == "rollback_attack"
    with pytest.raises(RepositoryError):
        oracle.update(world.files(), NOW)
    world.rotate("timestamp")
    world.rotate("snapshot")
    files = world.files()
    assert ours(held, files, NOW).timestamp.version == oracle.update(files, NOW).timestamp.version == 9


def test_targets_of_the_version_before_do_not_go_with_a_new_snapshot() -> None:
    world = first_world()
    held = ours(Trusted(chain.first_root(world.roots[0])), world.files(), NOW)
    old = world.files()
    world.publish()
    mixed = world.files()
    mixed.targets = old.targets
    with pytest.raises(Refusal, match="targets has version 1, the snapshot names 2"):
        ours(held, mixed, NOW)


def test_what_the_board_holds_need_not_be_sent_again() -> None:
    world = first_world()
    held = ours(Trusted(chain.first_root(world.roots[0])), world.files(), NOW)
    again = chain.update(held, Incoming(), NOW)
    assert again == held
    world.version["timestamp"] += 1
    assert chain.update(held, Incoming(timestamp=world.files().timestamp), NOW).timestamp.version == 2


def test_hashes_and_lengths_that_metadata_name_are_held_against_the_files() -> None:
    for field, value in (("length", 7), ("hashes", {"sha256": "0" * 64}), ("hashes", {"md5": "0" * 32})):
        world = first_world()
        world.before["timestamp"] = lambda signed, field=field, value=value: signed["meta"]["snapshot.json"].update(
            {field: value}
        )
        with pytest.raises(Refusal) as caught:
            ours(Trusted(chain.first_root(world.roots[0])), world.files(), NOW)
        assert caught.value.code == "bad_metadata"
        with pytest.raises((RepositoryError, ValueError)):
            Oracle(world.roots[0]).update(world.files(), NOW)
