"""The signed tree of a workspace, read and written as releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.model import Artifact
from edgeopt.core.release import Release
from edgeopt.documents import decode_json
from edgeopt.errors import StoreError
from edgeopt.signing.key_folder import KeyFolder
from edgeopt.signing.repository import Repository
from edgeopt.workflow.workspace import Workspace


def tree_folder(workspace: Workspace) -> Path:
    """Where the tree is: `releases` in the workspace's root."""
    return workspace.root / "releases"


def repository_of(workspace: Workspace) -> Repository:
    """The signed tree with the keys of the workspace."""
    return Repository(tree_folder(workspace), KeyFolder(workspace.root / "keys"))


def target_of(app: str, version: str) -> str:
    """Path of a release's manifest among the signed targets."""
    return f"releases/{app}/{version}.json"


@dataclass(frozen=True)
class Tree:
    """Releases in a signed tree.

    Attributes:
        repository: Where they are.
    """

    repository: Repository

    @classmethod
    def open(cls, workspace: Workspace) -> Tree:
        """The tree of a workspace.

        Raises:
            SigningError: There is none, or it is damaged.
        """
        repository = repository_of(workspace)
        repository.current()
        return cls(repository)

    def apps(self) -> tuple[str, ...]:
        """Apps with a release, by name."""
        paths = (target.path.split("/") for target in self.repository.listed("releases/"))
        return tuple(sorted({parts[1] for parts in paths if len(parts) == 3}))

    def releases(self, app: str) -> dict[str, Release]:
        """The releases of an app, by version.

        Raises:
            StoreError: A manifest is damaged.
        """
        found = [self._release(target.path) for target in self.repository.targets(app)]
        return {release.version: release for release in found}

    def _release(self, path: str) -> Release:
        release = decode_json(Release, self.repository.read(path), where=path)
        if path != target_of(release.app, release.version):
            raise StoreError(f"{path} holds the manifest of {release.name}.", remedy="Restore the tree from its copy.")
        return release

    def manifest(self, app: str, version: str) -> bytes:
        """The signed bytes of a manifest."""
        return self.repository.manifest(app, version)

    def blob(self, file: Artifact) -> Path | None:
        """A file of a release, or ``None`` where it is not there in its full length."""
        path = self.repository.blob_path(file.digest)
        return path if path.is_file() and path.stat().st_size == file.size_bytes else None

    def put_blob(self, source: Path, file: Artifact) -> None:
        """Put a file of a release into the tree."""
        self.repository.put_blob(source, file.digest)

    def put_manifest(self, release: Release, data: bytes, now: float) -> None:
        """Sign a release: from now on it is published.

        Raises:
            SigningError: A key is missing or locked, or other people have to sign, too.
        """
        self.repository.add_target(target_of(release.app, release.version), data)
        self.repository.publish(now)
