"""What is done with a payment after its charge: settle, void, refund, another amount.

Each answers at once with a change that is `pending`; what becomes of it is in the change and told as an event.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from api import inputs, models
from api.auth import Caller, Deps, address, scope
from api.dependencies import Dependencies
from api.idempotency import IdempotencyKey, Outcome
from api.problems import Problem
from api.routes import WRITE_PROBLEMS, problems_of
from sipivr.control import messages
from sipivr.store import read, records

router: Final = APIRouter(prefix="/v1/payments/{payment_id}", tags=["payments"])

_Reading = Annotated[Caller, Depends(scope("payments:read"))]
_Changing = Annotated[Caller, Depends(scope("payments:write"))]
_GivingBack = Annotated[Caller, Depends(scope("refunds:write"))]
_RESPONSES: Final = problems_of(*WRITE_PROBLEMS, "not_found", "unsupported_media_type")

_Amount = Annotated[int, Field(strict=True, ge=1, le=99_999_999, examples=[3000])]


class PaymentChange(models.Output):
    """A change of a payment. `done` and `refused` are final."""

    object: Literal["payment_change"] = "payment_change"
    id: Annotated[str, Field(examples=["chg_01m8ee"])]
    version: int
    payment: str
    kind: records.ChangeKind
    amount: Annotated[
        int | None,
        Field(description="`refund`: what is given back, null for all. `amount`: what it shall be."),
    ]
    status: records.ChangeStatus
    reason: Annotated[
        str | None, Field(description="Why it was refused, in a word.", examples=["not_settled"])
    ]
    error_codes: list[str]
    created_at: models.Time
    closed_at: models.Time | None


class Settle(inputs.Input):
    """Nothing: the whole payment is settled."""


class Void(inputs.Input):
    """Nothing: the whole payment is voided."""


class Refund(inputs.Input):
    """How much is given back; without an amount all of it."""

    amount: _Amount | None = None


class NewAmount(inputs.Input):
    """What the payment shall be."""

    amount: _Amount


async def _own(deps: Dependencies, caller: Caller, payment_id: str) -> records.Payment:
    payment = await deps.reader.run(read.payment, payment_id, merchant=caller.merchant)
    if payment is None or payment.mode is not caller.mode:
        raise Problem("not_found")
    return payment


async def _change(
    request: Request,
    deps: Dependencies,
    caller: Caller,
    payment_id: str,
    command: messages.ChangePayment | messages.GiveBackPayment,
) -> Response:
    caller.may_write()
    await _own(deps, caller, payment_id)

    async def execute() -> Outcome:
        result = await deps.switch.command(command)
        id = str(result["change"])
        return Outcome(202, await shown(id), id)

    async def shown(id: str) -> PaymentChange:
        row = await deps.reader.run(read.payment_change, id, merchant=caller.merchant)
        if row is None:
            raise Problem("not_found")
        return PaymentChange.of(row)

    return await deps.idempotency.answer(request, caller.principal, execute, shown)


@router.post(
    "/settle",
    operation_id="settle_payment",
    status_code=202,
    response_model=PaymentChange,
    responses=_RESPONSES,
)
async def settle(
    *,
    request: Request,
    deps: Deps,
    caller: _Changing,
    payment_id: str,
    body: Settle | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Turns an authorization into a sale."""
    command = messages.ChangePayment(
        principal=caller.principal, source=address(request), payment=payment_id, kind="settle"
    )
    return await _change(request, deps, caller, payment_id, command)


@router.post(
    "/void", operation_id="void_payment", status_code=202, response_model=PaymentChange, responses=_RESPONSES
)
async def void(
    *,
    request: Request,
    deps: Deps,
    caller: _GivingBack,
    payment_id: str,
    body: Void | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Releases an authorization, or undoes a sale on its day."""
    command = messages.GiveBackPayment(
        principal=caller.principal, source=address(request), payment=payment_id, kind="void"
    )
    return await _change(request, deps, caller, payment_id, command)


@router.post(
    "/refund",
    operation_id="refund_payment",
    status_code=202,
    response_model=PaymentChange,
    responses=_RESPONSES,
)
async def refund(
    *,
    request: Request,
    deps: Deps,
    caller: _GivingBack,
    payment_id: str,
    body: Refund | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Gives a sale back, all or a part; the switch chooses the gateway's way by the calendar."""
    command = messages.GiveBackPayment(
        principal=caller.principal,
        source=address(request),
        payment=payment_id,
        kind="refund",
        amount=body.amount if body is not None else None,
    )
    return await _change(request, deps, caller, payment_id, command)


@router.post(
    "/amount",
    operation_id="change_payment_amount",
    status_code=202,
    response_model=PaymentChange,
    responses=_RESPONSES,
)
async def amount(
    *,
    request: Request,
    deps: Deps,
    caller: _Changing,
    payment_id: str,
    body: NewAmount,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Gives an authorization or a sale another amount."""
    command = messages.ChangePayment(
        principal=caller.principal,
        source=address(request),
        payment=payment_id,
        kind="amount",
        amount=body.amount,
    )
    return await _change(request, deps, caller, payment_id, command)


@router.get("/changes", operation_id="list_payment_changes", responses=problems_of("not_found"))
async def list_(deps: Deps, caller: _Reading, payment_id: str) -> models.Page[PaymentChange]:
    """Oldest first, all of them."""
    await _own(deps, caller, payment_id)
    rows = await deps.reader.run(read.payment_changes, payment_id)
    return models.Page(data=[PaymentChange.of(row) for row in rows], has_more=False)
