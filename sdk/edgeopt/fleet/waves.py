"""Waves: which boards are changed first, spread over profiles and sites, and the same ones every time.

A wave is what its words take off the front of an order in which every beginning has all profiles, and within each of
them all sites, in their shares: strata sampled systematically (W. G. Cochran, Sampling Techniques, 1977, §5, §8).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Sequence

from edgeopt.core.fleet import Board
from edgeopt.core.rollout import Plan
from edgeopt.errors import UsageError
from edgeopt.fleet.selectors import select_boards

DEFAULT_WAVES = ("1", "1-per-profile", "5%", "25%", "100%")

_COUNT = re.compile(r"[1-9]\d*")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_PER = re.compile(r"([1-9]\d*)-per-(profile|site)")
_REMEDY = "Write counts, shares, 1-per-profile, 1-per-site or a label, with commas between: 1,10%,100%."


def parse_waves(text: str) -> tuple[str, ...]:
    """The words of `1,10%,100%`.

    Raises:
        UsageError: There are none, a share is not in (0, 100], or shares do not rise.
    """
    words = tuple(word.strip() for word in text.split(","))
    shares = [_share(word) for word in words if word.endswith("%")]
    if not all(words):
        raise UsageError(f"{text!r} does not name waves.", remedy=_REMEDY)
    if wrong := [word for word in words if word.endswith("%") and not 0 < _share(word) <= 100]:
        raise UsageError(f"{text!r}: {wrong[0]!r} is no share above 0% and up to 100%.", remedy=_REMEDY)
    if sorted(set(shares)) != shares:
        raise UsageError(f"{text!r}: shares are of all boards, so they rise.", remedy="For example 1,10%,100%.")
    for word in words:
        if word[0] in "0-+" and not word.endswith("%"):
            raise UsageError(f"{text!r}: {word!r} is no wave.", remedy=_REMEDY)
    return words


def _share(word: str) -> float:
    found = _SHARE.fullmatch(word)
    return float(found[1]) if found else -1.0


def assign_waves(boards: Sequence[Board], words: Sequence[str], release: str) -> tuple[tuple[Board, ...], ...]:
    """The boards of each wave, in the order in which they are begun.

    Args:
        boards: Those that take part.
        words: A count (so many more), ``10%`` (until that share of all is in), ``2-per-profile`` or ``1-per-site`` (so
            many more of each), or a label, site or term that names boards (all of them that are left).
        release: Seeds the choice: the same release takes the same boards, another one others.

    Returns:
        No board twice, no empty wave: a word that adds nobody is left out. Boards that no word took are in none.

    Raises:
        UsageError: A word names no board.
    """
    waves: list[tuple[Board, ...]] = []
    left, covered, total = list(boards), set[str](), len(boards)
    for word in words:
        order = _spread(left, covered, release)
        wave = order[: max(0, _size(word, total, total - len(left)))] if _counts(word) else _named(word, order, boards)
        if wave:
            waves.append(tuple(wave))
            covered |= {board.profile for board in wave}
            taken = {board.name for board in wave}
            left = [board for board in left if board.name not in taken]
    return tuple(waves)


def _counts(word: str) -> bool:
    return bool(_COUNT.fullmatch(word) or _SHARE.fullmatch(word))


def _size(word: str, total: int, taken: int) -> int:
    if _COUNT.fullmatch(word):
        return int(word)
    return math.ceil(_share(word) * total / 100 - 1e-9) - taken


def _named(word: str, order: Sequence[Board], boards: Sequence[Board]) -> list[Board]:
    """The boards of ``2-per-profile`` or of a name."""
    per = _PER.fullmatch(word)
    if per:
        seen: dict[str, int] = {}
        chosen = []
        for board in order:
            stratum = board.profile if per[2] == "profile" else board.site
            seen[stratum] = seen.get(stratum, 0) + 1
            if seen[stratum] <= int(per[1]):
                chosen.append(board)
        return chosen
    names = {board.name for board in _bearing(word, boards)}
    return [board for board in order if board.name in names]


def _bearing(word: str, boards: Sequence[Board]) -> tuple[Board, ...]:
    """Boards that a label's name or value, a site or a term names."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", word):
        return select_boards(boards, word)
    found = tuple(
        board for board in boards if word in (board.site, *board.device.labels, *board.device.labels.values())
    )
    if not found:
        raise UsageError(f"the wave {word!r} is of no board: it is no label and no site of theirs.", remedy=_REMEDY)
    return found


def _spread(boards: Sequence[Board], covered: Collection[str], release: str) -> list[Board]:
    """All boards in an order of which every beginning is a fair sample; profiles not in `covered` come first."""
    profiles: dict[str, dict[str, list[Board]]] = {}
    for board in sorted(boards, key=lambda board: _hash(release, board.name)):
        profiles.setdefault(board.profile, {}).setdefault(board.site, []).append(board)
    orders = {profile: _interleave(sites, (), f"{release}/{profile}") for profile, sites in profiles.items()}
    return _interleave(orders, covered, release)


def _interleave(strata: dict[str, list[Board]], covered: Collection[str], seed: str) -> list[Board]:
    """One list of several: first the first of each that is not covered, then all in their shares."""
    ranked = []
    for name, members in strata.items():
        tie = _hash(seed, name)
        for index, board in enumerate(members):
            first = index == 0 and name not in covered
            ranked.append(((not first, (index + 0.5) / len(members), tie, index), board))
    return [board for _, board in sorted(ranked, key=lambda entry: entry[0])]


def _hash(seed: str, name: str) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()


def waves_of(plan: Plan) -> dict[int, tuple[str, ...]]:
    """Names of the boards of each wave of a plan, by its number."""
    waves: dict[int, list[str]] = {}
    for board in plan.boards:
        if board.wave:
            waves.setdefault(board.wave, []).append(board.board)
    return {number: tuple(names) for number, names in waves.items()}
