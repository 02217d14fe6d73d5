"""Events: what happened, as a list and as a live stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from api import inputs, models
from api.auth import Caller, Deps, caller_of, scope
from api.dependencies import Dependencies
from api.live import Stream
from api.problems import Problem
from api.routes import problems_of
from sipivr.store import read, records

router: Final = APIRouter(prefix="/v1/events", tags=["events"])

SEND_TIMEOUT_S: Final = 30.0

_Reading = Annotated[Caller, Depends(scope("events:read"))]


async def _sequence_of(deps: Dependencies, caller: Caller, event_id: str) -> int:
    event = await deps.reader.run(read.event, event_id, merchant=caller.merchant)
    if event is None:
        raise Problem("invalid_cursor", "No such event; events are kept for 30 days.")
    return event.sequence


@router.get("", operation_id="list_events", responses=problems_of("invalid_cursor"))
async def list_(
    deps: Deps, caller: _Reading, query: Annotated[inputs.PageQuery, Query()]
) -> models.Page[models.Event]:
    """Oldest first, so that `starting_after` the last one you have handled gives what you missed."""
    sequence = 0
    if query.starting_after is not None:
        sequence = await _sequence_of(deps, caller, query.starting_after)
    found: list[records.EventRecord] = []
    for _ in range(20):
        rows = await deps.reader.run(
            read.events_after, sequence, merchant=caller.merchant, limit=query.limit + 1
        )
        found += [row for row in rows if row.mode in {caller.mode, None}]
        if len(found) > query.limit or len(rows) <= query.limit:
            break
        sequence = rows[-1].sequence
    data = [models.Event.of(row) for row in found[: query.limit]]
    return models.Page(data=data, has_more=len(found) > query.limit)


@router.get(
    "/stream",
    operation_id="stream_events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events. Each has the type as `event`, the event's id as `id` and the "
            "event as JSON in `data`. `capture.progress` has no id: it is not kept and not sent again. "
            "A comment line every 15 s keeps the connection.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": "event: payment.approved\nid: evt_0a1b2c\ndata: {…}\n\n",
                }
            },
        },
        **problems_of("invalid_cursor", "too_many_streams"),
    },
)
async def stream(
    request: Request,
    deps: Deps,
    caller: _Reading,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            max_length=64,
            description="Resume behind this event; without it the stream begins with what happens next.",
        ),
    ] = None,
) -> StreamingResponse:
    """What happens, as it happens."""
    after = await _sequence_of(deps, caller, last_event_id) if last_event_id else None
    authorization = request.headers["authorization"].partition(" ")[2]

    async def still_allowed() -> bool:
        known = await caller_of(deps, authorization)
        return known is not None and "events:read" in known.scopes

    opened = deps.live.open(
        key=caller.key,
        merchant=caller.merchant,
        mode=caller.mode,
        progress=caller.mode is caller.merchant_mode,
        still_allowed=still_allowed,
    )
    return _EventStream(
        _with_end(opened, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"},
    )


class _EventStream(StreamingResponse):
    """A streaming response that gives up on a client whose connection has taken nothing for a while."""

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(message)

        # Returning without the last chunk makes the server close the connection.
        with contextlib.suppress(TimeoutError):
            await super().stream_response(bounded)


async def _with_end(opened: Stream, after: int | None) -> AsyncIterator[str]:
    try:
        async for chunk in opened.chunks(after):
            yield chunk
    finally:
        opened.close()
