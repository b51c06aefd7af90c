"""Strategies of architecture search: which point of a space to try next, from what was found so far; no I/O."""

from __future__ import annotations

import difflib

from edgeopt.errors import UsageError
from edgeopt.selection.strategies._base import Strategy
from edgeopt.selection.strategies.bayesian import Bayesian
from edgeopt.selection.strategies.evolutionary import Evolutionary
from edgeopt.selection.strategies.greedy import Greedy
from edgeopt.selection.strategies.random_search import RandomSearch

_KINDS: dict[str, type[Strategy]] = {kind.name: kind for kind in (RandomSearch, Greedy, Evolutionary, Bayesian)}

NAMES = tuple(_KINDS)
"""Of all strategies."""


def strategy(name: str) -> Strategy:
    """The strategy of a name.

    Raises:
        UsageError: There is none; names those there are.
    """
    if name not in _KINDS:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"there is no search strategy {name!r}.", remedy=f"{hint}There are {', '.join(NAMES)}.")
    return _KINDS[name]()
