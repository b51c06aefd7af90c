"""The ledger: every run, variant, measurement and deployment, kept for good and reused on an exact key.

What it cannot decode any more counts as unknown where it only saves work (variants, measurements) and is an error
where it is asked for by name (runs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Table, insert, select, update

from edgeopt.core.deployment import Deployment
from edgeopt.core.measurement import Measurement
from edgeopt.core.run import RunRecord
from edgeopt.core.variant import Rejection, Variant
from edgeopt.core.work import Observation
from edgeopt.documents import decode_json, encode_json
from edgeopt.errors import DocumentError, StoreError
from edgeopt.store import tables
from edgeopt.store.database import Database
from edgeopt.store.finite import finite
from edgeopt.store.owners import has_ended, this_process

T = TypeVar("T")


@dataclass(frozen=True)
class RunSummary:
    """A line of `edgeopt runs`.

    Attributes:
        run_id, command, state, started_at, finished_at: As in `RunRecord`.
        model, device: Their names; empty until the first record is saved.
        winner: Key of the winner, or ``None``.
        owner: The process that ran it last, ``host:pid``.
    """

    run_id: str
    command: str
    state: str
    started_at: float
    finished_at: float
    model: str
    device: str
    winner: str | None
    owner: str = ""

    @property
    def cut_off(self) -> bool:
        """Whether it did not come to its end, and the process that ran it is known to be gone."""
        return self.state == "running" and has_ended(self.owner)


_LISTED = [tables.runs.c[field.name] for field in fields(RunSummary)]


class Ledger:
    """Remembers. Every method that writes is one transaction, on disk when it returns.

    Args:
        url: A SQLite file (a `Path`, or ``sqlite:////path``) or ``postgresql://user@host/name``; made on first use.

    Attributes:
        url: As given; the rollouts of a fleet are in the same database.

    Raises:
        UsageError: The URL is neither.
        StoreError: It cannot be opened, or was written by a newer edgeopt. Every method raises it where the database
            fails, and where a number is NaN or infinite.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = url
        self._database = Database(url)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def start_run(self, run_id: str, command_key: str, command: str, *, started_at: float) -> None:
        """Note that this process begins (or goes on with) a run.

        Args:
            run_id: Short unique name.
            command_key: Key of everything that was asked (`keys.exact_key`); the same command has the same key.
            command: The command line, for display.
            started_at: Seconds since the epoch.
        """
        values = {"command_key": command_key, "command": command, "owner": this_process(), "state": "running"}
        with self._database.writing() as connection:
            _put(connection, tables.runs, {"run_id": run_id}, {**values, "started_at": started_at, "finished_at": 0.0})

    def save_run(self, record: RunRecord) -> None:
        """Replace what is known about a run, as often as something of it is done.

        Raises:
            StoreError: The run was never started.
        """
        values = {
            "state": record.state,
            "finished_at": record.finished_at,
            "model": record.model.name,
            "device": record.device.name,
            "winner": record.selection.winner if record.selection else None,
            "record": _text(record),
        }
        with self._database.writing() as connection:
            statement = update(tables.runs).where(tables.runs.c.run_id == record.run_id).values(**values)
            if connection.execute(statement).rowcount == 0:
                raise StoreError(f"run {record.run_id!r} was never started in this ledger.")

    def end_run(self, run_id: str, state: str, *, finished_at: float) -> None:
        """Note how a run for several boards ended, which has no record of its own."""
        statement = update(tables.runs).where(tables.runs.c.run_id == run_id)
        with self._database.writing() as connection:
            connection.execute(statement.values(state=state, finished_at=finished_at))

    def group(self, name: str) -> tuple[RunRecord, ...]:
        """The records of a run for several boards, one a kind; none where it is no such run.

        Raises:
            StoreError: A record cannot be decoded.
        """
        return tuple(self.run(one.run_id) for one in self.kinds(name))

    def kinds(self, name: str) -> tuple[RunSummary, ...]:
        """What `runs` says of the kinds of a run for several boards, as far as they have begun, by their profiles."""
        of_it = tables.runs.c.run_id.startswith(f"{name}.", autoescape=True) & tables.runs.c.record.is_not(None)
        with self._database.reading() as connection:
            rows = connection.execute(select(*_LISTED).where(of_it)).all()
        return tuple(sorted(map(_summary, rows), key=lambda one: one.run_id))

    def run(self, run_id: str) -> RunRecord:
        """The record of a run.

        Raises:
            StoreError: There is no such run, it ended before anything was known, or its record cannot be decoded.
        """
        query = select(tables.runs.c.record).where(tables.runs.c.run_id == run_id)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        if row is None or row.record is None:
            what = "is not in the ledger" if row is None else "ended before anything was known"
            raise StoreError(f"run {run_id!r} {what}.", remedy="See `edgeopt runs` for those that are.")
        try:
            return decode_json(RunRecord, row.record, where=f"run {run_id}")
        except DocumentError as error:
            raise StoreError(str(error), remedy="It was kept by another version of edgeopt.") from None

    def summary(self, run_id: str) -> RunSummary:
        """What `runs` says of one run.

        Raises:
            StoreError: There is no such run.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(*_LISTED).where(tables.runs.c.run_id == run_id)).first()
        if row is None:
            raise StoreError(f"run {run_id!r} is not in the ledger.", remedy="See `edgeopt runs` for those that are.")
        return _summary(row)

    def runs(self, limit: int = 20) -> tuple[RunSummary, ...]:
        """The newest runs first."""
        query = select(*_LISTED).order_by(tables.runs.c.started_at.desc(), tables.runs.c.run_id).limit(limit)
        with self._database.reading() as connection:
            return tuple(_summary(row) for row in connection.execute(query))

    def find_resumable(self, command_key: str) -> RunSummary | None:
        """Take over the newest unfinished run of this command, or ``None``.

        Unfinished means that the process that ran it is gone. One that lives, or that lives on another host where we
        cannot look, keeps its run; the new run then still reuses all that is known.
        """
        runs = tables.runs
        query = select(*_LISTED).where(runs.c.command_key == command_key, runs.c.state == "running")
        with self._database.writing() as connection:
            for row in connection.execute(query.order_by(runs.c.started_at.desc(), runs.c.run_id)).all():
                taken = update(runs).where(runs.c.run_id == row.run_id, runs.c.owner == row.owner)
                if _gone(row.owner) and connection.execute(taken.values(owner=this_process())).rowcount:
                    return _summary(row)
        return None

    def variant(self, key: str) -> Variant | Rejection | None:
        """What making the variant with this key (`keys.variant_key`) gave, or ``None`` when it is not known."""
        query = select(tables.variants).where(tables.variants.c.key == key)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return _known(Variant, row.document) if row.kind == "variant" else _known(Rejection, row.document)

    def remember_variant(self, key: str, outcome: Variant | Rejection) -> None:
        """Keep a variant, or why there is none."""
        kind = "variant" if isinstance(outcome, Variant) else "rejection"
        with self._database.writing() as connection:
            _put(connection, tables.variants, {"key": key}, {"kind": kind, "document": _text(outcome)})

    def measurements(self, key: str) -> dict[int, Measurement]:
        """Every launch under this key (`keys.measurement_key`), by its number, in order."""
        table = tables.measurements
        query = select(table.c.launch, table.c.document).where(table.c.key == key).order_by(table.c.launch)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        known = {row.launch: _known(Measurement, row.document) for row in rows}
        return {launch: measurement for launch, measurement in known.items() if measurement is not None}

    def remember_measurement(self, key: str, launch: int, measurement: Measurement) -> None:
        """Keep launch number `launch`, replacing an earlier one of the same number."""
        values = {"variant_digest": measurement.variant_digest, "document": _text(measurement)}
        with self._database.writing() as connection:
            _put(connection, tables.measurements, {"key": key, "launch": launch}, values)

    def observations(self, limit: int = 2000) -> tuple[Observation, ...]:
        """What was seen of tasks on boards; of more than `limit` the same share of each network and board.

        Keys are digests, so that their order is as good as drawn by lot.
        """
        table = tables.observations
        with self._database.reading() as connection:
            rows = connection.execute(select(table.c.document).order_by(table.c.key).limit(limit)).scalars().all()
        known = [_known(Observation, document) for document in rows]
        return tuple(observation for observation in known if observation is not None)

    def remember_observation(self, key: str, observation: Observation) -> None:
        """Keep what the measurement with this key (`keys.measurement_key`) says, replacing what it said before."""
        with self._database.writing() as connection:
            _put(connection, tables.observations, {"key": key}, {"document": _text(observation)})

    def device_noise(self, fingerprint: str) -> float | None:
        """Relative A/A noise of a device, or ``None`` when it was never measured."""
        query = select(tables.devices.c.noise).where(tables.devices.c.fingerprint == fingerprint)
        with self._database.reading() as connection:
            noise: float | None = connection.execute(query).scalar()
        return noise

    def remember_device_noise(self, fingerprint: str, noise: float) -> None:
        """Keep the noise of a device, replacing what was known."""
        _check(noise)
        with self._database.writing() as connection:
            _put(connection, tables.devices, {"fingerprint": fingerprint}, {"noise": noise})

    def deployments(self, device: str) -> tuple[Deployment, ...]:
        """What was put on the device of that name, newest first."""
        table = tables.deployments
        query = select(table.c.document).where(table.c.device == device).order_by(table.c.number.desc())
        with self._database.reading() as connection:
            known = [_known(Deployment, row.document) for row in connection.execute(query)]
        return tuple(deployment for deployment in known if deployment is not None)

    def remember_deployment(self, run_id: str, deployment: Deployment) -> None:
        """Keep what a run put on a device.

        Raises:
            StoreError: The run was never started.
        """
        values = {"run_id": run_id, "device": deployment.device, "document": _text(deployment)}
        with self._database.writing() as connection:
            connection.execute(insert(tables.deployments).values(**values))

    def referenced_digests(self) -> frozenset[str]:
        """Digests of all variants' files and source models, which the artifact store has to keep."""
        with self._database.reading() as connection:
            rows = connection.execute(select(tables.variants.c.document).where(tables.variants.c.kind == "variant"))
            variants = [_known(Variant, row.document) for row in rows]
        digests = [(variant.artifact.digest, variant.provenance.model_digest) for variant in variants if variant]
        return frozenset(digest for pair in digests for digest in pair)


def _text(noun: object) -> str:
    _check(noun)
    return encode_json(noun)


def _check(noun: object) -> None:
    """JSON has no NaN, and a NaN that became null would not come back."""
    if not finite(noun):
        raise StoreError(
            f"a {type(noun).__name__} holds a number that is NaN or infinite, which the ledger does not keep.",
            remedy="Say `None` for what is not known.",
        )


def _known(kind: type[T], document: str) -> T | None:
    try:
        return decode_json(kind, document, where="the ledger")
    except DocumentError:
        return None


def _put(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Insert or replace a row. Both databases know the statement, each by its own name in SQLAlchemy."""
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


def _summary(row: Row[Any]) -> RunSummary:
    return RunSummary(**row._mapping)


def _gone(owner: str) -> bool:
    """Whether the process is known to have ended; our own earlier run counts as ended."""
    return owner == this_process() or has_ended(owner)
