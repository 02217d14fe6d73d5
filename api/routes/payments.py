"""Payments: attempts to charge, with what the gateway said."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from api import inputs, models
from api.auth import Caller, Deps, scope
from api.dependencies import Dependencies
from api.problems import Problem
from api.reader import page_of_mode
from api.routes import problems_of
from sipivr.store import read, records

router: Final = APIRouter(prefix="/v1/payments", tags=["payments"])

_Reading = Annotated[Caller, Depends(scope("payments:read"))]


async def _own(
    deps: Dependencies, caller: Caller, payment_id: str, otherwise: str = "not_found"
) -> records.Payment:
    payment = await deps.reader.run(read.payment, payment_id, merchant=caller.merchant)
    if payment is None or payment.mode is not caller.mode:
        raise Problem(otherwise)
    return payment


@router.get("", operation_id="list_payments", responses=problems_of("invalid_cursor"))
async def list_(
    deps: Deps, caller: _Reading, query: Annotated[inputs.PaymentQuery, Query()]
) -> models.Page[models.Payment]:
    """Newest first."""
    if query.starting_after is not None:
        await _own(deps, caller, query.starting_after, "invalid_cursor")

    async def fetch(cursor: str | None) -> tuple[tuple[records.Payment, ...], bool]:
        page = await deps.reader.run(
            read.payments,
            caller.merchant,
            status=query.status,
            session=query.session,
            order_id=query.order_id,
            shop=query.shop,
            created_from=query.created_from,
            created_before=query.created_before,
            starting_after=cursor,
            limit=query.limit,
        )
        return page.items, page.has_more

    rows, more = await page_of_mode(fetch, caller.mode, query.limit, query.starting_after)
    return models.Page(data=[models.Payment.of(row) for row in rows], has_more=more)


@router.get("/{payment_id}", operation_id="retrieve_payment", responses=problems_of("not_found"))
async def retrieve(deps: Deps, caller: _Reading, payment_id: str) -> models.Payment:
    """The payment as it is now."""
    return models.Payment.of(await _own(deps, caller, payment_id))
