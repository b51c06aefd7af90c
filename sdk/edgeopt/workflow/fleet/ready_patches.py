"""Patches that lie ready in the tree for boards that pull: from the models of releases before to those of the newest.

A board that is pushed to gets a patch for the very files that it has; a static store has what was made before anybody
asked, so here it is what most boards will have: the last few releases.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeopt.core.model import Artifact
from edgeopt.documents import write_atomically
from edgeopt.workflow.fleet.tree import Tree, tree_folder
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.protocol import ready_patches
from edgeopt_runner.protocol.ready_patches import Ready

MOST_BEFORE = 3


def make_ready(workspace: Workspace) -> None:
    """Make the patches of the newest release of every app, and list them beside it; what was made is not made again.

    Raises:
        SigningError: The tree cannot be read.
        StoreError: A manifest is damaged, or the list cannot be written.
    """
    tree = Tree.open(workspace)
    wanted: dict[Artifact, dict[str, Path]] = {}
    for app in tree.apps():
        for target, bases in _steps(tree, app):
            wanted.setdefault(target, {}).update(bases)
    for target, bases in wanted.items():
        rows = list(_patches(tree, target, bases, workspace.cache_folder("patches")))
        place = tree_folder(workspace) / ready_patches.path(target.digest)
        if rows or place.exists():
            write_atomically(place, ready_patches.encode(rows))


def _steps(tree: Tree, app: str) -> Iterator[tuple[Artifact, dict[str, Path]]]:
    """Each model of the newest release with those of its profile before it, the latest first."""
    newest, *before = sorted(tree.releases(app).values(), key=lambda release: -release.counter)
    for profile, entry in newest.entries.items():
        earlier = [release.entries[profile].model for release in before if profile in release.entries]
        models = {model.digest: path for model in earlier if (path := tree.blob(model)) is not None}
        models.pop(entry.model.digest, None)
        yield entry.model, dict(list(models.items())[:MOST_BEFORE])


def _patches(tree: Tree, target: Artifact, bases: dict[str, Path], folder: Path) -> Iterator[Ready]:
    """The patches that are worth it, from each base and from none."""
    from edgeopt.deltas.best import best_patch
    from edgeopt_runner.protocol.patch_format import CODECS

    aim, seen = tree.blob(target), set()
    for known in ({}, *({digest: path} for digest, path in bases.items())) if aim is not None else ():
        assert aim is not None
        found = best_patch(known, aim, tuple(CODECS), folder)
        if found is not None and found.digest not in seen:
            seen.add(found.digest)
            tree.put_blob(found.path, Artifact(found.digest, found.size_bytes, "patch"))
            yield Ready(found.base, found.digest, found.size_bytes, tuple(CODECS))
