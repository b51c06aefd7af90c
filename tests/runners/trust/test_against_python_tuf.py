"""What the board's verifier takes, python-tuf takes, and the other way round, on trees that anybody may have spoiled.

Each step of a history changes the tree (or spoils it), both see what comes of it, and both hold what they accepted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.exceptions import RepositoryError

from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import chain, ed25519
from edgeopt_runner.trust.chain import Incoming, Trusted
from support.hostile_metadata import DAY, NOW, Files, Oracle, World, first_world, signer

ROLES = ("timestamp", "snapshot", "targets", "rollouts")
STRICTER = {"one key under two names", "a number beyond 63 bits", "an unpadded time", "a key of another kind", "a bool"}
"""What the board refuses and python-tuf takes (some of it only where nothing depends on it)."""

Step = Callable[[World, str], None]


def _before(change: Callable[[dict[str, Any]], Any]) -> Step:
    def step(world: World, role: str) -> None:
        world.publish()
        world.before[role] = change

    return step


def _after(change: Callable[[dict[str, Any]], Any]) -> Step:
    def step(world: World, role: str) -> None:
        world.publish()
        world.after[role] = change

    return step


def _versions(change: int) -> Step:
    def step(world: World, role: str) -> None:
        world.publish()
        world.version[role] = max(1, world.version[role] + change)

    return step


def _named(change: int) -> Step:
    def step(world: World, role: str) -> None:
        world.publish()
        world.named[role] = max(1, world.version[role] + change)

    return step


def _signed_by(*numbers: int) -> Step:
    def step(world: World, role: str) -> None:
        world.publish()
        world.signing[role] = [world.keys[role][0] if number < 0 else number for number in numbers]

    return step


def _expire(left_seconds: int) -> Step:
    def step(world: World, role: str) -> None:
        world.publish()
        world.expires[role] = NOW + left_seconds

    return step


def _more_keys(threshold: int, signing: int) -> Step:
    """Two more keys for the role, `threshold` needed, `signing` of them sign."""

    def step(world: World, role: str) -> None:
        world.keys[role] = [world.keys[role][0], 20, 21]
        world.threshold[role] = threshold
        world.signing[role] = world.keys[role][:signing]
        world.version["root"] += 1
        world.add_root()
        world.publish()

    return step


def _rotate(world: World, role: str) -> None:
    world.rotate(role)


def _rotate_root(world: World, _role: str) -> None:
    world.rotate("root")


def _several_roots(world: World, role: str) -> None:
    for name in (role, "root", role, "root"):
        world.rotate(name)


def _root_unsigned_by_before(world: World, _role: str) -> None:
    world.keys["root"] = [30]
    world.version["root"] += 1
    world.add_root()


def _root_unsigned_by_itself(world: World, _role: str) -> None:
    before = world.keys["root"]
    world.keys["root"] = [30]
    world.signing["root"] = before
    world.version["root"] += 1
    world.add_root()


def _leaves_the_snapshot(world: World, role: str) -> None:
    world.publish()
    world.before["snapshot"] = lambda signed: signed["meta"].pop(f"{role}.json", None)
    world.before["targets"] = lambda signed: signed["delegations"].update(roles=[])


def _root_skips(world: World, _role: str) -> None:
    world.version["root"] += 2
    world.add_root()


def _swap_names(document: dict[str, Any]) -> None:
    for entry in document["signatures"]:
        entry["keyid"] = signer(9).public_key.keyid


def _twice(document: dict[str, Any]) -> None:
    document["signatures"] *= 2


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda signed: signed.__setitem__(name, value)


def _drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda signed: signed.pop(name, None)


def _tamper(document: dict[str, Any]) -> None:
    document["signed"]["version"] += 1


def _other_kind(world: World, role: str) -> None:
    """The role's key is called by another algorithm in what names it."""

    def change(signed: dict[str, Any]) -> None:
        keys = signed["keys"] if "keys" in signed else signed["delegations"]["keys"]
        for number in world.keys[role]:
            keys[signer(number).public_key.keyid].update(keytype="rsa", scheme="rsassa-pss-sha256")

    world.version["root"] += 1
    if role == "rollouts":
        world.before["targets"] = change
    else:
        world.before["root"] = change
    world.add_root()
    world.publish()


def _two_names(world: World, role: str) -> None:
    """A threshold of two, met by one key under two identifiers."""

    def change(signed: dict[str, Any]) -> None:
        holder = signed["delegations"] if role == "rollouts" else signed
        described = holder["roles"][0] if role == "rollouts" else signed["roles"][role]
        key = signer(world.keys[role][0]).public_key
        holder["keys"]["again"] = key.to_dict()
        described.update(keyids=[key.keyid, "again"], threshold=2)

    def sign_again(document: dict[str, Any]) -> None:
        document["signatures"].append(dict(document["signatures"][0], keyid="again"))

    world.version["root"] += 1
    world.before["targets" if role == "rollouts" else "root"] = change
    world.after[role] = sign_again
    world.add_root()
    world.publish()


STEPS: dict[str, Step] = {
    "a publication": lambda world, _role: world.publish(),
    "nothing new": lambda _world, _role: None,
    "a rotation": _rotate,
    "a rotation of the root": _rotate_root,
    "four roots at once": _several_roots,
    "a root that the one before did not sign": _root_unsigned_by_before,
    "a root that its own key did not sign": _root_unsigned_by_itself,
    "a role leaves the snapshot": _leaves_the_snapshot,
    "a root is missing": _root_skips,
    "an older version": _versions(-1),
    "a much older version": _versions(-5),
    "a version pushed up": _versions(2**31),
    "the version before is named": _named(-1),
    "the next version is named": _named(1),
    "signed by nobody": _signed_by(),
    "signed by a stranger": _signed_by(9),
    "signed by a stranger, too": _signed_by(-1, 9),
    "signed by another role": _signed_by(1),
    "the signature twice": _after(_twice),
    "the signature under another name": _after(_swap_names),
    "two of three sign": _more_keys(2, 2),
    "one of two that are needed signs": _more_keys(2, 1),
    "three of three sign": _more_keys(3, 3),
    "expired": _expire(-1),
    "expired this second": _expire(0),
    "good for a second": _expire(1),
    "the root expired": lambda world, _role: (world.expires.update(root=NOW - DAY), _rotate_root(world, _role))[0],
    "a root between expired": lambda world, role: (
        world.expires.update(root=NOW - DAY),
        _rotate_root(world, role),
        world.expires.update(root=NOW + DAY),
        _rotate_root(world, role),
    )[0],
    "changed after signing": _after(_tamper),
    "another type": _before(_set("_type", "snapshot")),
    "an unknown type": _before(_set("_type", "mirror")),
    "an unknown field that is signed": _before(_set("x-näme", {'ümlaut \\ "': [None, True, "\n"]})),
    "an unknown field that is not signed": _after(_set("note", "hello")),
    "an old specification": _before(_set("spec_version", "0.9")),
    "a later specification": _before(_set("spec_version", "1.99.0")),
    "no specification": _before(_set("spec_version", "one")),
    "no version": _before(_drop("version")),
    "version nought": _before(_set("version", 0)),
    "a version in words": _before(_set("version", "2")),
    "a version with a fraction": _before(_set("version", 2.5)),
    "a bool": _before(_set("version", True)),
    "a number beyond 63 bits": _before(_set("big", 2**70)),
    "an unpadded time": _before(_set("expires", "2099-1-1T0:0:0Z")),
    "no time": _before(_set("expires", "tomorrow")),
    "a day that there is not": _before(_set("expires", "2099-02-30T00:00:00Z")),
    "nothing below": lambda world, role: (
        world.publish(),
        world.before.update({role: lambda signed: [signed.pop(name, None) for name in ("meta", "targets")]}),
    )[0],
    "half of a surrogate": _before(_set("name", "\ud800")),
    "a key of another kind": _other_kind,
    "one key under two names": _two_names,
}


@pytest.fixture(autouse=True, scope="module")
def each_signature_is_verified_once() -> Iterator[None]:
    """Verifying is a function of its arguments, and histories repeat them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ed25519, "verify", functools.lru_cache(maxsize=None)(ed25519.verify))
        yield


def ours(held: Trusted, files: Files, now: int) -> Trusted:
    followed = chain.follow_roots(held.root, files.roots)
    held = held._replace(root=followed[-1]) if followed else held
    return chain.update(held, Incoming(files.timestamp, files.snapshot, files.targets, files.delegated), now)


def play(steps: list[tuple[str, str]]) -> list[bool]:
    """Show both a history; returns which steps were accepted."""
    world = first_world()
    held, oracle = Trusted(chain.first_root(world.roots[0])), Oracle(world.roots[0])
    accepted = []
    for name, role in [("a publication", "targets"), *steps]:
        trial = world.copy()
        STEPS[name](trial, role)
        files = trial.files()
        theirs: Any = None
        mine: Trusted | None = None
        try:
            theirs = oracle.update(files, NOW)
        except (RepositoryError, ValueError) as error:
            why = repr(error)
        try:
            mine = ours(held, files, NOW)
        except Refusal as refusal:
            reason = f"{refusal.code}: {refusal.message}"
        if mine is not None:
            assert theirs is not None, f"{name} of {role}: the board takes what python-tuf refuses: {why}"
            assert_same(mine, theirs)
        elif theirs is not None:
            assert name in STRICTER, f"{name} of {role}: the board refuses what python-tuf takes: {reason}"
        if mine is not None and theirs is not None:
            held = mine
            oracle.keep(theirs, files)
            trial.before.clear(), trial.after.clear(), trial.signing.clear(), trial.named.clear()
            world = trial
        accepted.append(mine is not None)
    return accepted


def assert_same(mine: Trusted, theirs: Any) -> None:
    for role in ("root", "timestamp", "snapshot", "targets"):
        assert getattr(mine, role).version == getattr(theirs, role).version
    targets = {path: file.hashes["sha256"] for path, file in theirs.targets.targets.items()}
    assert {path: file["hashes"]["sha256"] for path, file in mine.targets.signed["targets"].items()} == targets
    assert {name for _, name in mine.delegated} == set(theirs.targets.delegations.roles)


@pytest.mark.parametrize("name", STEPS)
def test_one_step_is_judged_as_python_tuf_judges_it(name: str) -> None:
    for role in ROLES:
        play([(name, role), ("a publication", role)])


@pytest.mark.parametrize("role", ROLES)
def test_one_key_counts_once_however_many_names_it_has(role: str) -> None:
    assert play([("one key under two names", role)]) == [True, False]


def test_what_is_good_is_taken() -> None:
    good = ["a publication", "nothing new", "a rotation", "four roots at once", "two of three sign", "a publication"]
    assert all(play([(name, "timestamp") for name in good]))


HISTORIES = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(ROLES)), min_size=2, max_size=5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES)
def test_histories_are_judged_as_python_tuf_judges_them(steps: list[tuple[str, str]]) -> None:
    play(steps)


@pytest.mark.long
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES)
def test_many_histories_are_judged_as_python_tuf_judges_them(steps: list[tuple[str, str]]) -> None:
    play(steps)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), role=st.sampled_from(ROLES), name=st.sampled_from(["flip", "cut", "insert"]))
def test_damaged_bytes_are_judged_as_python_tuf_judges_them(data: st.DataObject, role: str, name: str) -> None:
    """Damage anywhere in a file: refused, or (in what is neither signed nor needed) taken by both."""
    world = first_world()
    oracle, held, files = Oracle(world.roots[0]), Trusted(chain.first_root(world.roots[0])), world.files()
    whole = files.delegated["rollouts"] if role == "rollouts" else getattr(files, role)
    place = data.draw(st.integers(0, len(whole) - 1))
    spoiled = {
        "flip": whole[:place] + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))]) + whole[place + 1 :],
        "cut": whole[:place],
        "insert": whole[:place] + data.draw(st.sampled_from([b'"', b"0", b",", b"\xff", b"\0", b" "])) + whole[place:],
    }[name]
    if role == "rollouts":
        files.delegated["rollouts"] = spoiled
    else:
        setattr(files, role, spoiled)
    try:
        mine = ours(held, files, NOW)
    except Refusal:
        return
    assert_same(mine, oracle.update(files, NOW))
