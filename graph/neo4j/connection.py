"""A Neo4j server as this project speaks to it: managed transactions, and errors that say what to do."""

import contextlib
import logging
import re
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, LiteralString, Self, cast

import neo4j
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConfigurationError,
    ConstraintError,
    DatabaseError,
    DriverError,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    TransientError,
)

from graph.errors import StoreUnavailable

Row = Mapping[str, Any]
"""One row of a result by column name; values are Neo4j's own types, and it is read where its query stands."""

OLDEST = (5, 23)
"""The first version whose Cypher has all that the queries use: vector indexes, COLLECT, scoped CALL."""

CONNECT_S, RETRY_S = 5.0, 3.0
"""Seconds within which a server has to take a connection, and for which a transaction is tried again."""

logging.getLogger("neo4j").addHandler(logging.NullHandler())  # what it would print of its tries, our errors say


class Conflict(StoreUnavailable):
    """What was to be written is there already, by another writer or by a first try whose answer was lost."""


class PasswordRefused(StoreUnavailable):
    """The server does not know this user and password."""


class Neo4jConnection:
    """A pool of connections to one database of one server. Safe to share between threads.

    It reconnects by itself: a server that was lost and came back is used again by the next call. Every method raises
    StoreUnavailable where the server cannot answer. `seconds` is the time that one transaction may take.
    """

    def __init__(self, url: str, user: str, password: str, database: str = "neo4j", seconds: float = 15.0) -> None:
        self.url = url
        self._database = database
        self._seconds = seconds
        try:
            if not re.match(r"(bolt|neo4j)(\+s|\+ssc)?://[^/]", url):
                raise ValueError("it begins otherwise")
            self._driver = neo4j.GraphDatabase.driver(  # pyright: ignore[reportUnknownMemberType] (options untyped)
                url,
                auth=(user, password),
                connection_timeout=CONNECT_S,
                connection_acquisition_timeout=CONNECT_S + seconds,
                max_transaction_retry_time=RETRY_S,
                keep_alive=True,
                notifications_min_severity="OFF",
            )
        except (ConfigurationError, ValueError) as error:
            raise StoreUnavailable(
                f'"{url}" is no address of a Neo4j server ({error}). '
                "GENATLAS_NEO4J_URL takes bolt://HOST:7687, or neo4j+s://HOST for a cluster with TLS."
            ) from error

        weakref.finalize(self, self._driver.close)  # for those who keep it as long as they live

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back every connection."""
        self._driver.close()

    def read(self, query: str, **parameters: object) -> list[Row]:
        """Return the rows of a reading query; on a cluster any member may answer it."""
        return self._told(lambda session: session.execute_read(self._work(query, parameters)))

    def write(self, query: str, **parameters: object) -> list[Row]:
        """Run a writing query in a transaction of its own, tried again where that is safe; return its rows."""
        return self._told(lambda session: session.execute_write(self._work(query, parameters)))

    def command(self, query: str, **parameters: object) -> list[Row]:
        """Run a query that opens its own transactions: of the schema, or CALL … IN TRANSACTIONS. No time limit."""
        return self._told(lambda session: _rows(session.run(_query(query), parameters)))

    def check(self) -> str:
        """Return the server's version. Raises StoreUnavailable for one that is too old."""
        version = str(self.read("CALL dbms.components() YIELD versions RETURN versions[0] AS version")[0]["version"])
        if not is_supported(version):
            oldest = ".".join(map(str, OLDEST))
            raise StoreUnavailable(f"{self.url} is Neo4j {version}; GenAtlas needs {oldest} or newer.")
        return version

    def _work(self, query: str, parameters: Mapping[str, object]) -> Callable[[neo4j.ManagedTransaction], list[Row]]:
        @neo4j.unit_of_work(timeout=self._seconds)
        def work(transaction: neo4j.ManagedTransaction) -> list[Row]:
            return _rows(transaction.run(_query(query), dict(parameters)))

        return work

    def _told(self, use: Callable[[neo4j.Session], list[Row]]) -> list[Row]:
        try:
            with self._driver.session(database=self._database) as session:  # pyright: ignore[reportUnknownMemberType]
                return use(session)
        except (Neo4jError, DriverError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        """The error in a user's words: what, where, what to do."""
        code = str(error.code) if isinstance(error, Neo4jError) else ""
        match error:
            case ConstraintError():
                return Conflict(f"Neo4j at {self.url} has it already ({_first_line(error)}).")
            case AuthError():
                return PasswordRefused(
                    f"Neo4j at {self.url} refuses this user or password. "
                    "Set GENATLAS_NEO4J_USER and GENATLAS_NEO4J_PASSWORD."
                )
            case ClientError() if "TransactionTimedOut" in code or "LockClientStopped" in code:
                what = f"took longer than {self._seconds:g} s and was stopped. GENATLAS_NEO4J_SECONDS allows more."
            case ClientError() if "DatabaseNotFound" in code:
                what = f'has no database "{self._database}". GENATLAS_NEO4J_DATABASE names another.'
            case Neo4jError() if "ReadOnly" in code or "NotALeader" in code or "Forbidden" in code:
                what = "lets this user only read here. Loading needs a database, and a user, that may write."
            case ServiceUnavailable() | SessionExpired() | OSError():
                what = (
                    f"does not answer ({_first_line(error)}). Is it running? genatlas neo4j status; "
                    "GENATLAS_NEO4J_URL names another."
                )
            case TransientError() | DatabaseError():
                what = f"could not do it now ({_first_line(error)}). Try again; its log says more."
            case _:
                what = f"refused a query ({_first_line(error)})."
        return StoreUnavailable(f"Neo4j at {self.url} {what}")


def is_supported(version: str) -> bool:
    """Whether this version of Neo4j has all that the queries use. Versions by date ("2025.10.1") came later."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    return tuple(numbers) >= OLDEST


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _query(text: str) -> LiteralString:
    """Queries are constants of this package; labels and index names, which Cypher takes no parameters for, are ours."""
    return cast("LiteralString", text)


def _rows(result: neo4j.Result) -> list[Row]:
    return [dict(record) for record in result]


def set_first_password(url: str, user: str, password: str) -> None:
    """Replace the password that a new server comes with; do nothing on one whose password was set before.

    Raises StoreUnavailable for a server that does not answer.
    """
    with Neo4jConnection(url, user, "neo4j", database="system") as connection, contextlib.suppress(PasswordRefused):
        connection.command("ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $password", password=password)
