"""Who may ask for what, and how often."""

import ipaddress
import time
from dataclasses import dataclass
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from graph import AtlasError
from service import Settings
from service.keys import FILE, Key, KeyStore, Scope, open_keys

OPEN = ("/healthz", "/readyz")
"""What is told to anybody: a probe has no key."""


class Refused(AtlasError):
    """A request is not answered: `status` is 401, 403 or 429; `wait_s` says when to come again."""

    def __init__(self, status: int, detail: str, wait_s: int | None = None) -> None:
        self.status = status
        self.wait_s = wait_s
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key, or an address that brings none."""

    address: str
    key: Key | None = None

    @property
    def name(self) -> str:
        """How the audit and the limits know it."""
        return f"key {self.key.id}" if self.key else self.address

    def needs(self, scope: Scope) -> None:
        """Raises Refused where the scope is not open to the caller."""
        if scope == "read" if self.key is None else self.key.may(scope):
            return
        if self.key is None:
            raise Refused(401, f"This takes a key with the scope {scope}, sent as Authorization: Bearer …")
        raise Refused(403, f"The key {self.key.id} has not the scope {scope}. A new one: genatlas key create")


class Access:
    """Lets requests in. Without a key an address may read: one of this machine, or any where the service is public."""

    def __init__(self, settings: Settings, public: bool) -> None:
        self._settings = settings
        self._public = public
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._opened: KeyStore | None = None

    async def admit(self, request: Request) -> Caller:
        """Who asks. Raises Refused, and KeysUnavailable where the keys cannot be read."""
        address = request.client.host if request.client else ""
        given = request.headers.get("authorization")
        if given is None:
            if not self._public and not is_loopback(address):
                raise Refused(401, "Without a key only this machine is answered. Send one as Authorization: Bearer …")
            caller = Caller(address)
            self._count(caller.name, self._settings.requests_per_minute)
            return caller
        kind, _, token = given.partition(" ")
        key = await to_thread.run_sync(self._find, token.strip()) if kind.lower() == "bearer" else None
        if key is None:
            self._count(f"wrong key from {address}", self._settings.requests_per_minute)
            raise Refused(401, "This key opens nothing: it is wrong, or it was revoked.")
        caller = Caller(address, key)
        self._count(caller.name, key.per_minute or self._settings.requests_per_minute)
        return caller

    def _find(self, token: str) -> Key | None:
        if self._opened is None:
            if self._settings.progress_url is None and not (self._settings.home / FILE).exists():
                return None  # no key was ever made; looking makes no database
            self._opened = open_keys(self._settings)
        return self._opened.find(token)

    def _count(self, name: str, per_minute: int) -> None:
        limit = RateLimitItemPerMinute(per_minute)
        if not self._limiter.hit(limit, name):
            window = self._limiter.get_window_stats(limit, name)
            wait = max(1, round(window.reset_time - time.time()))
            raise Refused(429, f"More than {per_minute} requests in a minute. Come again in {wait} seconds.", wait)


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


async def caller_of(request: Request) -> Caller:
    """Who asks, as the gate found out."""
    return request.state.caller


def profile_of(caller: Caller) -> str:
    """The learner whom the caller's key is for. Raises Refused."""
    if caller.key is None:
        raise Refused(401, "This takes a key that is for a learner: genatlas key create NAME --profile PROFILE")
    if caller.key.profile is None:
        raise Refused(403, f"The key {caller.key.id} is for no learner: genatlas key create NAME --profile PROFILE")
    return caller.key.profile


Asking = Annotated[Caller, Depends(caller_of)]
