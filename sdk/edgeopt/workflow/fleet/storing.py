"""Brings the published tree to where boards pull it from."""

from __future__ import annotations

from edgeopt.publishing.tree import Progress, Pushed, push_tree
from edgeopt.workflow.fleet.ready_patches import make_ready
from edgeopt.workflow.fleet.tree import tree_folder
from edgeopt.workflow.workspace import Workspace


def store(workspace: Workspace, url: str, progress: Progress | None = None, *, verify: bool = False) -> Pushed:
    """Bring the tree to a store, with patches for boards that have an earlier release; what is there is not sent again.

    Args:
        workspace: Whose tree.
        url: A folder, ``s3://bucket/prefix`` or whatever else fsspec writes to.
        progress: Hears of every file.
        verify: Read what is there, and send again what is damaged.

    Raises:
        UsageError: The address is none, or nothing is published yet.
        SigningError: The tree cannot be read.
        ToolError: The package for that kind of store is not installed.
        StoreError: The store cannot be read or written.
    """
    make_ready(workspace)
    return push_tree(tree_folder(workspace), url, progress, verify=verify)
