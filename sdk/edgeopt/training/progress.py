"""Tells whoever waits how far a training is, at most twice a second."""

from __future__ import annotations

import time

from edgeopt.child import report_progress

_PERIOD_SECONDS = 0.5


class Progress:
    """One training's progress.

    Args:
        epochs: Of the training.
        max_seconds: After which it ends anyway.
    """

    def __init__(self, epochs: int, max_seconds: float) -> None:
        self._epochs, self._max_seconds = epochs, max_seconds
        self._begin = time.monotonic()
        self._begin_share = -1.0
        self._last = -_PERIOD_SECONDS

    def report(self, epoch: int, share: float, loss: float, elapsed: float) -> None:
        """Say where the training is.

        Args:
            epoch: The one that runs, from 0.
            share: Of the whole training, 0 to 1.
            loss: The last one.
            elapsed: Seconds of training, those before an interruption included.
        """
        now = time.monotonic()
        if self._begin_share < 0:
            self._begin, self._begin_share = now, share
        if now - self._last < _PERIOD_SECONDS:
            return
        self._last = now
        done = share - self._begin_share
        left = (now - self._begin) / done * (1.0 - share) if done > 0 else self._max_seconds
        text = f"epoch {epoch + 1} of {self._epochs}, loss {loss:.3g}"
        if done > 0:
            text += f", {_words(min(left, max(self._max_seconds - elapsed, 0.0)))} left"
        report_progress(text, share)


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
