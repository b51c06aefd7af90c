"""What is no metadata is refused before anything is done with it: bombs, other shapes, other types."""

from __future__ import annotations

import json
import resource
from typing import Any

import pytest

from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import metadata
from support.hostile_metadata import first_world


def refused(data: bytes, role: str = "targets") -> str:
    with pytest.raises(Refusal) as caught:
        metadata.parse(data, role)
    assert caught.value.code == "bad_metadata"
    assert len(caught.value.message) < 400
    return caught.value.message


def changed(role: str, *way: Any, to: Any) -> bytes:
    """A good file with one place changed."""
    files = first_world().files()
    document = json.loads(files.roots[0] if role == "root" else getattr(files, role))
    place = document
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = to
    return json.dumps(document).encode()


def test_a_good_file_of_each_type_parses() -> None:
    files = first_world().files()
    for role, data in (("root", files.roots[0]), ("timestamp", files.timestamp), ("targets", files.targets)):
        assert metadata.parse(data, role).version == 1


BOMBS = {
    "depth": b"[" * 100_000,
    "depth in an object": b'{"a":' * 100_000,
    "deeper than any metadata": json.dumps({"signed": {}, "signatures": eval("[" * 30 + "]" * 30)}).encode(),
    "digits": b'{"signed": ' + b"9" * 1_000_000 + b"}",
    "a fraction with digits": b'{"signed": 1.' + b"9" * 1_000_000 + b"}",
    "an exponent": b'{"signed": 1e400}',
    "not a number": b'{"signed": NaN}',
    "infinity": b'{"signed": -Infinity}',
    "one key twice": b'{"signed": {}, "signed": {}, "signatures": []}',
    "a list": b"[]",
    "nothing": b"",
    "no UTF-8": b'{"signed": "\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "noise": bytes(range(256)),
    "many keys": b"{" + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}",
    "too long": b" " * 5_000_001,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_little_memory(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(BOMBS[name])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize(("role", "limit"), metadata.LIMIT_BYTES.items())
def test_a_file_longer_than_its_type_may_be_is_not_parsed(role: str, limit: int) -> None:
    assert f"at most {limit}" in refused(b"{" + b" " * limit, role)


SHAPES: list[tuple[str, tuple[Any, ...], Any]] = [
    ("root", ("signed", "roles", "mirror"), {"keyids": [], "threshold": 1}),
    ("root", ("signed", "roles", "root", "threshold"), 0),
    ("root", ("signed", "roles", "root", "threshold"), "1"),
    ("root", ("signed", "roles", "root", "keyids"), "abc"),
    ("root", ("signed", "roles", "root", "keyids"), ["a", "a"]),
    ("root", ("signed", "roles", "root", "keyids"), [str(n) for n in range(65)]),
    ("root", ("signed", "keys"), {"a": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "ab"}}}),
    ("root", ("signed", "keys"), {"a": {"keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": "x"}}}),
    ("root", ("signed", "keys"), []),
    ("root", ("signed", "consistent_snapshot"), "yes"),
    ("root", ("signed", "version"), -1),
    ("root", ("signed", "version"), 2**63),
    ("root", ("signed", "expires"), "2099-13-01T00:00:00Z"),
    ("root", ("signed", "expires"), "٢٠٩٩-01-01T00:00:00Z"),
    ("root", ("signed", "expires"), 4102444800),
    ("root", ("signatures",), {}),
    ("root", ("signatures",), [{"keyid": 1, "sig": ""}]),
    ("root", ("signatures",), ["x"]),
    ("root", ("signatures",), [{"keyid": str(n), "sig": ""} for n in range(65)]),
    ("timestamp", ("signed", "meta"), {}),
    ("timestamp", ("signed", "meta", "other.json"), {"version": 1}),
    ("timestamp", ("signed", "meta", "snapshot.json"), {"version": 1, "length": -1}),
    ("timestamp", ("signed", "meta", "snapshot.json"), {"version": 1, "hashes": {}}),
    ("timestamp", ("signed", "meta", "snapshot.json"), {"version": 1, "hashes": {"md5": "x"}}),
    ("snapshot", ("signed", "meta", ""), {"version": 1}),
    ("snapshot", ("signed", "meta", "targets.json"), {"version": 0}),
    ("targets", ("signed", "targets"), []),
    ("targets", ("signed", "targets", "x"), {"length": -5, "hashes": {"sha256": "0" * 64}}),
    ("targets", ("signed", "targets", "x"), {"length": 5, "hashes": {"sha512": "0" * 128}}),
    ("targets", ("signed", "targets", "x"), {"length": 5, "hashes": {"sha256": "../../etc/passwd"}}),
    ("targets", ("signed", "targets", "x"), {"length": 10**30, "hashes": {"sha256": "0" * 64}}),
    ("targets", ("signed", "delegations"), None),
    ("targets", ("signed", "delegations", "succinct_roles"), {}),
    ("targets", ("signed", "delegations", "roles", 0, "name"), "root"),
    ("targets", ("signed", "delegations", "roles", 0, "name"), "../root"),
    ("targets", ("signed", "delegations", "roles", 0, "terminating"), 1),
    ("targets", ("signed", "delegations", "roles", 0, "paths"), "rollouts/*"),
    ("targets", ("signed", "delegations", "roles", 0, "paths"), ["*" * 257]),
    ("targets", ("signed", "delegations", "roles", 0, "path_hash_prefixes"), ["ab"]),
]


@pytest.mark.parametrize(("role", "way", "to"), SHAPES)
def test_other_shapes_are_refused(role: str, way: tuple[Any, ...], to: Any) -> None:
    refused(changed(role, *way, to=to), role)
