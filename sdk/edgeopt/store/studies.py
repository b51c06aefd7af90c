"""Studies in the ledger's database: trials are claimed, kept alive by heartbeats, and finished; any host may join.

Not Optuna's own storage in the same database: it keeps every parameter and every value of a trial in a row of its own,
so that opening a study of 10 000 trials takes seven seconds of CPU where one may be taken; every strategy would need
Optuna; and its heartbeats live inside `optimize`, which cannot be used where trials take turns with boards. Optuna's
samplers are told the trials that are kept here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType

from sqlalchemy import ColumnElement, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from edgeopt.core.space import Point, Trial
from edgeopt.core.study import Claim, Subject
from edgeopt.documents import decode_json, encode_json
from edgeopt.errors import DocumentError, StoreError, UsageError
from edgeopt.store import tables
from edgeopt.store.database import Database
from edgeopt.store.finite import finite
from edgeopt.store.keys import exact_key

_STUDIES, _TRIALS = tables.studies, tables.study_trials


class StudyStore:
    """Every method that writes is one transaction, on disk when it returns.

    Args:
        url: Of the ledger's database.

    Raises:
        UsageError: The URL is none.
        StoreError: It cannot be opened. Every method raises it where the database fails.
    """

    def __init__(self, url: str | Path) -> None:
        self._database = Database(url)

    def __enter__(self) -> StudyStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def open(self, subject: Subject, name: str = "", *, now: float) -> str:
        """Begin a study, or join it.

        Args:
            subject: What it is about.
            name: What hosts call it to each other; without one, equal subjects are one study. Each profile has a
                study of that name, and so has each mark.
            now: Seconds since the epoch.

        Returns:
            Its key.

        Raises:
            UsageError: The study of that name is about something else, for example a network that has changed since.
        """
        key = exact_key("study", [name, subject.board.get("profile", ""), subject.mark] if name else subject)
        row = {"key": key, "name": name, "source": _source(subject), "created_at": now}
        with self._database.writing() as connection:
            known = connection.execute(select(_STUDIES.c.document).where(_STUDIES.c.key == key)).scalar()
            if known is None:
                connection.execute(insert(_STUDIES).values(**row, document=encode_json(subject)))
                return key
        other = decode_json(Subject, known, where=f"study {name or key}")
        if differing := subject.differs(other):
            raise UsageError(
                f"study {name!r} is about something else: {' and '.join(differing)} changed since it began "
                f"({other.model} {other.model_digest[:12]}, now {subject.model} {subject.model_digest[:12]}).",
                remedy="Put back what it began with, or begin another study: --study with a new name.",
            )
        return key

    def outdated(self, subject: Subject) -> int:
        """How many trials there are of studies that differ in the network's file alone: it changed, they are of no use.

        Trials of the study of this very subject do not count, and where it has some, nothing is outdated.
        """
        mine = exact_key("study", subject)
        joined = select(_STUDIES.c.key, func.count(_TRIALS.c.number)).join(_TRIALS, _TRIALS.c.study == _STUDIES.c.key)
        query = joined.where(_STUDIES.c.source == _source(subject), _STUDIES.c.name == "").group_by(_STUDIES.c.key)
        with self._database.reading() as connection:
            counts: dict[str, int] = {key: count for key, count in connection.execute(query)}
        return 0 if mine in counts else sum(counts.values())

    def kin(self, subject: Subject) -> tuple[tuple[Trial, ...], ...]:
        """Trials of the same search on other kinds of boards, study by study, oldest first."""
        query = select(_STUDIES.c.key, _STUDIES.c.document).order_by(_STUDIES.c.created_at, _STUDIES.c.key)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        found = []
        for row in rows:
            other = _subject(row.document)
            if other and set(subject.differs(other)) == {"the kind of board"}:
                found.append(self.finished(row.key))
        return tuple(trials for trials in found if trials)

    def finished(self, key: str, after: int = 0) -> tuple[Trial, ...]:
        """Trials that came to an end, in the order of their numbers.

        Args:
            key: Of the study.
            after: Only those of higher numbers.

        Raises:
            StoreError: A trial cannot be decoded.
        """
        done = (_TRIALS.c.study == key) & (_TRIALS.c.owner == "") & (_TRIALS.c.number > after)
        with self._database.reading() as connection:
            texts = (
                connection.execute(select(_TRIALS.c.document).where(done).order_by(_TRIALS.c.number)).scalars().all()
            )
        try:
            return decode_json(tuple[Trial, ...], f"[{','.join(texts)}]", where=f"study {key}")
        except DocumentError as error:
            raise StoreError(str(error), remedy="It was kept by another version of edgeopt.") from None

    def claims(self, key: str) -> tuple[Claim, ...]:
        """Trials that somebody works on, or did, in the order of their numbers."""
        open_ones = (_TRIALS.c.study == key) & (_TRIALS.c.owner != "")
        with self._database.reading() as connection:
            rows = connection.execute(select(_TRIALS).where(open_ones).order_by(_TRIALS.c.number)).all()
        return tuple(_claim(row) for row in rows)

    def claim(self, key: str, trial: Trial, owner: str, *, now: float) -> Claim | None:
        """Begin a trial; ``None`` where another host was first with this number or this point.

        Args:
            key: Of the study.
            trial: Its number and point; nothing else of it is kept yet.
            owner: ``host:pid``.
            now: Seconds since the epoch.
        """
        bare = Trial(trial.number, trial.point, excess=0.0)
        row = {"study": key, "number": trial.number, "point": _point_key(trial.point), "owner": owner}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(_TRIALS).values(**row, beat_at=now, attempts=1, document=_text(bare)))
        except StoreError as error:
            if isinstance(error.__context__, IntegrityError):
                return None
            raise
        return Claim(bare, owner, now)

    def take_over(self, key: str, lost: Claim, owner: str, *, now: float) -> Claim | None:
        """Begin a trial once more whose worker is gone; ``None`` where somebody else was first, or it lives.

        Args:
            key: Of the study.
            lost: As it was seen.
            owner: Who begins it.
            now: Seconds since the epoch.
        """
        seen = (_TRIALS.c.owner == lost.owner) & (_TRIALS.c.beat_at == lost.beat_at)
        attempts = lost.attempts + 1
        with self._database.writing() as connection:
            change = update(_TRIALS).where(_is(key, lost.trial.number), seen)
            taken = connection.execute(change.values(owner=owner, beat_at=now, attempts=attempts)).rowcount
        return replace(lost, owner=owner, beat_at=now, attempts=attempts) if taken else None

    def beat(self, key: str, claim: Claim, *, now: float) -> None:
        """Say that a trial is still worked on; 0 gives it back, for anybody to take over."""
        with self._database.writing() as connection:
            mine = _is(key, claim.trial.number) & (_TRIALS.c.owner == claim.owner)
            connection.execute(update(_TRIALS).where(mine).values(beat_at=now))

    def finish(self, key: str, claim: Claim, trial: Trial) -> bool:
        """Keep what a trial gave; whether it was still ours: of two hosts that finish one, the first counts."""
        with self._database.writing() as connection:
            mine = _is(key, trial.number) & (_TRIALS.c.owner == claim.owner)
            return bool(
                connection.execute(update(_TRIALS).where(mine).values(owner="", document=_text(trial))).rowcount
            )


def _is(key: str, number: int) -> ColumnElement[bool]:
    return (_TRIALS.c.study == key) & (_TRIALS.c.number == number)


def _source(subject: Subject) -> str:
    """Equal for subjects that differ in the contents of the network's file alone."""
    return exact_key("source", replace(subject, model_digest=""))


def _point_key(point: Point) -> str:
    return exact_key("point", dict(point))


def _text(trial: Trial) -> str:
    if not finite(trial):
        raise StoreError(
            f"trial {trial.number} holds a number that is NaN or infinite, which the ledger does not keep."
        )
    return encode_json(trial)


def _subject(document: str) -> Subject | None:
    try:
        return decode_json(Subject, document, where="the ledger")
    except DocumentError:
        return None


def _claim(row: Row[tuple[object, ...]]) -> Claim:
    trial = decode_json(Trial, row.document, where=f"trial {row.number}")
    return Claim(trial, row.owner, row.beat_at, row.attempts)
