"""May this board take this release? Everything that can be known before a byte of it is sent, and again before staging.

What stands in the way is a refusal; what is merely not for this board is skipped, with the reason.
"""

import fcntl
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from edgeopt_runner import conditions, job_document, protocol, runtimes, storage
from edgeopt_runner.links import can_link, sha256_of
from edgeopt_runner.locks import FileLock
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.release_store import LOCK, ReleaseStore
from edgeopt_runner.trust import targets
from edgeopt_runner.updates import app_state, board_releases, space
from edgeopt_runner.updates.manifest import LARGEST_BYTES, Entry, Manifest, parse
from edgeopt_runner.updates.order import Order

UPDATE, NOTHING, SKIP, REFUSE = "update", "nothing", "skip", "refuse"
_NUMBER = re.compile(r"[0-9]+")

Judged = NamedTuple(
    "Judged",
    [
        ("action", str),
        ("reason", str),
        ("manifest", Manifest),
        ("entry", Optional[Entry]),
        ("signed", bool),
        ("needs", List[space.Need]),
        ("room", Optional[space.Room]),
    ],
)
"""What is to be done: ``update`` or ``nothing``; with what is needed for it."""


class Skip(Refusal):
    """The release has nothing for this board: no failure of either."""


def preflight(root: str, order: Order) -> Dict[str, Any]:
    """The verb ``preflight``: nothing is changed here, but that damaged objects go.

    Args:
        root: The runner's root, put right: `releases.recover`.
        order: What is asked for; the manifest's bytes are an object.

    Returns:
        ``action, code, reason, needs, have, free_bytes, need_bytes, collect_bytes, before``.
    """
    store = ReleaseStore(root, order.app)
    answer: Dict[str, Any] = {"code": "", "needs": [], "need_bytes": 0, "collect_bytes": 0}
    try:
        _not_busy(store)
        found = judge(store, order)
        answer.update(action=found.action, reason=found.reason, needs=[need._asdict() for need in found.needs])
        if found.room is not None:
            answer.update(need_bytes=found.room.need_bytes, collect_bytes=found.room.collect_bytes)
    except (Refusal, OSError) as error:
        refusal = refusal_of(error)
        action = SKIP if isinstance(error, Skip) else REFUSE
        reason = refusal.sentences
        answer.update(action=action, code=refusal.code, reason=reason)
    answer.update(have=_bases(store), free_bytes=storage.free_bytes(root))
    return dict(answer, before=board_releases.describe(store, verify=False))


def _not_busy(store: ReleaseStore) -> None:
    """Tell of a change that is under way; the lock itself is left alone."""
    path = os.path.join(store.path, LOCK)
    try:
        with open(path, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass
    except BlockingIOError:
        values = (store.name, FileLock(path).holder())
        message = "another change of %s is under way on this device (process %s)" % values
        raise Refusal(protocol.BUSY, message, "Try again when it has ended.")


def judge(store: ReleaseStore, order: Order) -> Judged:
    """Everything that is looked at, from the signature to the space.

    Raises:
        Skip: The release has nothing for this board.
        Refusal: It may not be installed here (now); the code says why.
    """
    state = app_state.remembered(store)
    state.check_fence(order.fence)
    manifest, signed = _signed_manifest(store.root, order)
    entry = _entry(store.root, manifest, order.profile)
    if _is_active(store, order.manifest):
        reason = "%s %s is active already" % (order.app, manifest.version)
        return Judged(NOTHING, reason, manifest, entry, signed, [], None)
    _not_older(state, manifest, order.manifest)
    state.check_penalty(order.manifest)
    files = [(file.sha256, file.size) for file in (entry.model, entry.golden)]
    needs = space.needs(store.root, files)
    linked = can_link(storage.object_path(store.root, order.manifest))
    scratch = entry.scratch_bytes + (0 if linked else sum(need.size for need in needs))
    found = space.room(store.root, needs, scratch, [order.manifest] + [file[0] for file in files])
    space.check(store.root, found)
    return Judged(UPDATE, _notes(), manifest, entry, signed, needs, found)


def _signed_manifest(root: str, order: Order) -> Tuple[Manifest, bool]:
    """The manifest, and whether the board's own trust vouches for it."""
    data = _object(root, order.manifest)
    signed = _vouched(root, order, len(data))
    manifest = parse(data)
    if order.target != "releases/%s/%s.json" % (manifest.app, manifest.version) or manifest.app != order.app:
        message = "the manifest of %s %s came as %s of %s" % (manifest.app, manifest.version, order.target, order.app)
        raise Refusal(protocol.BAD_MANIFEST, message, "Publish the release again.")
    now = targets.last_trusted_time(root)
    if signed and manifest.expires <= now:
        hours = (now - manifest.expires) / 3600.0
        message = "%s %s expired %.1f h ago" % (manifest.app, manifest.version, hours)
        raise Refusal(protocol.EXPIRED, message, "Publish it again with a later expiry.")
    return manifest, signed


def _object(root: str, digest: str) -> bytes:
    path = storage.object_path(root, digest)
    try:
        if os.path.getsize(path) > LARGEST_BYTES:
            raise Refusal(protocol.BAD_MANIFEST, "a manifest of %d bytes" % os.path.getsize(path))
        if sha256_of(path) == digest:
            with open(path, "rb") as stream:
                return stream.read(LARGEST_BYTES)
    except FileNotFoundError:
        raise Refusal(protocol.MISSING_OBJECT, "the manifest %s is not here" % digest[:12], "Send it first.")
    os.unlink(path)
    message = "the manifest %s was damaged on this device" % digest[:12]
    raise Refusal(protocol.DIGEST_MISMATCH, message, "Send it again.")


def _vouched(root: str, order: Order, length: int) -> bool:
    """Whether signed metadata name exactly these bytes as that target.

    Raises:
        Refusal: They do not, and nobody insists.
    """
    trust = targets.verified(root)
    found = trust.find(order.target) if trust is not None else None
    if found is not None and found["sha256"] == order.manifest and found["length"] == length:
        return True
    if order.insecure_unsigned:
        return False
    if trust is None:
        message = "this board has no root of trust, so nothing can be verified"
        raise Refusal(protocol.NOT_ENROLLED, message, "Enrol it: edgeopt device enrol NAME.")
    what = "is not among its signed targets" if found is None else "is signed with the digest %s" % found["sha256"][:12]
    message = "%s (%s) %s" % (order.target, order.manifest[:12], what)
    raise Refusal(protocol.BAD_SIGNATURE, message, "Publish the release with the keys that this board trusts.")


def _entry(root: str, manifest: Manifest, profile: str) -> Entry:
    """What the release has for this board.

    Raises:
        Skip: Nothing, or nothing that runs here.
    """
    entry = manifest.entries.get(profile)
    if entry is None:
        known = ", ".join(sorted(manifest.entries))
        raise Skip(protocol.NO_ENTRY, "the release has nothing for profile %s (it has %s)" % (profile, known))
    machine = os.uname().machine
    if entry.machines and machine not in entry.machines:
        raise Skip(protocol.WRONG_MACHINE, "it is for %s, this board is %s" % (", ".join(entry.machines), machine))
    job_document.check_settings(entry.settings)
    name = entry.settings["runtime"]
    version = _runtime_version(root, name)
    if version is None:
        raise Skip(protocol.RUNTIME_MISSING, "this board has no %s" % name, "Run: edgeopt device provision NAME.")
    if is_older(version, entry.min_runtime):
        message = "this board has %s %s, the release needs %s" % (name, version, entry.min_runtime)
        raise Skip(protocol.RUNTIME_OLD, message, "Run: edgeopt device provision NAME.")
    return entry


def _runtime_version(root: str, name: str) -> Optional[str]:
    versions = [str(found.get("version", "")) for found in runtimes.find(root, only=name) if found["name"] == name]
    return versions[0] if versions else None


def is_older(version: str, least: str) -> bool:
    """Whether a version stands below another, by the numbers in both; never below an empty one."""
    found, wanted = ([int(part) for part in _NUMBER.findall(text)][:4] for text in (version, least))
    return found < wanted


def _is_active(store: ReleaseStore, manifest: str) -> bool:
    """Whether the active release is of this manifest and undamaged, by its digests."""
    current = store.pointer("current")
    try:
        return current is not None and store.verify(current).get("manifest") == manifest
    except (Refusal, OSError):
        return False


def _not_older(state: app_state.AppState, manifest: Manifest, digest: str) -> None:
    """Refuse what would lead back in time: only a signed release with a higher counter may restore an old one."""
    if manifest.version in state.revoked:
        message = "%s %s is revoked" % (manifest.app, manifest.version)
        raise Refusal(protocol.REVOKED, message, "Publish a release that is not.")
    again = manifest.counter == state.counter and state.counter_manifest in ("", digest)
    if manifest.counter < state.counter or (manifest.counter == state.counter and not again):
        message = "%s %s has counter %d, and this board has committed %d"
        values = (manifest.app, manifest.version, manifest.counter, state.counter)
        raise Refusal(protocol.OLDER, message % values, "To go back on purpose: edgeopt publish --restore VERSION.")


def _notes() -> str:
    """What does not stand in the way, but should be known: alarms of heat and supply, a discharging battery."""
    return ", ".join(conditions.alarms() + (["on battery"] if _on_battery() else []))


def _on_battery() -> bool:
    folder = "/sys/class/power_supply"
    try:
        for name in os.listdir(folder):
            with open(os.path.join(folder, name, "status")) as stream:
                if stream.read(32).strip() == "Discharging":
                    return True
    except OSError:
        pass
    return False


def _bases(store: ReleaseStore) -> List[Dict[str, Any]]:
    """Models of releases that are here, the active one first: what patches may start from."""
    current = store.pointer("current")
    found: Dict[str, Dict[str, Any]] = {}
    for number in sorted(store.numbers(), key=lambda number: (number != current, -number)):
        try:
            manifest = store.manifest(number)
        except Refusal:
            continue
        model = manifest["files"]["model"]
        row = {"sha256": model["sha256"], "size": model["size"], "version": manifest.get("version", "")}
        found.setdefault(model["sha256"], row)
    return list(found.values())
