"""Databases through SQLAlchemy: SQLite files that keep what they acknowledged, and any other by its URL."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, DateTime, Dialect, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator

WAIT_S = 30
"""How long a writer waits for the others before it gives up."""

READING = {"reading": True}
"""Execution option of a transaction that only reads: in SQLite it waits for no writer."""


class UtcTime(TypeDecorator[datetime]):
    """A moment, kept in UTC without its zone, since not every database keeps zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (named by SQLAlchemy)
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC)


def open_database(url: str | URL) -> Engine:
    """The database at a URL. Raises SQLAlchemy's ArgumentError and NoSuchModuleError, or ModuleNotFoundError."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    return engine


def sqlite_url(file: Path) -> URL:
    """The URL of an SQLite file."""
    return URL.create("sqlite", database=str(file))


def _prepare_sqlite(engine: Engine) -> None:
    """Let SQLite keep what it acknowledged, keep its references, and let writers queue up.

    The driver would begin a transaction only at its first change; what was read before might then be stale.
    """

    def connected(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cast("Any", connection).isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {WAIT_S * 1000}")
        _log_ahead(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    def begun(connection: Any) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _log_ahead(cursor: DBAPICursor) -> None:
    """Turn on the write-ahead log. SQLite does not queue for this one change, made once in a file's life."""
    limit = time.monotonic() + WAIT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > limit:
                raise
            time.sleep(0.02)
        else:
            return
