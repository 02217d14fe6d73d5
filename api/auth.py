"""Who asks, and what they may.

Two ways in: a bearer key for everything of a merchant's systems, and an administrator's name and password
(HTTP Basic) for `/v1/api_keys` alone, so that the password printed at the first start can make the keys.
`api` knows credentials; whether the principal behind one is active and what it may is `switch.db`'s to say,
asked with each request, and `sipivr` asks again for each command (invariant 7).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer
from sqlite_utils import Database

from api.dependencies import Dependencies, dependencies
from api.problems import Problem
from api.store import credentials, keys
from sipivr.store import read
from sipivr.store.records import Merchant, Mode, Principal, Role

_BEARER: Final = HTTPBearer(
    auto_error=False, scheme_name="api_key", description="`Authorization: Bearer sk_test_…`"
)
_BASIC: Final = HTTPBasic(
    auto_error=False,
    scheme_name="administrator",
    realm="sipivr",
    description="An administrator's name and password; only for `/v1/api_keys`.",
)

Deps = Annotated[Dependencies, Depends(dependencies)]


@dataclass(frozen=True, slots=True)
class Caller:
    """A merchant's system, known by its key."""

    key: str
    principal: str
    merchant: str
    mode: Mode
    merchant_mode: Mode
    scopes: frozenset[str]

    def may_write(self) -> None:
        """Refuses a change with a key of the other mode than the merchant's: it would mix test and live."""
        if self.mode is not self.merchant_mode:
            raise Problem("forbidden", f"The merchant is in {self.merchant_mode} mode; this is another key.")


@dataclass(frozen=True, slots=True)
class Administrator:
    """A merchant's administrator, known by name and password."""

    name: str
    principal: str
    merchant: Merchant


def address(request: Request) -> str:
    """Where the request came from."""
    return request.client.host if request.client else "unknown"


def _in_force(db: Database, principal_id: str) -> tuple[Principal, Merchant] | None:
    """The principal with its merchant, if both are active: one visit to the reader's thread, not two."""
    principal = read.principal(db, principal_id)
    if principal is None or not principal.active or principal.merchant is None:
        return None
    merchant = read.merchant(db, principal.merchant)
    return (principal, merchant) if merchant is not None and merchant.active else None


async def caller_of(deps: Dependencies, secret: str) -> Caller | None:
    """The caller behind a key, if key, principal and merchant are all in force."""
    key = await deps.store.run(keys.authenticate, secret)
    if key is None or key.revoked_at is not None:
        return None
    known = await deps.reader.run(_in_force, key.principal)
    if known is None or known[1].id != key.merchant:
        return None
    principal, merchant = known
    return Caller(
        key=key.id,
        principal=principal.id,
        merchant=merchant.id,
        mode=Mode(key.mode),
        merchant_mode=merchant.mode,
        scopes=frozenset(key.scopes) & frozenset(principal.permissions),
    )


def _not_authenticated(deps: Dependencies, request: Request, scheme: str) -> Problem:
    """401, and 429 for an address that keeps failing.

    A valid key is never refused for its address: many callers may share one, a proxy's or a NAT's.
    """
    standing = deps.limiter.take(f"failing:{address(request)}")
    if not standing.allowed:
        return Problem("rate_limited", headers=standing.headers())
    return Problem("not_authenticated", headers={"WWW-Authenticate": f'{scheme} realm="sipivr"'})


async def bearer(
    request: Request,
    deps: Deps,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Caller:
    """The caller of this request, counted against its limit."""
    caller = await caller_of(deps, given.credentials) if given else None
    if caller is None:
        raise _not_authenticated(deps, request, "Bearer")
    allowance = deps.limiter.take(caller.key)
    request.state.key_id = caller.key
    request.state.headers = allowance.headers()
    if not allowance.allowed:
        raise Problem("rate_limited", headers=allowance.headers())
    return caller


def scope(needed: str) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller, if its key and its principal have this scope."""

    async def scoped(caller: Annotated[Caller, Depends(bearer)]) -> Caller:
        if needed not in caller.scopes:
            raise Problem("missing_scope", f"Needs `{needed}`.")
        return caller

    return scoped


class PasswordGate:
    """One password is tried at a time: scrypt's 32 MB and 0.3 s must not be a way to stop the API."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def matches(self, credential: credentials.Credential | None, password: str) -> bool:
        """Whether the password is right; refuses at once when many are waiting."""
        if self._waiting >= 8:
            raise Problem("rate_limited", headers={"Retry-After": "3"})
        self._waiting += 1
        try:
            async with self._lock:
                return await asyncio.to_thread(credentials.matches, credential, password)
        finally:
            self._waiting -= 1


async def administrator(
    request: Request,
    deps: Deps,
    given: Annotated[HTTPBasicCredentials | None, Depends(_BASIC)],
) -> Administrator:
    """The administrator of this request, with lock-out after failures."""
    if given is None or len(given.username) > 100 or len(given.password) > 1000:
        raise _not_authenticated(deps, request, "Basic")
    name = given.username.casefold()
    pair, everywhere = f"{name}@{address(request)}", f"{name}@*"
    locked_s = await deps.store.run(credentials.locked_for_s, (pair, everywhere), deps.clock())
    if locked_s > 0:
        raise Problem("locked_out", headers={"Retry-After": str(math.ceil(locked_s))})
    credential = await deps.store.run(credentials.find, name)
    gate: PasswordGate = request.app.state.password_gate
    if not await gate.matches(credential, given.password) or credential is None:
        now = deps.clock()
        await deps.store.run(credentials.note_failure, pair, now, credentials.FREE_TRIES)
        await deps.store.run(
            credentials.note_failure, everywhere, now, credentials.FREE_TRIES_FROM_EVERYWHERE
        )
        raise _not_authenticated(deps, request, "Basic")
    known = await deps.reader.run(_in_force, credential.principal)
    if known is None:
        raise _not_authenticated(deps, request, "Basic")
    await deps.store.run(credentials.note_success, credential.name, pair)
    allowance = deps.limiter.take(known[0].id)
    request.state.headers = allowance.headers()
    request.state.key_id = known[0].id
    if not allowance.allowed:
        raise Problem("rate_limited", headers=allowance.headers())
    if known[0].role is not Role.ADMINISTRATOR:
        raise Problem("forbidden")
    return Administrator(credential.name, known[0].id, known[1])
