"""What the agent remembers from poll to poll: how far each app is, what it reported, and the timestamp's entity tag.

All of it may be lost: then a document is fetched again, and an update that is done is found to be done.
"""

import os
from typing import Any, Dict

from edgeopt_runner import storage
from edgeopt_runner.agent import settings

_STATE = "state.json"
LONGEST_PAUSE_POLLS = 48
WHOLE_POLLS = 12
"""At every so many polls the timestamp is fetched whatever its entity tag."""


class Memory:
    """The agent's state on disk.

    Args:
        root: The runner's root.
    """

    def __init__(self, root: str) -> None:
        self._folder = settings.folder(root)
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        state = storage.read_json(os.path.join(self._folder, _STATE))
        self._apps: Dict[str, Dict[str, Any]] = _objects(state.get("apps"))
        self.reports = state["reports"] if isinstance(state.get("reports"), int) else 0
        self.polls = state["polls"] if isinstance(state.get("polls"), int) else 0
        self._etag = _texts(state.get("etag"))
        self._trouble = str(state.get("trouble", ""))

    def save(self) -> None:
        """Write the state down; durable when this returns."""
        state: Dict[str, Any] = {"apps": self._apps, "reports": self.reports, "polls": self.polls, "etag": self._etag}
        state["trouble"] = self._trouble
        storage.write_json(os.path.join(self._folder, _STATE), state)

    def etag(self, url: str, version: int) -> str:
        """Entity tag of the timestamp of that version at that address; empty where none is known.

        Now and then none is told: servers make tags of time and size, and two timestamps of one second have the same.
        """
        known = (
            self.polls % WHOLE_POLLS != 0 and self._etag.get("url") == url and self._etag.get("version") == str(version)
        )
        return self._etag.get("etag", "") if known else ""

    def keep_etag(self, url: str, version: int, etag: str) -> None:
        """Remember the entity tag of a timestamp that was verified."""
        self._etag = {"url": url, "version": str(version), "etag": etag}

    def app(self, app: str, rollout: str, manifest: str) -> Dict[str, Any]:
        """How far an app is with what is offered now; a fresh start where it was something else before."""
        found = self._apps.get(app, {})
        if found.get("rollout") != rollout or found.get("manifest") != manifest:
            found = {"rollout": rollout, "manifest": manifest}
        fresh = {"attempt": 1, "outcome": "", "code": "", "reason": "", "pause": 0}
        return {**fresh, **found}

    def apps(self) -> Dict[str, Dict[str, Any]]:
        """How far every app is."""
        return self._apps

    def unreported(self, trouble: str) -> bool:
        """Whether something happened, or another trouble than last time is there, that no report told of."""
        return trouble != self._trouble or any(not record.get("reported", True) for record in self._apps.values())

    def reported(self, number: int, trouble: str) -> None:
        """Remember that report `number` arrived."""
        self._apps = {app: dict(record, reported=True) for app, record in self._apps.items()}
        self.reports, self._trouble = number, trouble
        self.save()

    def note(self, app: str, record: Dict[str, Any]) -> None:
        """Remember how far an app is; durable when this returns."""
        self._apps[app] = record
        self.save()


def pause_polls(attempt: int) -> int:
    """Polls to sit out after a try that failed: 1, 2, 4, ... In polls, since the clock of a board may be anything."""
    return int(min(2 ** min(attempt - 1, 10), LONGEST_PAUSE_POLLS))


def _objects(value: Any) -> Dict[str, Dict[str, Any]]:
    return {name: item for name, item in value.items() if isinstance(item, dict)} if isinstance(value, dict) else {}


def _texts(value: Any) -> Dict[str, str]:
    return {name: item for name, item in value.items() if isinstance(item, str)} if isinstance(value, dict) else {}
