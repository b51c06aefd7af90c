"""How much happens at once: which boards may begin under the caps, and how fast bytes may go. Time comes in."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping

from edgeopt.core.fleet import Caps

Place = tuple[str, str]
"""Jump host and site of a board; empty where it has none."""


class BoardQueue:
    """Boards that want to begin, and those that are under way.

    Boards wait in one line for each place, so that a jump host at its limit holds nobody else up and a step costs what
    it starts, not what waits.

    Args:
        caps: The limits.
        places: Of each board.
    """

    def __init__(self, caps: Caps, places: Mapping[str, Place]) -> None:
        self._caps, self._places = caps, places
        self._lines: OrderedDict[Place, deque[str]] = OrderedDict()
        self._queued: set[str] = set()
        self._running: set[str] = set()
        self._jumps: Counter[str] = Counter()
        self._sites: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def running(self) -> frozenset[str]:
        """Boards under way."""
        return frozenset(self._running)

    @property
    def busy(self) -> int:
        """How many boards are under way."""
        return len(self._running)

    def add(self, board: str) -> None:
        """Have a board wait for its turn; nothing where it waits or is under way."""
        if board not in self._queued and board not in self._running:
            self._queued.add(board)
            self._lines.setdefault(self._place(board), deque()).append(board)

    def clear(self) -> None:
        """Send all away that wait."""
        self._queued.clear()
        self._lines.clear()

    def take(self) -> list[str]:
        """The boards that begin now, one of every place in turn."""
        begun: list[str] = []
        blocked = 0
        while self._lines and blocked < len(self._lines) and len(self._running) < self._caps.concurrency:
            place, line = self._lines.popitem(last=False)
            if self._full(place):
                blocked += 1
            else:
                blocked = 0
                begun.append(self._begin(line.popleft(), place))
            if line:
                self._lines[place] = line
        return begun

    def _begin(self, board: str, place: Place) -> str:
        self._queued.discard(board)
        self._running.add(board)
        self._jumps[place[0]] += 1
        self._sites[place[1]] += 1
        return board

    def done(self, board: str) -> None:
        """A board is no longer under way."""
        if board in self._running:
            self._running.discard(board)
            jump, site = self._place(board)
            self._jumps[jump] -= 1
            self._sites[site] -= 1

    def _place(self, board: str) -> Place:
        return self._places.get(board, ("", ""))

    def _full(self, place: Place) -> bool:
        jump, site = place
        of_site = self._caps.sites.get(site, self._caps.per_site)
        jump_full = bool(jump) and self._jumps[jump] >= self._caps.per_jump
        return jump_full or (bool(site) and of_site is not None and self._sites[site] >= of_site)


class TokenBucket:
    """Lets so many bytes a second through, with a burst of one second.

    Args:
        bytes_per_second: The rate; ``None``: unlimited.
        now: Seconds, on any clock that does not go back.
    """

    def __init__(self, bytes_per_second: int | None, now: float) -> None:
        self._rate = bytes_per_second
        self._tokens, self._since = float(bytes_per_second or 0), now

    def take(self, count: int, now: float) -> float:
        """Spend `count` bytes; returns for how many seconds the sender has to wait before it goes on."""
        if not self._rate:
            return 0.0
        self._tokens = min(float(self._rate), self._tokens + (now - self._since) * self._rate) - count
        self._since = now
        return max(0.0, -self._tokens / self._rate)
