"""Measures the variants for one kind of board: dealt out over its boards, the finalists on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.core.kinds import BoardPart
from edgeopt.core.plan import FINALS, FULL, QUICK, STANDARD, Plan
from edgeopt.core.profile import Settings
from edgeopt.core.selection import Candidate
from edgeopt.core.variant import Variant
from edgeopt.selection import schedule
from edgeopt.selection.agreement import Agreement, agreements
from edgeopt.workflow import tuning
from edgeopt.workflow.kinds.crew import Crew, Member
from edgeopt.workflow.tuning import Board, line, quick_round, readers
from edgeopt_targets import registry


@dataclass(frozen=True)
class Heats:
    """The rounds of one kind.

    Attributes:
        crew: Its boards.
        variants: What is measured, the original first.
        settings: What each is tried with; every board of the kind has them.
        effort: Name of the plan of the finals.
        launches: Of each finalist on each board.
    """

    crew: Crew
    variants: Sequence[Variant]
    settings: Sequence[Settings]
    effort: str
    launches: int

    @property
    def known(self) -> Board:
        """What all boards have measured so far; of finals, what is whole."""
        return merged([member.board for member in self.crew.members], [one.board for one in self.crew.working])

    def quick(self) -> None:
        """One launch of each variant with its settings on one of the boards.

        Raises:
            DeviceError: The last board has dropped out.
        """
        first = self.crew.working[0].bench
        suited = {one.name: readers(first, self.settings, one) for one in self.variants}
        reference = None if suited[self.variants[0].name] else tuning.reference(first, self.variants[0])
        for member in self.crew.members:
            member.board.reference = reference
        self.crew.deal(self.variants, lambda one, variant: _quick(one, variant, suited[variant.name]))
        if self.effort != QUICK.name:
            self.crew.deal(self._variations(), _once)
        if self.effort == FULL.name:
            limit = schedule.survivors(len(self.known.variants))
            self.crew.deal([self._pair(key) for key in self.finalists(limit)], _longer)

    def _variations(self) -> list[tuple[Variant, Settings]]:
        """Settings that seldom matter, for those that lead."""
        known, profile = self.known, self.crew.working[0].bench.profile
        target = registry.target(profile.target)
        pairs = [
            (known.variants[key], settings)
            for key in self.finalists(tuning.LEADERS)
            for settings in target.variations(profile, known.settings[key])
        ]
        return [pair for pair in pairs if Candidate(*pair, ()).key not in known.variants]

    def finalists(self, limit: int = 3) -> tuple[str, ...]:
        """Keys of those that may still win."""
        budget = self.crew.members[0].bench.budget
        return schedule.finalists(self.known.candidates(), budget, noise=tuning.FINALIST_NOISE, limit=limit)

    def _pair(self, key: str) -> tuple[Variant, Settings]:
        known = self.known
        return known.variants[key], known.settings[key]

    def finals(self, keys: Sequence[str]) -> None:
        """Interleaved launches of the finalists on every board, which is compared with the others afterwards.

        Where there are several boards nothing is thrown out on the way: when one of them drops a candidate earlier than
        the others, their rounds are no longer of the same.

        Raises:
            DeviceError: The last board has dropped out.
        """
        pairs = {key: self._pair(key) for key in keys}
        plan, rounds = FINALS[self.effort], _race if len(self.crew.working) == 1 else _rounds
        self.crew.everywhere(lambda member: rounds(member, pairs, plan, self.launches))

    def noise(self) -> float:
        """The largest noise of a board."""
        return max(tuning.learned_noise(member.bench, member.board) for member in self.crew.working)

    def parts(self) -> tuple[BoardPart, ...]:
        """What each board did, and whether it agrees with the others."""
        finals = {one.device.name: _finalists_of(one.board) for one in self.crew.working if one.board.finals}
        found = agreements(finals, self.crew.members[0].bench.budget) if len(finals) > 1 else {}
        return tuple(part_of(member, found.get(member.device.name, Agreement())) for member in self.crew.members)


def part_of(member: Member, agreement: Agreement) -> BoardPart:
    """What one board did."""
    launches = [*member.board.quick.values(), *member.board.finals.values()]
    return BoardPart(
        device=member.device,
        fingerprint=member.facts.fingerprint if member.facts else "",
        launches=sum(map(len, launches)),
        lost=member.lost.message if member.lost else "",
        ratio=agreement.ratio,
        disagrees=agreement.disagrees,
    )


def merged(boards: Sequence[Board], whole: Sequence[Board]) -> Board:
    """The launches of several boards as those of one.

    Args:
        boards: All of them.
        whole: Those whose finals count.
    """
    found = Board(boards[0].reference)
    for board in boards:
        for key, launches in board.quick.items():
            for launch in launches:
                found.add(board.variants[key], board.settings[key], launch, final=False)
    for board in whole:
        for key, launches in board.finals.items():
            for launch in launches:
                found.add(board.variants[key], board.settings[key], launch, final=True)
    return found


def _finalists_of(board: Board) -> list[Candidate]:
    return [board.finalist(key) for key in board.finals]


def _quick(member: Member, variant: Variant, suited: Sequence[Settings]) -> None:
    quick_round(member.bench, member.board, variant, suited)


def _once(member: Member, pair: tuple[Variant, Settings]) -> None:
    member.board.add(*pair, member.bench.measure(*pair, QUICK), final=False)


def _longer(member: Member, pair: tuple[Variant, Settings]) -> None:
    measurement = member.bench.measure(*pair, STANDARD.without_evaluation())
    member.bench.listener.advance(line(member.board.add(*pair, measurement, final=False), measurement))


def _rounds(member: Member, pairs: dict[str, tuple[Variant, Settings]], plan: Plan, launches: int) -> None:
    bench = member.bench
    for place in range(launches):
        chosen = plan if place == 0 else plan.without_evaluation()
        for key in schedule.turn(tuple(pairs), place):
            measurement = bench.measure(*pairs[key], chosen, bench.first_launch + place)
            member.board.add(*pairs[key], measurement, final=True)
            bench.listener.advance(line(key, measurement))


def _race(member: Member, pairs: dict[str, tuple[Variant, Settings]], plan: Plan, launches: int) -> None:
    first = member.bench.first_launch
    for key, (variant, settings) in pairs.items():
        member.board.variants[key], member.board.settings[key] = variant, settings
    tuning.race(member.bench, member.board, tuple(pairs), plan, range(first, first + launches))
