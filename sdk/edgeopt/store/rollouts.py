"""Rollouts in the ledger's database: the frozen plan, how far every board is, what the gates said, and who drives it.

There is one writer: whoever took the app's lease last. Each taking raises the app's fence; what is written under a
lower fence is refused here as boards refuse it there, so a driver that was taken over can do no harm.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from edgeopt.core.rollout import BoardProgress, GateVerdict, Plan, Rollout
from edgeopt.documents import decode_json, encode_json
from edgeopt.errors import RolloutBusyError, StoreError, UsageError
from edgeopt.store import tables
from edgeopt.store.database import Database
from edgeopt.store.finite import finite
from edgeopt.store.owners import has_ended

LEASE_SECONDS = 60.0
ORDERS = ("pause", "resume", "cancel")
_HEAD = ("state", "wave", "reason", "started_at", "finished_at", "wave_since", "soak_until")
_MANY = 500


@dataclass(frozen=True)
class RolloutSummary:
    """A line of `edgeopt fleet history`.

    Attributes:
        rollout_id, state, wave, reason, started_at, finished_at: As in `Rollout`.
        release: ``app@version``.
        created_at: When it was planned.
        holder: Who drives it; empty where nobody does.
    """

    rollout_id: str
    release: str
    state: str
    wave: int
    reason: str
    created_at: float
    started_at: float
    finished_at: float
    holder: str = ""


@dataclass(frozen=True)
class Lease:
    """Who drives the rollouts of an app.

    Attributes:
        rollout_id: The one at work.
        holder: ``user@host:pid``.
        fence: Rises with every holder.
        since, expires: Seconds since the epoch.
    """

    rollout_id: str
    holder: str
    fence: int
    since: float
    expires: float


class RolloutStore:
    """Every method that writes is one transaction, on disk when it returns.

    Args:
        url: Of the ledger's database.

    Raises:
        UsageError: The URL is none.
        StoreError: It cannot be opened. Every method raises it where the database fails.
    """

    def __init__(self, url: str | Path) -> None:
        self._database = Database(url)

    def __enter__(self) -> RolloutStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def create(self, rollout: Rollout, *, key: str, now: float) -> None:
        """Keep a rollout that nobody has begun.

        Args:
            rollout: As `fleet.rollout.new_rollout` makes it.
            key: Equal for equal commands, so that the same command finds it again (`find_open`).
            now: Seconds since the epoch.
        """
        app = rollout.plan.release.partition("@")[0]
        values = {name: getattr(rollout, name) for name in _HEAD}
        row = {"rollout_id": rollout.rollout_id, "app": app, "release": rollout.plan.release, "key": key}
        kept = {"created_at": now, "order": "", "ordered_by": "", "plan": _text(rollout.plan)}
        with self._database.writing() as connection:
            connection.execute(insert(tables.rollouts).values(**row, **values, **kept))
            rows = [
                {"rollout_id": rollout.rollout_id, "position": position, **_board_row(board)}
                for position, board in enumerate(rollout.boards)
            ]
            for start in range(0, len(rows), _MANY):
                connection.execute(insert(tables.rollout_boards), rows[start : start + _MANY])

    def find_open(self, key: str) -> str | None:
        """The newest rollout of this command that has not ended (halted and paused ones have not), or ``None``."""
        table = tables.rollouts
        query = select(table.c.rollout_id).where(table.c.key == key, table.c.state.not_in(("done", "cancelled")))
        with self._database.reading() as connection:
            found: str | None = connection.execute(query.order_by(table.c.created_at.desc())).scalar()
        return found

    def rollout(self, rollout_id: str) -> Rollout:
        """A rollout as it stands.

        Args:
            rollout_id: Or a beginning of it that fits one only.

        Raises:
            StoreError: There is none, several begin like that, or it cannot be decoded.
        """
        with self._database.reading() as connection:
            row = _row(connection, rollout_id)
            boards, gates = _of(connection, tables.rollout_boards, row), _of(connection, tables.rollout_gates, row)
            lease = _lease(connection, row.app)
        where = f"rollout {row.rollout_id}"
        held = lease is not None and lease.rollout_id == row.rollout_id
        return Rollout(
            row.rollout_id,
            decode_json(Plan, row.plan, where=where),
            holder=_driver(lease) if held else "",
            fence=lease.fence if lease and held else 0,
            boards=tuple(decode_json(BoardProgress, text, where=where) for text in boards),
            gates=tuple(decode_json(GateVerdict, text, where=where) for text in gates),
            **{name: getattr(row, name) for name in _HEAD},
        )

    def rollouts(self, limit: int = 20, *, app: str = "") -> tuple[RolloutSummary, ...]:
        """The newest first."""
        table = tables.rollouts
        query = select(table).order_by(table.c.created_at.desc(), table.c.rollout_id).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(table.c.app == app) if app else query).all()
            leases = {row.rollout_id: row.holder for row in connection.execute(select(tables.rollout_leases))}
        driven = {rollout_id: holder for rollout_id, holder in leases.items() if not _ended(holder)}
        return tuple(_summary(row, driven.get(row.rollout_id, "")) for row in rows)

    def counts(self, rollout_ids: Sequence[str]) -> dict[str, Counter[str]]:
        """Boards by state of each of these rollouts, without reading the boards."""
        boards = tables.rollout_boards
        query = select(boards.c.rollout_id, boards.c.state, func.count()).where(boards.c.rollout_id.in_(rollout_ids))
        found: dict[str, Counter[str]] = {rollout_id: Counter() for rollout_id in rollout_ids}
        with self._database.reading() as connection:
            for rollout_id, state, count in connection.execute(query.group_by(boards.c.rollout_id, boards.c.state)):
                found[rollout_id][state] = count
        return found

    def of_board(self, board: str, limit: int = 20) -> tuple[tuple[RolloutSummary, BoardProgress], ...]:
        """The rollouts that a board took part in, newest first, each with how it went there."""
        boards, table = tables.rollout_boards, tables.rollouts
        joined = select(table, boards.c.document).join(boards, boards.c.rollout_id == table.c.rollout_id)
        query = joined.where(boards.c.board == board).order_by(table.c.created_at.desc()).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return tuple((_summary(row), decode_json(BoardProgress, row.document, where=row.rollout_id)) for row in rows)

    def last_committed(self) -> tuple[str, ...]:
        """The rollouts, by age, that some board committed last of all those of their app."""
        boards, table = tables.rollout_boards, tables.rollouts
        latest = (table.c.created_at.desc(), table.c.rollout_id)
        place = func.row_number().over(partition_by=(table.c.app, boards.c.board), order_by=latest).label("place")
        same = boards.c.rollout_id == table.c.rollout_id
        joined = select(table.c.rollout_id, table.c.created_at, place).join(boards, same)
        ranked = joined.where(boards.c.state == "committed").subquery().c
        query = select(ranked.rollout_id).where(ranked.place == 1).group_by(ranked.rollout_id, ranked.created_at)
        with self._database.reading() as connection:
            return tuple(connection.execute(query.order_by(ranked.created_at, ranked.rollout_id.desc())).scalars())

    def take(
        self, rollout_id: str, holder: str, *, now: float, seconds: float = LEASE_SECONDS, takeover: bool = False
    ) -> int:
        """Become the one who drives the rollouts of an app; returns the fence.

        The fence is the time, or one more than the last where that is more: a ledger that was lost or restored, and one
        on another computer, do not fall behind what boards have seen.

        Args:
            rollout_id: The rollout to drive.
            holder: ``user@host:pid``.
            now: Seconds since the epoch.
            seconds: How long it lasts without `renew`.
            takeover: Take it from whoever has it.

        Raises:
            RolloutBusyError: Somebody else drives one; names who, which wave, and since when.
            StoreError: There is no such rollout.
        """
        with self._database.writing() as connection:
            row = _row(connection, rollout_id)
            # a first lease has no row to lock yet: PostgreSQL would let two in
            same_app = select(tables.rollouts.c.rollout_id).where(tables.rollouts.c.app == row.app)
            connection.execute(same_app.order_by(tables.rollouts.c.rollout_id).with_for_update()).all()
            held = _lease(connection, row.app, lock=True)
            if held is not None and not takeover and not _free(held, holder, now):
                raise _busy(held, _row(connection, held.rollout_id))
            fence = max(int(now), 0 if held is None else held.fence) + 1
            values = {"rollout_id": row.rollout_id, "holder": holder, "fence": fence, "since": now}
            values["expires"] = now + seconds
            if held is None:
                connection.execute(insert(tables.rollout_leases).values(app=row.app, **values))
            else:
                leases = tables.rollout_leases
                connection.execute(update(leases).where(leases.c.app == row.app).values(**values))
        return fence

    def renew(self, rollout_id: str, fence: int, *, now: float, seconds: float = LEASE_SECONDS) -> None:
        """Go on driving it.

        Raises:
            RolloutBusyError: Somebody has taken over.
        """
        with self._database.writing() as connection:
            _fenced(connection, rollout_id, fence, expires=now + seconds)

    def give_back(self, rollout_id: str, fence: int) -> None:
        """Drive it no longer; nothing where somebody else does already. The fence stays, to rise from."""
        leases = tables.rollout_leases
        mine = (leases.c.rollout_id == rollout_id) & (leases.c.fence == fence)
        with self._database.writing() as connection:
            connection.execute(update(leases).where(mine).values(holder="", expires=0.0))

    def lease(self, app: str) -> Lease | None:
        """Who drives the rollouts of an app; ``None`` where nobody does; a process that has ended does not."""
        with self._database.reading() as connection:
            found = _lease(connection, app)
        return found if _driver(found) else None

    def fence(self, app: str) -> int:
        """The highest fence of an app so far, which boards do not refuse: a preflight for a plan bears it."""
        with self._database.reading() as connection:
            found = _lease(connection, app)
        return found.fence if found else 0

    def save(self, head: Rollout, boards: Iterable[BoardProgress] = (), *, obeyed: str = "") -> None:
        """Keep how far a rollout is, all or nothing.

        Args:
            head: Its state and gates, under the fence that it bears; `head.boards` is not looked at.
            boards: Those that stand otherwise than when they were kept last.
            obeyed: The operator's order that this carries out; it is crossed out.

        Raises:
            RolloutBusyError: Somebody has taken over.
            StoreError: A number is NaN or infinite.
        """
        values: dict[str, Any] = {name: getattr(head, name) for name in _HEAD}
        rows = [{"of": head.rollout_id, "who": board.board, **_board_row(board)} for board in boards]
        table, members = tables.rollouts, tables.rollout_boards
        mine = table.c.rollout_id == head.rollout_id
        with self._database.writing() as connection:
            _fenced(connection, head.rollout_id, head.fence)
            connection.execute(update(table).where(mine).values(**values))
            if obeyed:
                connection.execute(update(table).where(mine, table.c.order == obeyed).values(order="", ordered_by=""))
            if rows:
                which = (members.c.rollout_id == bindparam("of")) & (members.c.board == bindparam("who"))
                fields: dict[str, Any] = {name: bindparam(name) for name in ("state", "document")}
                changed = [{k: v for k, v in row.items() if k != "board"} for row in rows]
                connection.execute(update(members).where(which).values(**fields), changed)
            _add_gates(connection, head)

    def order(self, rollout_id: str, command: str, *, by: str) -> None:
        """Leave an order for whoever drives the rollout.

        Args:
            rollout_id: The rollout.
            command: ``pause``, ``resume`` or ``cancel``.
            by: Who says so.

        Raises:
            UsageError: It is no order, or the rollout has ended.
            StoreError: There is no such rollout.
        """
        if command not in ORDERS:
            raise UsageError(f"{command!r} is no order to a rollout.", remedy=f"Orders: {', '.join(ORDERS)}.")
        table = tables.rollouts
        with self._database.writing() as connection:
            row = _row(connection, rollout_id)
            if row.state in ("done", "cancelled"):
                raise UsageError(f"rollout {row.rollout_id} is {row.state}.", remedy="Begin another one.")
            mine = table.c.rollout_id == row.rollout_id
            connection.execute(update(table).where(mine).values(order=command, ordered_by=by))

    def ordered(self, rollout_id: str) -> tuple[str, str]:
        """The order that nobody has carried out yet, and whose it is; empty where there is none."""
        table = tables.rollouts
        query = select(table.c.order, table.c.ordered_by).where(table.c.rollout_id == rollout_id)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return (row.order, row.ordered_by) if row is not None else ("", "")


def _text(noun: object) -> str:
    if not finite(noun):
        raise StoreError(f"a {type(noun).__name__} holds a number that is NaN or infinite, which is not kept.")
    return encode_json(noun)


def _board_row(board: BoardProgress) -> dict[str, Any]:
    return {"board": board.board, "state": board.state, "document": _text(board)}


def _row(connection: Connection, rollout_id: str) -> Row[Any]:
    table = tables.rollouts
    known = table.c.rollout_id.startswith(rollout_id, autoescape=True) if rollout_id else table.c.rollout_id == ""
    rows = connection.execute(select(table).where(known).limit(2)).all()
    if len(rows) != 1:
        what = "is not known" if not rows else "fits several"
        raise StoreError(f"rollout {rollout_id!r} {what}.", remedy="See `edgeopt fleet history`.")
    return rows[0]


def _of(connection: Connection, table: Any, row: Row[Any]) -> list[str]:
    order = table.c.position if "position" in table.c else table.c.number
    query = select(table.c.document).where(table.c.rollout_id == row.rollout_id).order_by(order)
    return [found.document for found in connection.execute(query)]


def _lease(connection: Connection, app: str, *, lock: bool = False) -> Lease | None:
    leases = tables.rollout_leases
    query = select(leases).where(leases.c.app == app)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else Lease(row.rollout_id, row.holder, row.fence, row.since, row.expires)


def _driver(lease: Lease | None) -> str:
    return lease.holder if lease and not _ended(lease.holder) else ""


def _free(lease: Lease, holder: str, now: float) -> bool:
    """Whether nobody drives any more: given back, run out, ours, or of a process of this computer that has ended."""
    return not lease.holder or now >= lease.expires or lease.holder == holder or _ended(lease.holder)


def _ended(holder: str) -> bool:
    return has_ended(holder.rpartition("@")[2])


def _busy(lease: Lease, row: Row[Any]) -> RolloutBusyError:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(lease.since))
    return RolloutBusyError(
        f"busy: {lease.holder} drives {row.release} (rollout {row.rollout_id}, wave {row.wave}) since {since}.",
        remedy="Wait for it, or take it over: --takeover.",
    )


def _fenced(connection: Connection, rollout_id: str, fence: int, **values: Any) -> None:
    """Write to our lease, which fails where it is not ours any more."""
    leases = tables.rollout_leases
    mine = (leases.c.rollout_id == rollout_id) & (leases.c.fence == fence)
    if connection.execute(update(leases).where(mine).values(**(values or {"fence": fence}))).rowcount:
        return
    app = connection.execute(select(tables.rollouts.c.app).where(tables.rollouts.c.rollout_id == rollout_id)).scalar()
    held = _lease(connection, app or "")
    who = held.holder if held and held.holder else "somebody"
    raise RolloutBusyError(
        f"{who} has taken rollout {rollout_id} over; this process does nothing more.",
        remedy="See `edgeopt fleet status`.",
    )


def _add_gates(connection: Connection, head: Rollout) -> None:
    gates = tables.rollout_gates
    query = select(gates.c.number).where(gates.c.rollout_id == head.rollout_id).order_by(gates.c.number.desc())
    last = connection.execute(query).scalar()
    kept = 0 if last is None else last + 1
    for number, gate in enumerate(head.gates[kept:], kept):
        row = {"rollout_id": head.rollout_id, "number": number, "document": _text(gate)}
        connection.execute(insert(gates).values(**row))


def _summary(row: Row[Any], holder: str = "") -> RolloutSummary:
    fields = RolloutSummary.__dataclass_fields__
    known = {name: value for name, value in row._mapping.items() if name in fields}
    return RolloutSummary(**{**known, "holder": holder})
