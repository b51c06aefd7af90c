"""Publishes releases into the signed tree, and reads what is published there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.model import Artifact
from edgeopt.core.release import Release, ReleaseEntry
from edgeopt.core.run import RunRecord
from edgeopt.errors import StoreError, UsageError
from edgeopt.remote.lockfile import locked
from edgeopt.workflow.deciding import find_group, find_run
from edgeopt.workflow.fleet import composing
from edgeopt.workflow.fleet.auditing import audit_log, deed
from edgeopt.workflow.fleet.composing import ReleaseRequest
from edgeopt.workflow.fleet.tree import Tree, target_of
from edgeopt.workflow.workspace import Workspace


@dataclass(frozen=True)
class Published:
    """A release in the tree.

    Attributes:
        release: What was published.
        manifest: SHA-256 of its manifest.
        target: Path of its manifest among the signed targets.
        new: Whether this call published it; false where the same content was there already.
        install_bytes: Of all files of the release, none counted twice.
    """

    release: Release
    manifest: str
    target: str
    new: bool
    install_bytes: int


def publish(request: ReleaseRequest, workspace: Workspace, *, now: Callable[[], float] = time.time) -> Published:
    """Make a release, sign it and put it into the tree with its files.

    Args:
        request: What to publish.
        workspace: Where runs, files, keys and the tree are.
        now: Seconds since the epoch.

    Raises:
        UsageError: The request makes no release, or the version is published with other content.
        StoreError: A run or a file is missing, or the tree cannot be read or written.
    """
    request.check()
    records = _records(request, workspace)
    with locked(workspace.root / "releases"):
        tree = Tree.open(workspace)
        known = tree.releases(request.app)
        release = _release(request, records, known, workspace, round(now()))
        existing = known.get(request.version)
        if existing is not None:
            return _published_before(existing, release, tree)
        return _put(release, tree, workspace, now)


def _records(request: ReleaseRequest, workspace: Workspace) -> tuple[tuple[str, RunRecord], ...]:
    """Pairs of profile and run, those without a profile of their own first; a run for several boards is one a kind."""
    groups = {name: find_group(name, workspace) for name in dict.fromkeys(request.runs)}
    named = [
        ("", one) for name, group in groups.items() for one in ([run.run_id for run in group.runs] if group else [name])
    ]
    named += list(request.profiles.items())
    return tuple((profile, find_run(name, workspace)) for profile, name in named)


def _release(
    request: ReleaseRequest,
    records: tuple[tuple[str, RunRecord], ...],
    known: Mapping[str, Release],
    workspace: Workspace,
    now: int,
) -> Release:
    existing = known.get(request.version)
    before = [one for one in known.values() if existing is None or one.counter < existing.counter]
    latest = max(before, key=lambda one: one.counter, default=None)
    for version in (*request.revoke, *filter(None, (request.restore,))):
        if version not in known:
            there = ", ".join(sorted(known)) or "none yet"
            raise UsageError(
                f"{request.app} has no release {version!r} (published: {there}).", remedy="See edgeopt releases."
            )
    revoked = tuple(dict.fromkeys((*(latest.revoked if latest else ()), *request.revoke)))
    return Release(
        app=request.app,
        version=request.version,
        counter=existing.counter if existing else (latest.counter if latest else 0) + 1,
        created=now,
        expires=now + round(request.expires_seconds),
        entries=_entries(request, records, known, revoked, workspace),
        revoked=revoked,
        restores=request.restore,
        notes=request.notes,
    )


def _entries(
    request: ReleaseRequest,
    records: tuple[tuple[str, RunRecord], ...],
    known: Mapping[str, Release],
    revoked: tuple[str, ...],
    workspace: Workspace,
) -> Mapping[str, ReleaseEntry]:
    """From runs; of a release that restores another, that one's."""
    if not request.restore:
        return composing.entries_of(records, workspace.artifacts, request)
    if request.restore in revoked:
        raise UsageError(
            f"{request.app}@{request.restore} is revoked: no board may run it.", remedy="Restore another version."
        )
    return known[request.restore].entries


def _published_before(existing: Release, release: Release, tree: Tree) -> Published:
    if not composing.same_content(existing, release):
        raise UsageError(
            f"{existing.name} is published with other content (counter {existing.counter}): a release never changes.",
            remedy="Publish it under another version.",
        )
    return _as_published(existing, tree, new=False)


def _put(release: Release, tree: Tree, workspace: Workspace, now: Callable[[], float]) -> Published:
    """Files first, then the log's line, then what makes the release count."""
    data = composing.manifest_bytes(release)
    for file in release.artifacts:
        tree.put_blob(_path_of(file, workspace, tree), file)
    digest = hashlib.sha256(data).hexdigest()
    why = f"counter {release.counter}, manifest {digest}, profiles {', '.join(release.entries)}"
    why += f", restores {release.restores}" if release.restores else ""
    with deed(audit_log(workspace), "publish", release.name, why, now=now):
        tree.put_manifest(release, data, now())
    return _as_published(release, tree, new=True)


def _path_of(file: Artifact, workspace: Workspace, tree: Tree) -> Path:
    """Where a file is: in the store, or (of a version that is restored) among the blobs already."""
    if workspace.artifacts.has(file.digest):
        return workspace.artifacts.verify(file.digest)
    found = tree.blob(file)
    if found is None:
        raise StoreError(
            f"file {file.digest[:12]} of the release is neither in the store nor among the published files.",
            remedy="Run the command that made it again.",
        )
    return found


def _as_published(release: Release, tree: Tree, *, new: bool) -> Published:
    data = tree.manifest(release.app, release.version)
    size_bytes = sum(file.size_bytes for file in release.artifacts)
    return Published(
        release, hashlib.sha256(data).hexdigest(), target_of(release.app, release.version), new, size_bytes
    )


def releases(workspace: Workspace, app: str = "") -> tuple[Release, ...]:
    """What is published, by app and then by counter, newest first; all apps where none is named.

    Raises:
        StoreError: The tree cannot be read.
    """
    tree = Tree.open(workspace)
    names = [app] if app else tree.apps()
    found = [release for name in names for release in tree.releases(name).values()]
    return tuple(sorted(found, key=lambda one: (one.app, -one.counter)))


def find_release(name: str, workspace: Workspace) -> Published:
    """A published release.

    Args:
        name: ``app@version``; ``app`` alone is the newest.

    Raises:
        UsageError: There is none of that name.
    """
    app, at, version = name.partition("@")
    composing.check_name(app, version if at else "any")
    tree = Tree.open(workspace)
    known = tree.releases(app)
    release = known.get(version) if at else max(known.values(), key=lambda one: one.counter, default=None)
    if release is None:
        there = ", ".join(sorted(known)) or "none yet"
        raise UsageError(
            f"{name!r} is not published (of {app} there is: {there}).",
            remedy=f"Publish it: edgeopt publish {app}@VERSION --from RUN.",
        )
    return _as_published(release, tree, new=False)
