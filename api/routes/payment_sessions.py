"""Payment sessions: what an operator or a merchant's system registers before the customer is transferred."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api import inputs, models
from api.auth import Caller, Deps, address, scope
from api.dependencies import Dependencies
from api.idempotency import IdempotencyKey, Outcome
from api.problems import Problem
from api.reader import page_of_mode
from api.routes import WRITE_PROBLEMS, problems_of
from sipivr.control import messages
from sipivr.store import read, records

router: Final = APIRouter(prefix="/v1/payment_sessions", tags=["payment_sessions"])

_Reading = Annotated[Caller, Depends(scope("payment_sessions:read"))]
_Writing = Annotated[Caller, Depends(scope("payment_sessions:write"))]


async def _own(deps: Dependencies, caller: Caller, session_id: str) -> records.PaymentSession:
    session = await deps.reader.run(read.payment_session, session_id, merchant=caller.merchant)
    if session is None or session.mode is not caller.mode:
        raise Problem("not_found")
    return session


async def _answer(
    deps: Dependencies, request: Request, caller: Caller, command: messages.AnyCommand, status: int
) -> Response:
    async def execute() -> Outcome:
        result = await deps.switch.command(command)
        session_id = str(result["session"])
        return Outcome(status, await shown(session_id), session_id)

    async def shown(session_id: str) -> models.PaymentSession:
        return models.PaymentSession.of(await _own(deps, caller, session_id))

    return await deps.idempotency.answer(request, caller.principal, execute, shown)


@router.post(
    "",
    operation_id="create_payment_session",
    status_code=201,
    response_model=models.PaymentSession,
    responses=problems_of(
        *WRITE_PROBLEMS,
        "not_found",
        "order_in_progress",
        "order_already_paid",
        "card_data_refused",
        "unsupported_media_type",
        "identification_numbers_exhausted",
    ),
)
async def create(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    body: inputs.PaymentSessionCreate,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Registers a payment and issues the identification number that ties the customer's call to it."""
    caller.may_write()
    command = messages.CreatePaymentSession(
        principal=caller.principal,
        source=address(request),
        shop=body.shop,
        order_id=body.order_id,
        amount=body.amount,
        currency=body.currency,
        language=body.language,
        number=body.number,
        metadata=dict(body.metadata),
        mask=body.mask,
        caller=body.caller,
    )
    return await _answer(deps, request, caller, command, 201)


@router.get("", operation_id="list_payment_sessions", responses=problems_of("invalid_cursor"))
async def list_(
    deps: Deps, caller: _Reading, query: Annotated[inputs.PaymentSessionQuery, Query()]
) -> models.Page[models.PaymentSession]:
    """Newest first."""
    await known_cursor(deps, caller, query.starting_after)

    async def fetch(cursor: str | None) -> tuple[tuple[records.PaymentSession, ...], bool]:
        page = await deps.reader.run(
            read.payment_sessions,
            caller.merchant,
            status=query.status,
            order_id=query.order_id,
            shop=query.shop,
            starting_after=cursor,
            limit=query.limit,
        )
        return page.items, page.has_more

    rows, more = await page_of_mode(fetch, caller.mode, query.limit, query.starting_after)
    return models.Page(data=[models.PaymentSession.of(row) for row in rows], has_more=more)


async def known_cursor(deps: Dependencies, caller: Caller, cursor: str | None) -> None:
    """Refuses a cursor that is not the caller's."""
    if cursor is None:
        return
    session = await deps.reader.run(read.payment_session, cursor, merchant=caller.merchant)
    if session is None or session.mode is not caller.mode:
        raise Problem("invalid_cursor")


@router.get("/{session_id}", operation_id="retrieve_payment_session", responses=problems_of("not_found"))
async def retrieve(deps: Deps, caller: _Reading, session_id: str) -> models.PaymentSession:
    """The session as it is now."""
    return models.PaymentSession.of(await _own(deps, caller, session_id))


@router.post(
    "/{session_id}/cancel",
    operation_id="cancel_payment_session",
    response_model=models.PaymentSession,
    responses=problems_of(*WRITE_PROBLEMS, "not_found"),
)
async def cancel(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    session_id: str,
    body: inputs.Empty | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ends a session that is open or claimed. A charge that runs is never cancelled: 409 `conflict`."""
    caller.may_write()
    await _own(deps, caller, session_id)
    command = messages.CancelPaymentSession(
        principal=caller.principal, source=address(request), session=session_id
    )
    return await _answer(deps, request, caller, command, 200)


@router.post(
    "/{session_id}/identification_number",
    operation_id="issue_identification_number",
    response_model=models.PaymentSession,
    responses=problems_of(*WRITE_PROBLEMS, "not_found", "identification_numbers_exhausted"),
)
async def issue_identification_number(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    session_id: str,
    body: inputs.Empty | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A new identification number for the same session; the old one is retired."""
    caller.may_write()
    await _own(deps, caller, session_id)
    command = messages.IssueIdentificationNumber(
        principal=caller.principal, source=address(request), session=session_id
    )
    return await _answer(deps, request, caller, command, 200)
