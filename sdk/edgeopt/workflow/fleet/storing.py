"""Brings the published tree to where boards pull it from."""

from __future__ import annotations

from pathlib import Path

from edgeopt.publishing.tree import Progress, Pushed, push_tree


def store(tree: Path, url: str, progress: Progress | None = None) -> Pushed:
    """Bring the tree to a store; what is there is not sent again.

    Args:
        tree: Folder of the tree, ``<home>/releases`` by default.
        url: A folder, ``s3://bucket/prefix`` or whatever else fsspec writes to.
        progress: Hears of every file.

    Raises:
        UsageError: The address is none, or nothing is published yet.
        ToolError: The package for that kind of store is not installed.
        StoreError: The store cannot be read or written.
    """
    return push_tree(tree, url, progress)
