"""One kind of board in a run for several: its variants, its rounds, its decision, its winner on each board."""

from __future__ import annotations

import dataclasses
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from edgeopt.core.deployment import Deployment
from edgeopt.core.kinds import BoardPart
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Selection
from edgeopt.core.space import Trial
from edgeopt.core.variant import Rejection, Variant
from edgeopt.errors import DeviceError
from edgeopt.remote.client import connect
from edgeopt.selection.common import withheld
from edgeopt.selection.select import select
from edgeopt.store.studies import StudyStore
from edgeopt.workflow.activating import activate
from edgeopt.workflow.benching import require_readers
from edgeopt.workflow.deploying import keep_best, write_best
from edgeopt.workflow.joining import search_together
from edgeopt.workflow.kinds.crew import Crew, Member
from edgeopt.workflow.kinds.measuring import Heats
from edgeopt.workflow.kinds.shared import Shared
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.optimizing import make_variants, maker_for
from edgeopt.workflow.preparing import Prepared
from edgeopt.workflow.request import Request, app_name
from edgeopt.workflow.trying import Clock, Field
from edgeopt.workflow.tuning import readers
from edgeopt.workflow.workspace import Workspace

BOARD_PATIENCE_SECONDS = 120.0
"""How long a board may be away in the middle of a job: others of its kind, or the same command later, take over."""

_LEAST_ROUNDS = 3
"""Of finals on each board, so that each can be compared with the others."""


@dataclass
class Kind:
    """Boards of one profile.

    Attributes:
        request, workspace, prepared, said: What the run works with.
        profile, crew, settings: The boards, and what each of them can run a network with.
        record: Of this kind's run; saved whenever something is done. What an earlier call left in it, such as a
            decision or a release, stays until there is another.
        failed: Why its last board dropped out; ``None`` while one works.
        waits: Whether its winner waits for kinds that could not be measured.
    """

    request: Request
    workspace: Workspace
    prepared: Prepared
    said: Shared
    profile: Profile
    crew: Crew
    settings: tuple[Settings, ...]
    record: RunRecord
    failed: DeviceError | None = None
    waits: bool = False

    def save(self, **changes: Any) -> None:
        """Keep the record with its changes in the ledger."""
        self.record = dataclasses.replace(self.record, **changes)
        self.workspace.ledger.save_run(self.record)

    def make(self) -> None:
        """Make the variants; what another kind has made already is the ledger's."""
        first = self.crew.members[0]
        request = dataclasses.replace(self.request, target=first.device.name)
        inventory = self.workspace.inventory.knowing(first.device)
        workspace = dataclasses.replace(self.workspace, inventory=inventory)
        made = make_variants(request, self.prepared, first.facts, self.profile, workspace, self.said)
        self.save(variants=made.variants, rejections=made.rejections, layers=made.layers)

    @property
    def heats(self) -> Heats:
        """Its rounds; those of the finals are shared by the boards, unless the user says how many each has."""
        rounds = self.request.launches or max(_LEAST_ROUNDS, -(-self.request.rounds // len(self.crew.members)))
        return Heats(self.crew, self.record.variants, self.settings, self.request.effort, rounds)

    def open(self, stack: ExitStack) -> None:
        """Connect to the boards and lease them for as long as the stack lives.

        Raises:
            DeviceError: None of them answers.
        """
        placing = threading.Lock()

        def connected(member: Member) -> None:
            connection = connect(member.device)
            connection.patience_seconds = BOARD_PATIENCE_SECONDS
            lease = connection.lease(f"run {self.record.run_id}")
            with placing:
                stack.enter_context(connection)
            lease.__enter__()
            with placing:
                stack.push(lease)
            member.connected(
                Bench(
                    workspace=self.workspace,
                    connection=connection,
                    facts=member.facts,
                    profile=self.profile,
                    prepared=self.prepared,
                    budget=self.request.budget,
                    run_id=self.record.run_id,
                    fresh=self.request.fresh,
                    listener=self.said.named(member.device.name),
                    first_launch=_first_launch(member.device.name),
                )
            )

        self.crew.everywhere(connected)

    def search(self, now: Clock) -> None:
        """Search on all boards at once, in one study, where the user wants it.

        Raises:
            DeviceError: The last board has dropped out.
        """
        wanted, saving = self.request.search, threading.Lock()
        if wanted is None:
            return

        def keep(trials: tuple[Trial, ...]) -> None:
            with saving:
                if len(trials) >= len(self.record.trials):
                    self.save(trials=trials)

        def hold(trial: Trial, variant: Variant) -> None:
            told = {"objectives": trial.objectives, "meets_budget": trial.excess == 0, "reason": trial.reason}
            with saving:
                write_best(self.workspace, self.record.run_id, variant, told)

        def searched(member: Member) -> Sequence[Variant | Rejection]:
            maker = maker_for(
                self.request,
                self.prepared,
                self.crew.members[0].facts,
                self.workspace,
                training=True,
                listener=member.bench.listener,
            )
            field = Field(maker, self.profile, self.settings, lambda: _as_it_is(member), keep, hold, self.said)
            with StudyStore(self.workspace.ledger.url) as store:
                mark = self.record.run_id if self.request.fresh else ""
                return search_together(field, wanted, store, now=now, mark=mark)[1]

        found = {one.name: one for outcomes in self.crew.everywhere(searched).values() for one in outcomes}
        made = tuple(one for one in found.values() if isinstance(one, Variant))
        refused = tuple(one for one in found.values() if isinstance(one, Rejection))
        self.save(variants=(*self.record.variants, *made), rejections=(*self.record.rejections, *refused))

    def quick(self) -> None:
        """Measure every variant on one of the boards.

        Raises:
            DeviceError: The last board has dropped out, or no runtime of the kind reads any variant.
        """
        first = self.crew.working[0]
        suited = [one for variant in self.record.variants for one in readers(first.bench, self.settings, variant)]
        require_readers(suited, self.record.variants[0], first.facts, first.device)
        self.heats.quick()

    def decide(self) -> None:
        """Choose from all that the boards have measured."""
        heats = self.heats
        candidates, budget = heats.known.candidates(), self.request.budget
        selection = select(candidates, budget, noise=heats.noise(), seed=self.request.seed)
        parts = heats.parts()
        notes = [f"{one.device.name} disagrees with its kind: {one.disagrees}." for one in parts if one.disagrees]
        self.conclude(selection, boards=self._with_earlier(parts), notes=(*self.record.notes, *notes))

    def _with_earlier(self, parts: Sequence[BoardPart]) -> tuple[BoardPart, ...]:
        """What boards did in this call, with what is active there, and what earlier calls had of boards now away."""
        earlier = {part.device.name: part for part in self.record.boards}
        active = [
            dataclasses.replace(part, deployment=earlier[part.device.name].deployment)
            if part.device.name in earlier
            else part
            for part in parts
        ]
        return (*active, *(part for name, part in earlier.items() if name in self.record.unreached))

    @property
    def decision(self) -> Selection:
        """What it chose."""
        assert self.record.selection is not None, "the kind has not chosen"
        return self.record.selection

    def wait(self, missing: str, before: RunRecord | None) -> None:
        """Go without a winner as long as none can be chosen for all kinds; one that was chosen for all stands.

        Args:
            missing: Who could not be measured.
            before: What an earlier call left.
        """
        if before and before.selection and before.common and _winner_file(before.selection) == before.common.digest:
            self.conclude(before.selection)
            return
        self.waits = True
        self.conclude(withheld(self.decision, f"the one for all kinds waits for {missing}"), common=None)

    def conclude(self, selection: Selection, **changes: Any) -> None:
        """Keep a decision and the file that it names."""
        keep_best(self.record, selection, self.workspace)
        self.save(selection=selection, **changes)

    def activate(self) -> None:
        """Make the winner active on every board, where there is one and the user wants it.

        What earlier calls of the same run have made active is left as it is.
        """
        selection = self.record.selection
        if selection is None or selection.winner is None or not self.request.activate:
            return
        winner, app = selection.assessment(selection.winner), self.request.app or app_name(self.record.model.name)
        before = {part.device.name: part.deployment for part in self.record.boards}

        def activated(member: Member) -> Deployment:
            known, candidate = before.get(member.device.name), winner.candidate
            wanted = (candidate.variant.artifact.digest, candidate.settings)
            if known and known.healthy and (known.variant_digest, known.settings) == wanted:
                return known
            deployment = activate(member.bench, winner, app)
            self.workspace.ledger.remember_deployment(self.record.run_id, deployment)
            member.bench.listener.advance(f"{app}, release {deployment.release}")
            return deployment

        found = self.crew.everywhere(activated)
        parts = [
            dataclasses.replace(part, deployment=found.get(part.device.name, part.deployment))
            for part in self.record.boards
        ]
        self.save(boards=tuple(parts), deployment=next(iter(found.values()), None))

    def close(self, now: Clock) -> None:
        """Note who dropped out, and how it ended; a kind that has not chosen stays unfinished."""
        lost = {one.device.name: error.message for one in self.crew.members if (error := one.lost or self.failed)}
        parts = {one.device.name: BoardPart(one.device, one.facts.fingerprint) for one in self.crew.members}
        parts |= {part.device.name: part for part in self.record.boards}
        away = {**self.record.unreached, **lost}
        told = tuple(dataclasses.replace(part, lost=away.get(name, "")) for name, part in parts.items())
        notes = [
            *(f"{name} could not be used: {reason}" for name, reason in self.record.unreached.items()),
            *(f"{name} dropped out: {reason} The same command goes on with it." for name, reason in lost.items()),
        ]
        state = "running"
        if self.record.selection is not None and self.failed is None and not self.waits:
            state = "done" if self.record.selection.winner else "infeasible"
        ended = now() if state != "running" else 0.0
        self.save(state=state, boards=told, notes=(*self.record.notes, *notes), finished_at=ended)


def guarded(do: Callable[[Kind], None]) -> Callable[[Kind], None]:
    """The same for a kind that may have lost its last board, or does so now; others are not concerned."""

    def done(kind: Kind) -> None:
        if kind.failed is None:
            try:
                do(kind)
            except DeviceError as error:
                kind.failed = error

    return done


def _winner_file(selection: Selection) -> str:
    return selection.assessment(selection.winner).candidate.variant.artifact.digest if selection.winner else ""


def _first_launch(name: str) -> int:
    """Numbers of launches of a board's own, so that boards that are the same to the ledger are measured each."""
    return (zlib.crc32(name.encode()) % 1_000_000 + 1) * 1000


@contextmanager
def _as_it_is(member: Member) -> Iterator[Bench]:
    yield member.bench
