"""How often and how long a board tries again: exponential waits, spread by the board's own name.

No random numbers: ten thousand boards that start at once after a power cut need different waits, not surprising ones.
"""

import hashlib
import time
from typing import Callable, TypeVar

from edgeopt_runner.agent import NETWORK
from edgeopt_runner.refusals import Refusal

T = TypeVar("T")

ATTEMPTS = 10
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0


def spread(name: str, number: int) -> float:
    """A number in [0, 1) for a name and a count, always the same."""
    digest = hashlib.sha256(("%s\n%d" % (name, number)).encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


class Patience:
    """Tries again where that may help.

    Args:
        name: The board's identifier, which spreads the waits.
        attempts: Tries in all.
        first_seconds: Wait before the second; doubles up to `LONGEST_SECONDS`, each between half and one and a half.
        sleep: Waits.
    """

    def __init__(
        self,
        name: str,
        attempts: int = ATTEMPTS,
        first_seconds: float = FIRST_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name, self._attempts, self._first_seconds, self._sleep = name, attempts, first_seconds, sleep

    def wait_seconds(self, attempt: int) -> float:
        """The wait after failure number `attempt`, from 1."""
        return min(self._first_seconds * 2.0 ** (attempt - 1), LONGEST_SECONDS) * (0.5 + spread(self._name, attempt))

    def persist(self, call: Callable[[], T]) -> T:
        """Call until it succeeds, fails for good, or the tries are used up; only ``network`` is tried again.

        Raises:
            Refusal: The last one.
        """
        attempt = 1
        while True:
            try:
                return call()
            except Refusal as refusal:
                if refusal.code != NETWORK or attempt >= self._attempts:
                    raise
            self._sleep(self.wait_seconds(attempt))
            attempt += 1
