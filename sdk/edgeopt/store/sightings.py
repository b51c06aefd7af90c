"""What every board answered last: a file of the user's computer, replaced as a whole; losing it loses no decision."""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Iterable
from pathlib import Path

from edgeopt.core.sighting import Sighting
from edgeopt.documents import decode_json, plain, write_atomically
from edgeopt.errors import DocumentError, StoreError


class Sightings:
    """The file.

    Args:
        path: Made on first use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> tuple[Sighting, ...]:
        """Every board that was ever asked, by name.

        Raises:
            StoreError: The file cannot be read, or is something else.
        """
        try:
            return decode_json(tuple[Sighting, ...], self.path.read_bytes(), where=str(self.path))
        except FileNotFoundError:
            return ()
        except (OSError, DocumentError) as error:
            raise StoreError(f"cannot read {self.path}: {error}", remedy="Take it away: it is made again.") from None

    def remember(self, sightings: Iterable[Sighting]) -> tuple[Sighting, ...]:
        """Keep these as the newest; of a board that did not answer what it said last stays.

        Returns:
            The same, each with what was known before.

        Raises:
            StoreError: The file cannot be read or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path.with_name(f".{self.path.name}.lock"), "w") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                known = {one.board: one for one in self.all()}
                merged = tuple(_merged(known.get(one.board), one) for one in sightings)
                known.update((one.board, one) for one in merged)
                document = [plain(known[name]) for name in sorted(known)]
                write_atomically(self.path, json.dumps(document, separators=(",", ":")).encode())
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"cannot write {self.path}: {error.strerror}.", remedy="Make it writable.") from None
        return merged


def _merged(before: Sighting | None, now: Sighting) -> Sighting:
    if now.reachable or before is None or now.seen_at > before.seen_at:
        return now
    return dataclasses.replace(now, seen_at=before.seen_at, releases=before.releases, hardware=before.hardware)
