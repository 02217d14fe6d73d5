"""`Idempotency-Key`: the same request twice is carried out once.

States of a key: unknown → running (here, with others waiting for it) → answered (in `api.db`, 24 h). What
ends in 5xx goes back to unknown, so that the retry is carried out. A process that dies leaves a record
without an answer; the next request takes it over (see `api.store.idempotency`). Owner: the one `Idempotency`
of the application; keys belong to the principal that sent them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from api import problems
from api.problems import Problem
from api.store import idempotency
from api.store.schema import Store

HEADER: Final = "Idempotency-Key"
WAIT_S: Final = 10.0
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a POST did. `kept` is stored for replays instead of `model` where that holds a secret."""

    status: int
    model: BaseModel
    subject: str | None = None
    kept: BaseModel | None = None


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        description="Any printable text of at most 255 characters without spaces. The same key with the same "
        "request gives the same answer for 24 hours.",
        examples=["A1001-first"],
    ),
]

Execute = Callable[[], Awaitable[Outcome]]
Present = Callable[[str], Awaitable[BaseModel | None]]


class Idempotency:
    """All keys of this process."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def answer(self, request: Request, owner: str, execute: Execute, present: Present) -> Response:
        """Carries the request out, or gives the answer that it had.

        Args:
            request: read for its header, path and body.
            owner: the principal whose key it is.
            execute: does what the request asks for.
            present: the present state of the object that a kept answer was about.
        """
        key = request.headers.get(HEADER)
        if key is None:
            return _response(await execute())
        if not _KEY.fullmatch(key):
            raise Problem("invalid_idempotency_key")
        slot = (owner, key)
        fingerprint = await _fingerprint(request)
        while (running := self._running.get(slot)) is not None:
            try:
                await asyncio.wait_for(asyncio.shield(running), WAIT_S)
            except TimeoutError:
                raise Problem("idempotency_key_in_use", headers={"Retry-After": "1"}) from None
        # No await between the last look and this line: one request gets the slot.
        done = self._running[slot] = asyncio.get_running_loop().create_future()
        try:
            record = await self._store.run(idempotency.begin, owner, key, fingerprint, self._clock())
            if record is not None and record.fingerprint != fingerprint:
                raise Problem("idempotency_key_reused")
            if record is not None and record.status is not None and record.body is not None:
                return await _replay(request, record.status, record.body, record.subject, present)
            return await self._carry_out(request, slot, execute)
        finally:
            del self._running[slot]
            done.set_result(None)

    async def _carry_out(self, request: Request, slot: tuple[str, str], execute: Execute) -> Response:
        try:
            outcome = await execute()
        except Problem as problem:
            if problem.status < 500:
                body = json.dumps(problem.document(request.url.path, request.state.request_id))
                await self._store.run(
                    idempotency.finish, *slot, status=problem.status, body=body, subject=None
                )
            else:
                await self._store.run(idempotency.abandon, *slot)
            raise
        except BaseException:
            await self._store.run(idempotency.abandon, *slot)
            raise
        kept = (outcome.kept or outcome.model).model_dump_json()
        await self._store.run(
            idempotency.finish, *slot, status=outcome.status, body=kept, subject=outcome.subject
        )
        return _response(outcome)


def _response(outcome: Outcome) -> Response:
    return Response(
        outcome.model.model_dump_json(), status_code=outcome.status, media_type="application/json"
    )


async def _replay(
    request: Request, status: int, body: str, subject: str | None, present: Present
) -> Response:
    media_type = "application/json"
    if status >= 400:
        document = json.loads(body)
        document["request_id"] = request.state.request_id
        body, media_type = json.dumps(document), problems.MEDIA_TYPE
    elif subject is not None:
        model = await present(subject)
        body = model.model_dump_json() if model is not None else body
    return Response(body, status_code=status, media_type=media_type, headers={"Idempotent-Replayed": "true"})


async def _fingerprint(request: Request) -> bytes:
    """Method, path and what the body says; two spellings of the same JSON are the same body."""
    raw = await request.body()
    canonical = json.dumps(json.loads(raw), sort_keys=True) if raw else ""
    return hashlib.sha256("\0".join((request.method, request.url.path, canonical)).encode()).digest()
