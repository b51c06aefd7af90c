"""What is signed under a path: the board finds what python-tuf's client finds, through every kind of delegation."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import Updater

from edgeopt_runner.trust import chain, state, targets
from edgeopt_runner.trust.chain import Incoming, Trusted
from support.file_fetcher import FileFetcher
from support.hostile_metadata import signer

EXPIRES = dt.datetime.now(dt.timezone.utc).replace(microsecond=0) + dt.timedelta(days=9)
NAMES = ("alpha", "beta", "gamma")
PATHS = ("a/x", "a/y", "b/x", "b/x.json", "x", "a/b/x")
PATTERNS = ("a/*", "*/x", "b/*.json", "*", "a/?", "a/[xy]", "a/b/*")


def delegated(name: str, number: int, *, terminating: bool, paths: tuple[str, ...]) -> DelegatedRole:
    keyid = signer(number).public_key.keyid
    if paths and paths[0].startswith("#"):
        prefixes = [path[1:] for path in paths]
        return DelegatedRole(name, [keyid], 1, terminating, path_hash_prefixes=prefixes)
    return DelegatedRole(name, [keyid], 1, terminating, paths=list(paths))


def write(folder: Path, file: Metadata, number: int, name: str) -> bytes:
    file.sign(signer(number))
    (folder / name).write_bytes(file.to_bytes())
    return file.to_bytes()


def publish(folder: Path, roles: dict[str, Targets]) -> tuple[bytes, Incoming]:
    """A tree in a folder: the root, and the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    root = Root(expires=EXPIRES)
    for number, role in enumerate(("root", "timestamp", "snapshot", "targets")):
        root.add_key(signer(number).public_key, role)
    first = write(folder, Metadata(root), 0, "1.root.json")
    snapshot = Snapshot(expires=EXPIRES, meta={f"{name}.json": MetaFile(1) for name in roles})
    timestamp = write(folder, Metadata(Timestamp(expires=EXPIRES)), 1, "timestamp.json")
    named = write(folder, Metadata(snapshot), 2, "1.snapshot.json")
    files = {
        name: write(folder, Metadata(role), 3 if name == "targets" else 10 + NAMES.index(name), f"1.{name}.json")
        for name, role in roles.items()
    }
    return first, Incoming(timestamp, named, files.pop("targets"), files)


RULES = st.tuples(
    st.booleans(),
    st.one_of(
        st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2).map(tuple),
        st.lists(st.sampled_from(["#0", "#7", "#a", "#"]), min_size=1, max_size=2).map(tuple),
    ),
)


@settings(max_examples=40, deadline=None)
@given(
    own=st.dictionaries(st.sampled_from(("targets", *NAMES)), st.sets(st.sampled_from(PATHS), max_size=3)),
    edges=st.dictionaries(
        st.tuples(st.sampled_from(("targets", *NAMES)), st.sampled_from(NAMES)), RULES, min_size=1, max_size=6
    ),
)
def test_the_board_finds_what_python_tuf_finds(
    tmp_path_factory: pytest.TempPathFactory,
    own: dict[str, set[str]],
    edges: dict[tuple[str, str], tuple[bool, tuple[str, ...]]],
) -> None:
    roles = {}
    for name in ("targets", *NAMES):
        files = {path: TargetFile.from_data(path, f"{name} {path}".encode()) for path in own.get(name, ())}
        roles[name] = Targets(expires=EXPIRES, targets=files)
        below = {to: rule for (parent, to), rule in edges.items() if parent == name}
        if below:
            keys = {(key := signer(10 + NAMES.index(to)).public_key).keyid: key for to in below}
            made = {
                to: delegated(to, 10 + NAMES.index(to), terminating=terminating, paths=paths)
                for to, (terminating, paths) in below.items()
            }
            roles[name].delegations = Delegations(keys, made)
    folder = tmp_path_factory.mktemp("tree")
    first, incoming = publish(folder / "metadata", roles)
    trusted = chain.update(Trusted(chain.first_root(first)), incoming, 0)
    found = targets.VerifiedTargets(trusted, state.Memory())
    (folder / "client").mkdir()
    updater = Updater(str(folder / "client"), (folder / "metadata").as_uri(), fetcher=FileFetcher(), bootstrap=first)
    for path in PATHS:
        theirs, ours = updater.get_targetinfo(path), found.find(path)
        assert (ours and ours["sha256"]) == (theirs and theirs.hashes["sha256"]), path
    assert found.paths() == [path for path in sorted(PATHS) if found.find(path)]
    assert found.expires == int(EXPIRES.timestamp())


def test_a_board_without_a_root_has_no_targets(tmp_path: Path) -> None:
    assert targets.verified(str(tmp_path)) is None
    assert not targets.enrolled(str(tmp_path))


def test_a_board_that_was_only_enrolled_has_no_signed_files(tmp_path: Path) -> None:
    from edgeopt_runner.trust import verbs

    first, _ = publish(tmp_path / "tree", {"targets": Targets(expires=EXPIRES)})
    verbs.enrol(str(tmp_path), {"root": json.loads(first)})
    found = targets.verified(str(tmp_path))
    assert found is not None
    assert (found.find("a/x"), found.version, found.expires) == (None, 0, 0)
