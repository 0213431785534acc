"""The keys of the HTTP service. A key is told once, when it is made; the database keeps its hash.

They stand in a file of the home, or where several replicas share them in the database of GENATLAS_PROGRESS_URL. A key
is `ga_<id>_<secret>`; with 256 random bits in the secret a plain SHA-256 is as good as a slow hash.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast, get_args

from sqlalchemy import URL, String, inspect, select
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from graph import AtlasError
from service.settings import Settings
from study.database import READING, UtcTime, open_database, sqlite_url

Scope = Literal["read", "run-demos", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
FILE = "keys.db"
_TOKEN = re.compile(r"ga_([0-9a-f]{12})_[\w-]{43}")


class KeyUnknown(AtlasError):
    """There is no key of this id."""


class KeysUnavailable(AtlasError):
    """The database of the keys cannot be read or written at present."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key; its secret is not.

    Every key may read; `admin` includes the other scopes. `profile` is the learner whose progress it may read and
    change; `per_minute` its own limit of requests where it has one.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    profile: str | None
    per_minute: int | None
    created: datetime
    revoked: datetime | None

    def may(self, scope: Scope) -> bool:
        """Whether the key opens what the scope opens."""
        return scope == "read" or scope in self.scopes or "admin" in self.scopes


class _Base(DeclarativeBase):
    """The one table has the prefix of the others, so that a database may be shared."""

    type_annotation_map = {datetime: UtcTime}  # noqa: RUF012 (read by SQLAlchemy)


class _Row(_Base):
    __tablename__ = "genatlas_key"
    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    hashed: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(64))
    profile: Mapped[str | None] = mapped_column(String(64))
    per_minute: Mapped[int | None]
    created: Mapped[datetime]
    revoked: Mapped[datetime | None]


class KeyStore:
    """The keys of one database. Safe to share between threads; methods raise KeysUnavailable."""

    def __init__(self, url: str | URL) -> None:
        """Open the database and make the table where there is none. Raises KeysUnavailable."""
        try:
            self._engine = open_database(url)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise KeysUnavailable(f"GENATLAS_PROGRESS_URL names no database that can be opened: {error}") from error
        try:
            with self._session() as session:
                _Base.metadata.create_all(session.connection())
        except KeysUnavailable:
            if not self._has_table():  # else another process has made it at the same moment
                raise

    def _has_table(self) -> bool:
        try:
            return inspect(self._engine).has_table(_Row.__tablename__)
        except DatabaseError:
            return False

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._engine.dispose()

    def create(
        self, name: str, scopes: Sequence[Scope], profile: str | None = None, per_minute: int | None = None
    ) -> tuple[Key, str]:
        """Make a key; returns it and its token, which is told nowhere again."""
        row_id = secrets.token_hex(6)
        token = f"ga_{row_id}_{secrets.token_urlsafe(32)}"
        row = _Row(
            id=row_id,
            name=name,
            hashed=_hash(token),
            scopes=" ".join(scope for scope in SCOPES if scope in scopes),
            profile=profile,
            per_minute=per_minute,
            created=datetime.now(UTC),
            revoked=None,
        )
        with self._session() as session:
            session.add(row)
            return _key(row), token

    def all(self) -> list[Key]:
        """All keys, the oldest first, revoked ones included."""
        with self._session(reading=True) as session:
            return [_key(row) for row in session.scalars(select(_Row).order_by(_Row.created, _Row.id))]

    def revoke(self, key_id: str) -> Key:
        """Have a key open nothing from now on. Raises KeyUnknown."""
        with self._session() as session:
            row = session.get(_Row, key_id)
            if row is None:
                raise KeyUnknown(f'No key "{key_id}". All keys: genatlas key list')
            row.revoked = row.revoked or datetime.now(UTC)
            return _key(row)

    def find(self, token: str) -> Key | None:
        """The key that a token is of, None where it is of none or of one revoked."""
        shaped = _TOKEN.fullmatch(token)
        if shaped is None:
            return None
        with self._session(reading=True) as session:
            row = session.get(_Row, shaped[1])
            if row is None or row.revoked is not None or not hmac.compare_digest(row.hashed, _hash(token)):
                return None
            return _key(row)

    @contextmanager
    def _session(self, reading: bool = False) -> Generator[Session]:
        engine = self._engine.execution_options(**READING) if reading else self._engine
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except DatabaseError as error:
            where = self._engine.url.render_as_string()  # without the password
            raise KeysUnavailable(f"The keys in {where} cannot be read or written at present: {error.orig}") from error


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _key(row: _Row) -> Key:
    scopes = cast("tuple[Scope, ...]", tuple(row.scopes.split()))
    return Key(row.id, row.name, scopes, row.profile, row.per_minute, row.created, row.revoked)


def open_keys(settings: Settings) -> KeyStore:
    """The keys of the installation that the settings name. Raises KeysUnavailable."""
    if settings.progress_url is not None:
        return KeyStore(settings.progress_url.get_secret_value())
    settings.home.mkdir(parents=True, exist_ok=True)
    return KeyStore(sqlite_url(settings.home / FILE))
