"""The release manifest as a board reads it: everything that is not exactly as agreed is refused.

Written by the host as the plain form of `edgeopt.core.release.Release`. It is checked before it is believed even where
its signature fits: who holds a key may still be wrong.
"""

import json
import math
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from edgeopt_runner import storage
from edgeopt_runner.protocol import BAD_MANIFEST
from edgeopt_runner.refusals import Refusal

LARGEST_BYTES = 256 << 10
LARGEST_FILE_BYTES = 1 << 40
MOST_ENTRIES = 512
MOST_REVOKED = 256
MOST_RUNS = 100000
MODEL_FORMATS = ("onnx", "tflite", "ncnn", "mnn", "pte")
_DEPTH = 12
_LONGEST_NUMBER = 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
_MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_RUNTIME_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,63}\Z|\Z")

File = NamedTuple("File", [("sha256", str), ("size", int), ("format", str)])
"""A file of a release: its digest, size in bytes and format."""

Health = NamedTuple(
    "Health",
    [
        ("min_cosine", float),
        ("max_latency_ns", Optional[int]),
        ("max_memory_bytes", Optional[int]),
        ("runs", int),
    ],
)
"""What a board must measure; ``None``: not limited. The latency is the 95th percentile."""

Entry = NamedTuple(
    "Entry",
    [
        ("variant", str),
        ("model", File),
        ("golden", File),
        ("settings", Dict[str, Any]),
        ("machines", Tuple[str, ...]),
        ("min_runtime", str),
        ("health", Health),
        ("scratch_bytes", int),
    ],
)
"""What a release has for one profile."""

Manifest = NamedTuple(
    "Manifest",
    [
        ("app", str),
        ("version", str),
        ("counter", int),
        ("created", float),
        ("expires", float),
        ("entries", Dict[str, Entry]),
        ("revoked", Tuple[str, ...]),
        ("restores", str),
    ],
)
"""A release for all profiles."""


def parse(data: bytes) -> Manifest:
    """Read a manifest.

    Args:
        data: The target's bytes.

    Raises:
        Refusal: ``bad_manifest``: too large, no JSON, or a field is not as it must be; names the field.
    """
    if len(data) > LARGEST_BYTES:
        raise _refused("it has %d bytes, more than %d" % (len(data), LARGEST_BYTES))
    document = _fields(_json(data), "the manifest", _MANIFEST)
    if document["version"] in document["revoked"]:
        raise _refused("it revokes its own version %s" % document["version"])
    if document["expires"] <= document["created"]:
        raise _refused("it expires before it was made")
    document.pop("schema")
    document.pop("notes")
    return Manifest(**document)


def _refused(what: str) -> Refusal:
    return Refusal(BAD_MANIFEST, "the release's manifest is refused: %s" % what, "Publish the release again.")


def _json(data: bytes) -> Any:
    """The JSON value: UTF-8, finite numbers, no key twice, not deep."""
    try:
        text = data.decode("utf-8")
        _shallow(text)
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer, parse_float=_number
        )
    except (ValueError, RecursionError) as error:
        raise _refused("it is not sound JSON: %.120s" % error)


def _shallow(text: str) -> None:
    """Count brackets before the parser sees them; brackets in texts count too, which no sound manifest minds."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    if deepest > _DEPTH:
        raise ValueError("nested more than %d deep" % _DEPTH)


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError("%s is not a number" % word)


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number of %d digits" % len(text))
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("%.40s is not finite" % text)
    return value


Reader = Callable[[Any, str], Any]


def _fields(value: Any, where: str, readers: Dict[str, Reader]) -> Dict[str, Any]:
    """An object with exactly these fields, each read by its reader."""
    if not isinstance(value, dict):
        raise _refused("%s is %.60r, not an object" % (where, value))
    for name in sorted(set(value) ^ set(readers)):
        raise _refused("%s has %s field %.60r" % (where, "the unknown" if name in value else "no", name))
    return {name: reader(value[name], "%s of %s" % (name, where)) for name, reader in readers.items()}


def _text(pattern: Any) -> Reader:
    def read(value: Any, where: str) -> str:
        if not isinstance(value, str) or not pattern.match(value):
            raise _refused("%s is %.80r" % (where, value))
        return value

    return read


def _words(limit: int) -> Reader:
    """Text for people: only its length counts."""
    return _text(re.compile(r"[^\x00]{0,%d}\Z" % limit))


def _whole(least: int, most: int, optional: bool = False) -> Reader:
    def read(value: Any, where: str) -> Optional[int]:
        if value is None and optional:
            return None
        if isinstance(value, float) and value == int(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _refused("%s is %.80r, not a whole number from %d to %d" % (where, value, least, most))
        return value

    return read


def _real(least: float, most: float) -> Reader:
    def read(value: Any, where: str) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise _refused("%s is %.80r, not a number from %g to %g" % (where, value, least, most))
        return float(value)

    return read


def _list(reader: Reader, most: int) -> Reader:
    def read(value: Any, where: str) -> Tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise _refused("%s is %.80r, not a list of %d at most" % (where, value, most))
        return tuple(reader(item, where) for item in value)

    return read


def _digest(value: Any, where: str) -> str:
    try:
        return storage.check_digest(value, where)
    except Refusal as error:
        raise _refused(error.message)


def _file(formats: Tuple[str, ...]) -> Reader:
    shape = {"digest": _digest, "size_bytes": _whole(1, LARGEST_FILE_BYTES), "format": _text(_NAME)}

    def read(value: Any, where: str) -> File:
        found = _fields(value, where, shape)
        if found["format"] not in formats:
            raise _refused("%s is %.40r; known are %s" % (where + "'s format", found["format"], ", ".join(formats)))
        return File(found["digest"], found["size_bytes"], found["format"])

    return read


def _settings(value: Any, where: str) -> Dict[str, Any]:
    """A flat object; whether this board takes the values is asked when it is this board's turn. Empty is default."""
    if not isinstance(value, dict) or not all(isinstance(item, (str, int, bool)) for item in value.values()):
        raise _refused("%s is %.80r" % (where, value))
    if not isinstance(value.get("runtime"), str) or not _NAME.match(value["runtime"]):
        raise _refused("%s names no runtime" % where)
    return {name: item for name, item in value.items() if item != ""}


def _health(value: Any, where: str) -> Health:
    return Health(**_fields(value, where, _HEALTH))


def _entry(value: Any, where: str) -> Entry:
    found = _fields(value, where, _ENTRY)
    found.pop("measured")
    found.pop("run_id")
    return Entry(**found)


def _entries(value: Any, where: str) -> Dict[str, Entry]:
    if not isinstance(value, dict) or not 1 <= len(value) <= MOST_ENTRIES:
        raise _refused("%s are %.80r, not an object of 1 to %d profiles" % (where, value, MOST_ENTRIES))
    profile = _text(_NAME)
    return {profile(name, "a profile"): _entry(entry, "the entry of %.64s" % name) for name, entry in value.items()}


def _measured(value: Any, where: str) -> None:
    """Figures for people and for the host; a board compares with its own."""
    if value is not None and not isinstance(value, dict):
        raise _refused("%s is %.80r" % (where, value))


_TIME = _real(0.0, 1e11)
_HEALTH = {
    "min_cosine": _real(-1.0, 1.0),
    "max_latency_ns": _whole(1, 1 << 53, optional=True),
    "max_memory_bytes": _whole(1, 1 << 53, optional=True),
    "runs": _whole(1, MOST_RUNS),
}
_ENTRY = {
    "variant": _words(256),
    "model": _file(MODEL_FORMATS),
    "golden": _file(("npz",)),
    "settings": _settings,
    "machines": _list(_text(_MACHINE), 16),
    "min_runtime": _text(_RUNTIME_VERSION),
    "health": _health,
    "measured": _measured,
    "scratch_bytes": _whole(0, LARGEST_FILE_BYTES),
    "run_id": _words(128),
}
_MANIFEST = {
    "schema": _whole(1, 1),
    "app": _text(_NAME),
    "version": _text(_VERSION),
    "counter": _whole(1, 1 << 53),
    "created": _TIME,
    "expires": _TIME,
    "entries": _entries,
    "revoked": _list(_text(_VERSION), MOST_REVOKED),
    "restores": _text(re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+-]{0,63})?\Z")),
    "notes": _words(4096),
}
