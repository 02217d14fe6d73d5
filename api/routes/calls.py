"""Calls: every customer's presence on the switch, refused ones too."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import PlainTextResponse, Response

from api import inputs, models
from api.auth import Caller, Deps, address, scope
from api.dependencies import Dependencies
from api.idempotency import IdempotencyKey, Outcome
from api.problems import Problem
from api.reader import page_of_mode
from api.routes import WRITE_PROBLEMS, problems_of
from sipivr.control import messages
from sipivr.store import read, records

router: Final = APIRouter(prefix="/v1/calls", tags=["calls"])

_Reading = Annotated[Caller, Depends(scope("calls:read"))]
_Writing = Annotated[Caller, Depends(scope("calls:write"))]
_Dialling = Annotated[Caller, Depends(scope("calls:dial"))]


async def own(deps: Dependencies, caller: Caller, call_id: str, otherwise: str = "not_found") -> records.Call:
    """The caller's call of this id, in the key's mode.

    Raises:
        Problem: `otherwise`; another merchant's is no different from none.
    """
    call = await deps.reader.run(read.call, call_id, merchant=caller.merchant)
    if call is None or call.mode not in {caller.mode, None}:
        raise Problem(otherwise)
    return call


@router.get("", operation_id="list_calls", responses=problems_of("invalid_cursor"))
async def list_(
    deps: Deps, caller: _Reading, query: Annotated[inputs.CallQuery, Query()]
) -> models.Page[models.CallSummary]:
    """Newest first, without legs and timeline."""
    if query.starting_after is not None:
        await own(deps, caller, query.starting_after, "invalid_cursor")

    async def fetch(cursor: str | None) -> tuple[tuple[records.Call, ...], bool]:
        page = await deps.reader.run(
            read.calls,
            caller.merchant,
            status=query.status,
            outcome=query.outcome,
            refusal=query.refusal,
            number=query.number,
            session=query.session,
            started_from=query.started_from,
            started_before=query.started_before,
            starting_after=cursor,
            limit=query.limit,
        )
        return page.items, page.has_more

    rows, more = await page_of_mode(fetch, caller.mode, query.limit, query.starting_after)
    return models.Page(data=[models.CallSummary.of(row) for row in rows], has_more=more)


@router.post(
    "",
    operation_id="create_call",
    status_code=201,
    response_model=models.Call,
    responses=problems_of(*WRITE_PROBLEMS),
)
async def create(
    *,
    request: Request,
    deps: Deps,
    caller: _Dialling,
    body: inputs.CallCreation,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Calls a customer from one of your numbers, whose use says what follows the answer.

    Self-service: the dialogue, then a goodbye. A transfer's number with destinations: the dialogue, then an operator.
    Inline: an operator is rung once the customer has answered. Only numbers that the trunk named by the number's rule
    `outbound_trunk` may dial. The answer comes when the customer's telephone is being rung; what became of it is the
    call's `outcome` (`busy`, `no_answer`, `not_reached`, ...).
    """
    caller.may_write()

    async def execute() -> Outcome:
        result = await deps.switch.command(
            messages.DialCustomer(
                principal=caller.principal,
                source=address(request),
                number=body.number,
                to=body.to,
                session=body.payment_session,
                ring_s=body.ring_s,
            )
        )
        id = str(result["call"])
        return Outcome(201, await present(id), id)

    async def present(id: str) -> models.Call:
        return models.Call.of(await own(deps, caller, id))

    return await deps.idempotency.answer(request, caller.principal, execute, present)


@router.get("/{call_id}", operation_id="retrieve_call", responses=problems_of("not_found"))
async def retrieve(deps: Deps, caller: _Reading, call_id: str) -> models.Call:
    """The call with its legs and its timeline."""
    return models.Call.of(await own(deps, caller, call_id))


@router.get(
    "/{call_id}/ladder",
    operation_id="retrieve_call_ladder",
    response_class=PlainTextResponse,
    responses=problems_of("not_found"),
)
async def ladder(deps: Deps, caller: _Reading, call_id: str) -> PlainTextResponse:
    """The SIP messages of the call as text, kept for 7 days; only headers of an allow-list."""
    call = await own(deps, caller, call_id)
    entries = await deps.reader.run(read.ladder, call.id)
    return PlainTextResponse("".join(map(_entry_text, entries)))


@router.post(
    "/{call_id}/hang_up",
    operation_id="hang_up_call",
    response_model=models.Call,
    responses=problems_of(*WRITE_PROBLEMS, "not_found"),
)
async def hang_up(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    call_id: str,
    body: inputs.Empty | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ends a running call. One that has ended: 409 `conflict`."""
    caller.may_write()
    call = await own(deps, caller, call_id)

    async def execute() -> Outcome:
        await deps.switch.command(
            messages.HangUpCall(principal=caller.principal, source=address(request), call=call.id)
        )
        return Outcome(200, await present(call.id), call.id)

    async def present(_: str) -> models.Call:
        return models.Call.of(await own(deps, caller, call.id))

    return await deps.idempotency.answer(request, caller.principal, execute, present)


def _entry_text(entry: records.LadderEntry) -> str:
    arrow = "<──" if entry.direction == "in" else "──>"
    lines = "".join(f"    {_plain(line)}\n" for line in entry.text.splitlines())
    return f"{entry.at}  {arrow} {_plain(entry.peer)}  {_plain(entry.summary)}\n{lines}"


def _plain(text: str) -> str:
    """What came by SIP, without anything that a terminal would act on."""
    return "".join(c if c.isprintable() else "�" for c in text)
