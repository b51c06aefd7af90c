"""The signed tree: what is published is what python-tuf's client and a board take, and a crash leaves what was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Metadata
from tuf.ngclient import Updater

from edgeopt import documents
from edgeopt.errors import SigningError
from edgeopt.signing.key_folder import KeyFolder
from edgeopt.signing.repository import Repository, Target
from edgeopt.signing.roles import DAY_SECONDS, POLICIES
from edgeopt.signing.setup import initialise
from edgeopt_runner.trust import targets, verbs
from support.file_fetcher import FileFetcher

NOW = 1_900_000_000.0
MANIFEST = json.dumps({"schema": 1, "app": "detector", "counter": 3}).encode()


@pytest.fixture
def tree(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys"))
    initialise(made, passphrase=None, now=NOW)
    return made


def client(tree: Repository, folder: Path) -> Updater:
    """python-tuf's client of the tree, its clock at `NOW`."""
    import datetime as dt

    folder.mkdir(exist_ok=True)
    root = (tree.folder / "metadata/1.root.json").read_bytes()
    url = tree.folder.as_uri()
    made = Updater(str(folder), f"{url}/metadata", str(folder), f"{url}/targets", fetcher=FileFetcher(), bootstrap=root)
    made._trusted_set.reference_time = dt.datetime.fromtimestamp(NOW, dt.timezone.utc)
    return made


def board_takes(tree: Repository, board: Path, now: float = NOW) -> dict[str, int]:
    """Bring a board up to date; returns what it answers."""
    told = verbs.enrol(str(board), {"root": tree.root()}) if not (board / "trust").exists() else None
    told = told or verbs.trust(str(board), {})
    found: dict[str, int] = verbs.trust_update(str(board), tree.metadata_for_push(told, now))
    return found


def test_a_release_is_taken_by_python_tuf_and_by_a_board(tree: Repository, tmp_path: Path) -> None:
    added = tree.add_target("releases/detector/1.4.0.json", MANIFEST)
    assert added == Target("releases/detector/1.4.0.json", hashlib.sha256(MANIFEST).hexdigest(), len(MANIFEST))
    assert tree.publish(NOW) == {"targets", "snapshot", "timestamp"}
    updater = client(tree, tmp_path / "client")
    described = updater.get_targetinfo(added.path)
    assert Path(updater.download_target(described)).read_bytes() == MANIFEST
    board_takes(tree, tmp_path / "board")
    found = targets.verified(str(tmp_path / "board")).find(added.path)
    assert found == {"sha256": added.sha256, "length": added.length, "role": "targets"}


def test_rollout_files_are_signed_by_the_online_role_alone(tree: Repository, tmp_path: Path) -> None:
    tree.add_target("rollouts/detector.json", b"{}")
    assert tree.publish(NOW) == {"rollouts", "snapshot", "timestamp"}
    assert client(tree, tmp_path / "client").get_targetinfo("rollouts/detector.json").length == 2
    board_takes(tree, tmp_path / "board")
    assert targets.verified(str(tmp_path / "board")).find("rollouts/detector.json")["role"] == "rollouts"


def test_what_the_online_role_calls_a_release_is_none(tree: Repository, tmp_path: Path) -> None:
    """Whoever has the online keys cannot make a release: the delegation is for rollouts/ only."""
    described = tree.add_target("rollouts/x.json", MANIFEST)
    tree.publish(NOW)
    edition = tree.edition(NOW)
    file = edition.next.rollouts.signed.targets[described.path]
    edition.next.rollouts.signed.targets["releases/detector/9.json"] = file
    edition.renew("rollouts")
    edition.finish()
    board_takes(tree, tmp_path / "board")
    assert targets.verified(str(tmp_path / "board")).find("releases/detector/9.json") is None
    assert client(tree, tmp_path / "client").get_targetinfo("releases/detector/9.json") is None


def test_a_runner_is_signed_by_the_key_of_releases(tree: Repository, tmp_path: Path) -> None:
    tree.add_target("runner/edgeopt_runner.pyz", b"bundle")
    assert tree.publish(NOW) == {"targets", "snapshot", "timestamp"}
    board_takes(tree, tmp_path / "board")
    assert targets.verified(str(tmp_path / "board")).find("runner/edgeopt_runner.pyz")["role"] == "targets"


def test_publishing_again_changes_nothing(tree: Repository) -> None:
    for _ in range(2):
        tree.add_target("releases/detector/1.4.0.json", MANIFEST)
        written = tree.publish(NOW)
    assert written == frozenset()
    assert tree.current().targets.signed.version == 2


def test_a_board_that_has_everything_is_sent_no_metadata(tree: Repository, tmp_path: Path) -> None:
    told = board_takes(tree, tmp_path / "board")
    assert tree.metadata_for_push(told, NOW).keys() == {"roots", "delegated", "freshness"}
    assert board_takes(tree, tmp_path / "board")["timestamp"] == 1


def test_what_another_process_publishes_meanwhile_does_not_mix_with_what_a_board_is_sent(
    tree: Repository, tmp_path: Path
) -> None:
    class Meanwhile(KeyFolder):
        def signer(self, key: Key) -> CryptoSigner | None:
            other = Repository(tree.folder, KeyFolder(tree.keys.folder))
            other.add_target("releases/detector/1.json", MANIFEST)
            other.publish(NOW)
            return super().signer(key)

    asked = Repository(tree.folder, Meanwhile(tree.keys.folder))
    assert board_takes(asked, tmp_path / "board")["timestamp"] == 1
    assert board_takes(asked, tmp_path / "board")["timestamp"] == 2


def test_releases_are_listed_read_and_counted(tree: Repository) -> None:
    assert tree.latest_counter("detector") == 0
    for version, counter in (("1.0.0", 1), ("1.1.0", 7), ("1.0.1", 5)):
        tree.add_target(f"releases/detector/{version}.json", json.dumps({"counter": counter}).encode())
    tree.add_target("releases/other/1.json", json.dumps({"counter": 99}).encode())
    tree.publish(NOW)
    assert tree.latest_counter("detector") == 7
    assert [target.path for target in tree.targets("detector")] == [
        "releases/detector/1.0.0.json",
        "releases/detector/1.0.1.json",
        "releases/detector/1.1.0.json",
    ]
    assert json.loads(tree.manifest("detector", "1.1.0")) == {"counter": 7}
    with pytest.raises(SigningError, match=r"releases/detector/2\.json is not published"):
        tree.manifest("detector", "2")


def test_a_manifest_that_was_changed_on_disk_is_not_read(tree: Repository) -> None:
    added = tree.add_target("releases/detector/1.json", MANIFEST)
    tree.publish(NOW)
    path = tree.folder / "targets/releases/detector" / f"{added.sha256}.1.json"
    path.write_bytes(MANIFEST.replace(b"3", b"4"))
    with pytest.raises(SigningError, match="is not what was signed"):
        tree.manifest("detector", "1")


@pytest.mark.parametrize("path", ["x.json", "blobs/x", "releases/../x", "releases//x", "/releases/x", "releases", ""])
def test_a_path_outside_the_two_folders_is_refused(tree: Repository, path: str) -> None:
    with pytest.raises(SigningError, match="no path of a target"):
        tree.add_target(path, b"{}")


def test_a_blob_is_copied_once_and_only_with_its_digest(tree: Repository, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert tree.put_blob(source, digest).read_bytes() == b"weights"
    source.write_bytes(b"other")
    assert tree.put_blob(source, digest).read_bytes() == b"weights"
    with pytest.raises(SigningError, match="does not have SHA-256"):
        tree.put_blob(source, "0" * 64)
    assert [path.name for path in (tree.folder / "blobs").iterdir()] == [digest]


def test_everything_but_the_keys_may_be_read_by_a_web_server(tree: Repository, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(b"weights")
    tree.put_blob(source, hashlib.sha256(b"weights").hexdigest())
    tree.add_target("releases/detector/1.json", MANIFEST)
    tree.publish(NOW)
    served = [path for path in tree.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert {oct(path.stat().st_mode & 0o777) for path in served} == {"0o644"}
    assert {oct(path.stat().st_mode & 0o777) for path in tree.keys.folder.rglob("*.key")} == {"0o600"}


@pytest.mark.parametrize("days", [0, 0.4, 0.6, 3, 5, 40, 80])
def test_what_signs_unattended_is_signed_again_in_time(tree: Repository, tmp_path: Path, days: float) -> None:
    now = NOW + days * DAY_SECONDS
    told = board_takes(tree, tmp_path / "board", now)
    assert told["timestamp"] == (1 if days < 0.5 else 2)
    assert told["snapshot"] == told["delegated"]["rollouts"] == (1 if days < 3.5 else 2)
    assert tree.refresh(now) == frozenset()


@pytest.mark.parametrize(("days", "role"), [(91, "targets"), (366, "root")])
def test_what_a_person_must_sign_again_is_named(tree: Repository, days: int, role: str) -> None:
    with pytest.raises(SigningError, match="expired") as caught:
        tree.metadata_for_push({"root": 1, "nonce": "0" * 64}, NOW + days * DAY_SECONDS)
    assert f"edgeopt keys refresh {role}" in caught.value.remedy
    tree.refresh(NOW + days * DAY_SECONDS, also=("root", "targets"))
    tree.metadata_for_push({"root": 1, "nonce": "0" * 64}, NOW + days * DAY_SECONDS)


def add_and_publish(tree: Repository, number: int) -> None:
    """Six writes: two files, targets, rollouts, snapshot, timestamp."""
    tree.add_target(f"releases/detector/{number}.json", MANIFEST)
    tree.add_target("rollouts/detector.json", b"%d" % number)
    tree.publish(NOW)


def test_a_crash_at_any_write_leaves_a_tree_that_clients_take(
    tree: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of a publication fails in turn: until the last the old tree is current, and the next try succeeds."""
    write = documents.write_atomically
    for fail_at in range(1, 7):
        left = [fail_at]

        def failing(path: Path, data: bytes, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, os.strerror(28))
            write(path, data)

        before = tree.current().timestamp.signed.version
        monkeypatch.setattr(documents, "write_atomically", failing)
        with pytest.raises(SigningError, match="No space left"):
            add_and_publish(tree, fail_at)
        monkeypatch.undo()
        assert tree.current().timestamp.signed.version == before
        client(tree, tmp_path / f"client{fail_at}").refresh()
        add_and_publish(tree, fail_at)
        found = client(tree, tmp_path / f"client{fail_at}").get_targetinfo(f"releases/detector/{fail_at}.json")
        assert found.length == len(MANIFEST)


def test_two_trees_on_one_folder_see_each_others_releases(tree: Repository) -> None:
    other = Repository(tree.folder, tree.keys)
    tree.add_target("releases/detector/1.json", MANIFEST)
    tree.publish(NOW)
    other.add_target("releases/detector/2.json", MANIFEST)
    other.publish(NOW)
    assert [target.path[-6:] for target in tree.targets("detector")] == ["1.json", "2.json"]


@pytest.mark.parametrize("nonce", ["", "0" * 63, "0" * 65, "G" * 64, '{"_type": "timestamp"}', "A" * 64])
def test_only_nonces_are_answered(tree: Repository, nonce: str) -> None:
    with pytest.raises(SigningError, match="nonce"):
        tree.freshness(nonce, NOW)


def test_a_tree_that_is_older_than_a_board_says_so(tree: Repository) -> None:
    with pytest.raises(SigningError, match="trusts root version 4, this tree has 1"):
        tree.metadata_for_push({"root": 4, "nonce": "0" * 64}, NOW)


def test_a_missing_and_a_damaged_file_are_named(tree: Repository) -> None:
    path = tree.folder / "metadata/1.snapshot.json"
    path.write_bytes(b"{}")
    with pytest.raises(SigningError, match=r"1\.snapshot\.json is not signed metadata"):
        Repository(tree.folder, tree.keys).current()
    path.unlink()
    with pytest.raises(SigningError, match=r"cannot read .*1\.snapshot\.json"):
        Repository(tree.folder, tree.keys).current()
    path.write_bytes((tree.folder / "metadata/1.targets.json").read_bytes())
    with pytest.raises(SigningError, match="is of type targets, not snapshot"):
        Repository(tree.folder, tree.keys).current()


def test_a_folder_without_a_tree_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="has no signed tree") as caught:
        Repository(tmp_path, KeyFolder(tmp_path / "keys")).publish(NOW)
    assert caught.value.remedy == "Make keys first: edgeopt keys init."


def test_files_bear_the_signatures_that_they_need(tree: Repository) -> None:
    for policy in POLICIES:
        assert len(tree.current().of(policy.name).signatures) == 1
    assert isinstance(tree.current().root, Metadata)
