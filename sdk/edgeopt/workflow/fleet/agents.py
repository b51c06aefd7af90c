"""What this computer knows of boards that pull, noted when they were enrolled: `agents/<board>.json` in its home."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeopt.documents import decode_json, write_atomically
from edgeopt.errors import DocumentError, StoreError
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.protocol.offers import Offer, why_not


@dataclass(frozen=True)
class PullingBoard:
    """A board that pulls.

    Attributes:
        public_key: Of its reports, in hexadecimal.
        url: Where it pulls from; empty: another server orders (hawkBit).
        report_url: Where it puts its reports; empty: nowhere.
        profile, labels: What offers can choose it by, beside its name; as it was told.
        apps: Those that it wants; empty: all.
        every_seconds: Between polls.
    """

    public_key: str
    url: str = ""
    report_url: str = ""
    profile: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    apps: tuple[str, ...] = ()
    every_seconds: int = 1800

    def why_not(self, name: str, offer: Offer) -> str:
        """Why an offer is not for this board, by the board's own rule; empty where it is."""
        if self.apps and offer.app not in self.apps:
            return f"it does not want {offer.app}"
        return str(why_not(offer, name, {**self.labels, "name": name, "profile": self.profile}))


def key_path(workspace: Workspace, name: str) -> Path:
    """Where the public key of a board's reports is kept, with what it was told."""
    return workspace.root / "agents" / f"{name}.json"


def remember(workspace: Workspace, name: str, board: PullingBoard) -> None:
    """Note a board that was told to pull. Raises StoreError where that cannot be written."""
    data = json.dumps(dataclasses.asdict(board), sort_keys=True).encode()
    write_atomically(key_path(workspace, name), data)


def pulling_boards(workspace: Workspace) -> dict[str, PullingBoard]:
    """The boards that were told to pull, by name.

    Raises:
        StoreError: What was noted of one cannot be read.
    """
    found = {}
    for path in sorted((workspace.root / "agents").glob("*.json")):
        try:
            found[path.stem] = decode_json(PullingBoard, path.read_bytes(), where=str(path))
        except (OSError, DocumentError) as error:
            raise StoreError(f"cannot read {path}: {error}", remedy="Enrol the board again.") from None
    return found
