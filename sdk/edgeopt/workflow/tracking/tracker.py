"""What a keeper of experiments hears of a run, and how a run is kept safe from it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Protocol

from edgeopt.core.run import RunRecord
from edgeopt.errors import StoreError
from edgeopt.workflow.listener import Listener

_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")
_SECRET = re.compile(r"([?&][^=&#\s]*(?:passw|pwd|secret|token)[^=&#\s]*=)[^&#\s]*", re.IGNORECASE)


class Tracker(Protocol):
    """Hears of a run at every step that the ledger keeps; `edgeopt.workflow.tracking.mlflow_tracker` has one."""

    @property
    def place(self) -> str:
        """Where it keeps what it hears, fit to be shown."""

    def saved(self, record: RunRecord) -> None:
        """The run stands so."""

    def ended(self, record: RunRecord, page: str) -> None:
        """The run has its decision; `page` is its report in HTML."""

    def left(self) -> None:
        """Nothing more comes from this process; the run may be taken up again."""


class Untracked:
    """For runs that the ledger alone keeps."""

    place = ""

    def saved(self, record: RunRecord) -> None:
        """Ignore."""

    def ended(self, record: RunRecord, page: str) -> None:
        """Ignore."""

    def left(self) -> None:
        """Ignore."""


class Forgiving:
    """A tracker whose failures end no run: the first one is told, then it is left alone.

    Args:
        tracker: The one that may fail.
        listener: Hears of the failure, once.
    """

    def __init__(self, tracker: Tracker, listener: Listener) -> None:
        self._tracker, self._listener = tracker, listener
        self._run_id, self._works = "", True

    @property
    def place(self) -> str:
        """As the tracker says."""
        return self._tracker.place

    def saved(self, record: RunRecord) -> None:
        """Tell it on."""
        self._run_id = record.run_id
        self._try(lambda: self._tracker.saved(record))

    def ended(self, record: RunRecord, page: str) -> None:
        """Tell it on."""
        self._try(lambda: self._tracker.ended(record, page))

    def left(self) -> None:
        """Tell it on."""
        self._try(self._tracker.left)

    def _try(self, deed: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            deed()
        except Exception as error:  # of a library, its database or its server: whatever it is, the run goes on
            self._works = False
            self._listener.note(
                f"{self.place} is told nothing more of this run: {in_short(error)}. The run goes on and the ledger has "
                f"it all; to tell it later: edgeopt report {self._run_id} --log-to mlflow:URI"
            )


@contextlib.contextmanager
def failures_named(tracker: Tracker) -> Iterator[None]:
    """For what is told after the deed and on purpose: a failure is an error of ours.

    Raises:
        StoreError: The tracker failed.
    """
    try:
        yield
    except Exception as error:  # of a library, its database or its server
        raise StoreError(f"{tracker.place} failed: {in_short(error)}.", remedy="Say the same again.") from None


def tell(tracker: Tracker, record: RunRecord, page: str) -> None:
    """Tell all of a run that is in the ledger.

    Raises:
        StoreError: The tracker failed.
    """
    with failures_named(tracker):
        tracker.saved(record)
        tracker.ended(record, page)


def in_short(error: Exception) -> str:
    """The first line of what a library said, without passwords."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_password(lines[0])[:300].rstrip(".")


def without_password(text: str) -> str:
    """The text with users and passwords taken out of its addresses, and secrets out of their queries."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub("", text))
