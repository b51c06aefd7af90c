"""What a rollout sends to boards, taken from the signed tree: manifests, files, and what makes them believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeopt.errors import RunnerError
from edgeopt.remote.board import TrustState
from edgeopt.signing.repository import Repository
from edgeopt.workflow.fleet.tree import repository_of, target_of
from edgeopt.workflow.workspace import Workspace


class TreeSource:
    """Files and signatures of a workspace's tree. May be called from many threads.

    Args:
        workspace: Whose tree and keys.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._repository: Repository = repository_of(workspace)
        self._artifacts = workspace.artifacts

    def manifest(self, app: str, version: str) -> Path:
        """The file of a signed manifest.

        Raises:
            SigningError: It is not published, or damaged.
        """
        data = self._repository.read(target_of(app, version))
        return self._artifacts.path(self._artifacts.add_bytes(data, "json"))

    def file(self, digest: str) -> Path | None:
        """A file of any release, or ``None`` where it is not here."""
        path = self._repository.blob_path(digest)
        return path if path.is_file() else None

    def metadata(self, trust: TrustState) -> Mapping[str, Any]:
        """What a board lacks, with ``freshness``.

        Raises:
            RunnerError: The board is not enrolled, or says that it knows a root that is not ours: no other board is to
                suffer for it.
            SigningError: Something has expired, or a key is missing.
        """
        newest = self._repository.current().root.signed.version
        if not trust.enrolled:
            raise RunnerError(
                "it is not enrolled: it believes no release yet.",
                remedy="Enrol it: edgeopt fleet enrol BOARD.",
                status="not_enrolled",
            )
        if trust.root > newest:
            raise RunnerError(
                f"it trusts root version {trust.root}, this tree has {newest}.",
                remedy="Use the newest copy of the tree.",
                status="stale",
            )
        return self._repository.metadata_for_push(asdict(trust))
