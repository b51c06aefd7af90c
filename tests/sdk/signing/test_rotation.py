"""Keys come and go, people sign together, and boards that were enrolled at the start follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.errors import EdgeoptError, SigningError, UsageError
from edgeopt.signing import approval
from edgeopt.signing.condition import conditions
from edgeopt.signing.edition import PendingError
from edgeopt.signing.key_folder import KeyFolder, new_key, read_private, read_public
from edgeopt.signing.repository import Repository
from edgeopt.signing.roles import DAY_SECONDS, POLICIES
from edgeopt.signing.rotation import change, counting, rotate
from edgeopt.signing.setup import initialise
from edgeopt_runner.trust import targets, verbs

NOW = 1_900_000_000.0
ROLES = [policy.name for policy in POLICIES]


@pytest.fixture
def tree(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys"))
    initialise(made, passphrase=None, now=NOW)
    made.add_target("releases/detector/1.json", b'{"counter": 1}')
    made.publish(NOW)
    return made


@pytest.fixture
def board(tree: Repository, tmp_path: Path) -> Path:
    """A board that was enrolled with the first root."""
    verbs.enrol(str(tmp_path / "board"), {"root": tree.root()})
    return tmp_path / "board"


def follows(tree: Repository, board: Path, now: float = NOW) -> bool:
    told = verbs.trust(str(board), {})
    verbs.trust_update(str(board), tree.metadata_for_push(told, now))
    return targets.verified(str(board)).find("releases/detector/1.json") is not None


@pytest.mark.parametrize("role", ROLES)
def test_a_board_follows_a_rotation(tree: Repository, board: Path, role: str) -> None:
    assert follows(tree, board)
    old = counting(tree)
    made = rotate(tree, role, replace=None, passphrase=None, now=NOW)
    assert made not in old
    assert follows(tree, board)
    left = {path.stem.rpartition("-")[2] for path in tree.keys.folder.glob("*.key")}
    assert left == {keyid[:16] for keyid in counting(tree)}
    assert len(list((tree.keys.folder / "retired").iterdir())) == 1


def test_a_board_that_slept_through_many_rotations_follows(tree: Repository, board: Path) -> None:
    for role in ["root", *ROLES, "root"]:
        rotate(tree, role, replace=None, passphrase=None, now=NOW)
    assert follows(tree, board)
    assert verbs.trust(str(board), {})["root"] == tree.current().root.signed.version == 7


@pytest.mark.parametrize("role", ["snapshot", "timestamp", "rollouts"])
def test_a_lost_online_key_is_named_and_replaced(tree: Repository, board: Path, role: str) -> None:
    next(tree.keys.folder.glob(f"{role}-*.key")).unlink()
    fresh = Repository(tree.folder, KeyFolder(tree.keys.folder))
    with pytest.raises(SigningError, match=f"no key of {role} is in") as caught:
        fresh.refresh(NOW + 5 * DAY_SECONDS)
    lost = caught.value.remedy.rpartition(" ")[2].rstrip(".")
    assert f"edgeopt keys rotate {role} --replace {lost}" in caught.value.remedy
    rotate(fresh, role, replace=lost, passphrase=None, now=NOW)
    assert follows(fresh, board, NOW + 5 * DAY_SECONDS)


def test_a_rotation_that_fails_leaves_no_key_behind(tree: Repository) -> None:
    next(tree.keys.folder.glob("snapshot-*.key")).unlink()
    fresh = Repository(tree.folder, KeyFolder(tree.keys.folder))
    before = sorted(tree.keys.folder.iterdir())
    with pytest.raises(EdgeoptError):
        rotate(fresh, "targets", replace="nothing", passphrase=None, now=NOW)
    with pytest.raises(SigningError):
        rotate(fresh, "rollouts", replace=None, passphrase=None, now=NOW)
    assert sorted(tree.keys.folder.iterdir()) == before
    assert fresh.current().root.signed.version == 1


def test_a_crash_before_the_new_root_is_written_leaves_a_tree_that_boards_take(
    tree: Repository, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is below is signed with the old keys and the new ones, so both roots vouch for it."""
    write = type(tree.files).write

    def stops(self: object, role: str, file: object) -> None:
        if role == "root":
            raise SigningError("killed", remedy="")
        write(self, role, file)

    monkeypatch.setattr(type(tree.files), "write", stops)
    with pytest.raises(SigningError, match="killed"):
        rotate(tree, "timestamp", replace=None, passphrase=None, now=NOW)
    monkeypatch.undo()
    assert tree.current().root.signed.version == 1
    assert tree.current().timestamp.signed.version == 3
    assert follows(tree, board)
    rotate(tree, "timestamp", replace=None, passphrase=None, now=NOW)
    assert follows(tree, board)


def test_two_people_sign_the_root_together(tree: Repository, board: Path, tmp_path: Path) -> None:
    """From one key to two of two: the second holder signs on another computer, without the tree."""
    theirs = tmp_path / "theirs.key"
    new_key(theirs, None)
    with pytest.raises(PendingError, match="root is signed by 1 of the 2 keys") as caught:
        change(tree, "root", add=read_public(tmp_path / "theirs.key.pub"), threshold=2, now=NOW)
    assert tree.current().root.signed.version == 1
    assert approval.waiting(tree) == (caught.value.path,)
    travelling = tmp_path / "stick.json"
    travelling.write_bytes(caught.value.path.read_bytes())
    assert any(line.startswith("root: 2 of") for line in approval.describe(approval.read(travelling)))
    approval.sign(travelling, read_private(theirs))
    assert "root" in approval.bring_in(tree, travelling, NOW)
    assert approval.waiting(tree) == ()
    assert follows(tree, board)
    with pytest.raises(PendingError):  # from now on neither can change anything alone
        rotate(tree, "timestamp", replace=None, passphrase=None, now=NOW)
    approval.sign(approval.waiting(tree)[0], read_private(theirs))
    approval.bring_in(tree, approval.waiting(tree)[0], NOW)
    assert follows(tree, board)


def test_two_people_sign_releases_together(tree: Repository, board: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.key"
    new_key(theirs, None)
    with pytest.raises(PendingError, match="targets is signed by 1 of the 2") as caught:
        change(tree, "targets", add=read_public(tmp_path / "theirs.key.pub"), threshold=2, now=NOW)
    assert follows(tree, board)  # until both have signed, all stays as it was
    approval.sign(caught.value.path, read_private(theirs))
    assert approval.bring_in(tree, caught.value.path, NOW) >= {"root", "targets"}
    assert follows(tree, board)
    tree.add_target("releases/detector/2.json", b'{"counter": 2}')
    with pytest.raises(PendingError) as caught:
        tree.publish(NOW)
    assert follows(tree, board)
    assert targets.verified(str(board)).find("releases/detector/2.json") is None
    assert any("releases/detector/2.json" in line for line in approval.describe(approval.read(caught.value.path)))
    waiting = caught.value.path.read_bytes()
    other = Repository(tree.folder, tree.keys)
    other.add_target("releases/detector/3.json", b'{"counter": 3}')
    with pytest.raises(SigningError, match="another change of targets waits for signatures"):
        other.publish(NOW)
    assert caught.value.path.read_bytes() == waiting
    with pytest.raises(PendingError):
        approval.bring_in(tree, caught.value.path, NOW)
    approval.sign(caught.value.path, read_private(theirs))
    approval.bring_in(tree, caught.value.path, NOW)
    assert follows(tree, board)
    assert targets.verified(str(board)).find("releases/detector/2.json") is not None


def test_a_signature_of_a_stranger_does_not_help(tree: Repository, tmp_path: Path) -> None:
    new_key(tmp_path / "theirs.key", None)
    new_key(tmp_path / "stranger.key", None)
    with pytest.raises(PendingError) as caught:
        change(tree, "root", add=read_public(tmp_path / "theirs.key.pub"), threshold=2, now=NOW)
    approval.sign(caught.value.path, read_private(tmp_path / "stranger.key"))
    with pytest.raises(PendingError, match="signed by 1 of the 2"):
        approval.bring_in(tree, caught.value.path, NOW)


def test_a_file_for_an_older_tree_is_refused(tree: Repository, tmp_path: Path) -> None:
    new_key(tmp_path / "theirs.key", None)
    with pytest.raises(PendingError) as caught:
        change(tree, "root", add=read_public(tmp_path / "theirs.key.pub"), threshold=2, now=NOW)
    old = tmp_path / "old.json"
    old.write_bytes(caught.value.path.read_bytes())
    rotate(tree, "snapshot", replace=None, passphrase=None, now=NOW)
    with pytest.raises(SigningError, match="version 3 is next"):
        approval.bring_in(tree, old, NOW)
    assert approval.waiting(tree) == ()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_never_needs_more_keys_than_it_has(tree: Repository, role: str) -> None:
    for threshold in (0, 2, -1):
        with pytest.raises(UsageError, match="cannot sign"):
            change(tree, role, threshold=threshold, now=NOW)
    with pytest.raises(UsageError, match="cannot sign"):
        change(
            tree,
            role,
            remove=tree.current()
            .root.signed.roles.get(role, tree.current().targets.signed.delegations.roles.get(role))
            .keyids[0],
            now=NOW,
        )


def test_a_key_can_be_added_and_removed(tree: Repository, board: Path, tmp_path: Path) -> None:
    keyid = new_key(tmp_path / "second.key", None).public_key.keyid
    key = read_public(tmp_path / "second.key.pub")
    assert key.keyid == keyid
    for role in ROLES:
        change(tree, role, add=key, now=NOW)
        with pytest.raises(UsageError, match="already"):
            change(tree, role, add=key, now=NOW)
        assert follows(tree, board)
        change(tree, role, remove=keyid[:8], now=NOW)
        assert follows(tree, board)


def test_unknown_roles_and_keys_are_refused(tree: Repository) -> None:
    with pytest.raises(UsageError, match="no role 'mirror'") as caught:
        rotate(tree, "mirror", replace=None, passphrase=None, now=NOW)
    assert "snapshot" in caught.value.remedy
    with pytest.raises(UsageError, match="no one key of root begins with 'zz'"):
        change(tree, "root", remove="zz", now=NOW)
    with pytest.raises(UsageError, match="no one key of root begins with ''"):
        change(tree, "root", remove="", now=NOW)


def test_the_condition_of_each_role_is_told(tree: Repository) -> None:
    assert [one.state for one in conditions(tree, NOW)] == ["good"] * 5
    later = {one.role: one.state for one in conditions(tree, NOW + 80 * DAY_SECONDS)}
    assert later == {
        "root": "good",
        "targets": "soon",
        "snapshot": "renewed",
        "timestamp": "renewed",
        "rollouts": "renewed",
    }
    gone = {one.role: one.state for one in conditions(tree, NOW + 400 * DAY_SECONDS)}
    assert (gone["root"], gone["targets"]) == ("expired", "expired")
    assert all(key.here for one in conditions(tree, NOW) for key in one.keys)
