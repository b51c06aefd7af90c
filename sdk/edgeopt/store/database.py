"""Opens the ledger's database (SQLite or PostgreSQL), makes its tables, and turns its errors into ours."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, make_url, select, text, update
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from edgeopt.errors import StoreError, UsageError
from edgeopt.store import tables

_BUSY_SECONDS = 30
_ADVISORY_LOCK = 0x65646765  # "edge": one number for all, so that tables are made by one process at a time
_WRITES = "edgeopt_writes"


class Database:
    """A connection pool with the tables in place.

    Args:
        url: ``sqlite:////path/to/file``, a `Path` of a SQLite file, or ``postgresql://user:password@host/name``.

    Raises:
        UsageError: The URL is none of these.
        StoreError: It cannot be opened, or was written by a newer edgeopt.
    """

    def __init__(self, url: str | Path) -> None:
        parsed = _parsed(url)
        self.name = parsed.render_as_string(hide_password=True)
        with self._mapped():
            self._engine = _engine(parsed)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self._make_tables()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view of the data.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._mapped(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: all of it is on disk when the block ends, or none of it.

        Raises:
            StoreError: The database cannot be written.
        """
        with self._mapped(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _make_tables(self) -> None:
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            tables.schema.create(connection, checkfirst=True)
            version = connection.execute(select(tables.schema.c.version)).scalar()
            if version is not None and version > tables.SCHEMA_VERSION:
                raise StoreError(
                    f"the ledger {self.name} has schema {version}; this edgeopt knows {tables.SCHEMA_VERSION}.",
                    remedy="Update edgeopt, or use another ledger.",
                )
            tables.metadata.create_all(connection)
            if version is None:
                connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))
            elif version < tables.SCHEMA_VERSION:  # so far every version only has more tables
                connection.execute(update(tables.schema).values(version=tables.SCHEMA_VERSION))

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except ModuleNotFoundError as error:
            raise StoreError(
                f"the ledger {self.name} needs the module {error.name}.",
                remedy="Install it: pip install 'edgeopt[postgresql]'.",
            ) from None
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise StoreError(
                f"the ledger {self.name} cannot be used: {cause}.",
                remedy="Check that it is reachable and writable, that its disk has room, and that it is no other file.",
            ) from None


def _parsed(url: str | Path) -> URL:
    """The URL with its driver named, and the folder of a SQLite file made."""
    remedy = "Give sqlite:////path/to/file or postgresql://user@host/name."
    try:
        parsed = URL.create("sqlite", database=str(url)) if isinstance(url, Path) else make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError("the URL of the ledger cannot be read.", remedy=remedy) from None
    backend = parsed.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not parsed.database:
        raise UsageError(f"a ledger cannot be kept in {parsed.drivername!r} without a file.", remedy=remedy)
    folder = Path(parsed.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make {folder} for the ledger: {error.strerror}.",
            remedy="Make the folder writable, or set EDGEOPT_HOME to another one.",
        ) from None
    return parsed


def _engine(url: URL) -> Engine:
    if url.drivername.startswith("postgresql"):
        # A measurement takes minutes, in which a server or a firewall may drop an idle connection.
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Write-ahead log, synced at every commit; transactions are begun by us, as SQLAlchemy's documentation advises."""
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    deadline = time.monotonic() + _BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # SQLite does not wait by itself while another process changes the mode


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock at once: a reader that turns writer cannot wait, and fails."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
