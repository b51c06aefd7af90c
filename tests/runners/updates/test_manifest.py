"""The strict reader of manifests: what the host writes passes, everything else is refused, at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.model import Artifact
from edgeopt.core.profile import Settings
from edgeopt.core.release import HealthFigures, HealthLimits, Release, ReleaseEntry
from edgeopt.documents import plain
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.updates.manifest import LARGEST_BYTES, parse
from support.board_updates import canonical, entry_of, manifest_of


def test_what_the_host_writes_passes() -> None:
    model, golden = Artifact("a" * 64, 10, "onnx"), Artifact("b" * 64, 5, "npz")
    limits, measured = HealthLimits(0.999, 20_000_000, 1 << 28, 100), HealthFigures(1, 2, 3, 0.9999, 50)
    entry = ReleaseEntry("int8", model, golden, Settings(threads=4), ("aarch64",), "1.17", limits, measured, 7, "run")
    release = Release("detector", "1.4.0", 42, 1.5e9, 2.5e9, {"jetson-orin": entry}, ("1.3.9",), "1.2.0", "für Läden")
    found = parse(canonical({"schema": 1, **plain(release)}))
    assert (found.app, found.version, found.counter, found.revoked) == ("detector", "1.4.0", 42, ("1.3.9",))
    one = found.entries["jetson-orin"]
    assert (one.model.sha256, one.model.size, one.golden.format) == ("a" * 64, 10, "npz")
    assert one.settings == Settings(threads=4).document() | {"inter_op": 1, "sessions": 1, "batch": 1}
    assert (one.health.max_latency_ns, one.scratch_bytes, one.min_runtime) == (20_000_000, 7, "1.17")


def changed(**fields: Any) -> bytes:
    """A manifest with other fields; those that it does not have are its entry's."""
    manifest = manifest_of(b"model", "1.0.0", 1)
    own = {name: fields.pop(name) for name in list(fields) if name in manifest}
    if fields:
        own["entries"] = {"board": entry_of(b"model", **fields)}
    return json.dumps({**manifest, **own}).encode()


def raw(old: str, new: str) -> bytes:
    text = changed().decode()
    assert old in text
    return text.replace(old, new, 1).encode()


BAD = {
    "no JSON": b"not json",
    "another encoding": "{}".encode("utf-16"),
    "a list": b"[]",
    "an unknown schema": raw('"schema": 1', '"schema": 2'),
    "an unknown field": raw('"schema": 1', '"schema": 1, "more": 1'),
    "a key twice": raw('"counter": 1', '"counter": 1, "counter": 2'),
    "NaN": raw('"min_cosine": 0.99', '"min_cosine": NaN'),
    "infinity": raw('"min_cosine": 0.99', '"min_cosine": 1e999'),
    "a counter of many digits": raw('"counter": 1', '"counter": ' + "9" * 5000),
    "a counter of nothing": changed(counter=0),
    "a negative counter": changed(counter=-1),
    "true for a number": raw('"counter": 1', '"counter": true'),
    "depth": raw('"notes": ""', '"notes": ' + "[" * 20000 + "]" * 20000),
    "an app that is a path": changed(app="../x"),
    "an app with capitals": changed(app="Digits"),
    "a version that is a path": changed(version="1/../../x"),
    "a version with a line end": changed(version="1.0\n"),
    "an expiry before its making": changed(expires=0.5),
    "its own version revoked": changed(revoked=["1.0.0"]),
    "no entries": changed(entries={}),
    "a profile that is a path": changed(entries={"../x": entry_of(b"m")}),
    "too many entries": changed(entries={f"p{number}": {} for number in range(600)}),
    "a digest in capitals": raw('"digest": "', '"digest": "A'),
    "a negative size": changed(model={"digest": "a" * 64, "size_bytes": -1, "format": "onnx"}),
    "ten terabytes": changed(model={"digest": "a" * 64, "size_bytes": 10**13, "format": "onnx"}),
    "a pickle": changed(model={"digest": "a" * 64, "size_bytes": 1, "format": "pkl"}),
    "golden samples that are a model": changed(golden={"digest": "a" * 64, "size_bytes": 1, "format": "onnx"}),
    "settings that are nested": changed(settings={"runtime": "onnxruntime", "threads": {"a": 1}}),
    "settings without a runtime": changed(settings={"threads": 1}),
    "a runtime that is a module path": changed(settings={"runtime": "os.system"[:2] + "/x"}),
    "no runs": changed(runs=0),
    "a million million runs": changed(runs=10**12),
    "a cosine of two": changed(min_cosine=2),
    "scratch that is negative": changed(scratch_bytes=-5),
    "too much of it": changed(notes="x" * LARGEST_BYTES),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_as_agreed_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse(BAD[name])
    assert caught.value.code == "bad_manifest"
    assert len(caught.value.message) < 1000


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        parse(data)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5)


@given(st.sampled_from(sorted(manifest_of(b"m", "1", 1))), _JSON)
def test_any_value_in_any_field_is_read_or_refused(name: str, value: Any) -> None:
    try:
        found = parse(json.dumps({**manifest_of(b"m", "1.0.0", 1), name: value}).encode())
    except Refusal as refusal:
        found = None if refusal.code == "bad_manifest" else refusal
    assert found is None or found.app


@given(st.sampled_from(sorted(entry_of(b"m"))), _JSON)
def test_any_value_in_any_field_of_an_entry_is_read_or_refused(name: str, value: Any) -> None:
    entry = {**entry_of(b"m"), name: value}
    try:
        found = parse(json.dumps(manifest_of(b"m", "1.0.0", 1, entries={"board": entry})).encode())
    except Refusal as refusal:
        found = None if refusal.code == "bad_manifest" else refusal
    assert found is None or found.entries["board"].model.size > 0
