"""What an operator does to a running inline call: claim it, begin a capture, reset a field, take the customer back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api import inputs, models
from api.auth import Caller, Deps, address, scope
from api.dependencies import Dependencies
from api.idempotency import IdempotencyKey, Outcome
from api.routes import WRITE_PROBLEMS, problems_of
from api.routes.calls import own
from sipivr.control import messages

router: Final = APIRouter(prefix="/v1/calls", tags=["calls"])

_Writing = Annotated[Caller, Depends(scope("calls:write"))]
_PROBLEMS: Final = problems_of(*WRITE_PROBLEMS, "not_found")


async def _command(
    request: Request,
    deps: Dependencies,
    caller: Caller,
    call_id: str,
    command: Callable[[str, str], messages.AnyCommand],
) -> Response:
    """Has a command carried out on the caller's call and answers with the call as it is then."""
    caller.may_write()
    call = await own(deps, caller, call_id)

    async def execute() -> Outcome:
        await deps.switch.command(command(caller.principal, address(request)))
        return Outcome(200, await present(call.id), call.id)

    async def present(_: str) -> models.Call:
        return models.Call.of(await own(deps, caller, call.id))

    return await deps.idempotency.answer(request, caller.principal, execute, present)


@router.post(
    "/{call_id}/capture", operation_id="start_capture", response_model=models.Call, responses=_PROBLEMS
)
async def capture(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    call_id: str,
    body: inputs.CaptureStart,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Begins the capture of an open payment session; the operator's side is masked from this moment on.

    409 `conflict` when no operator is on the call, another capture runs, or the session cannot be taken.
    """
    return await _command(
        request,
        deps,
        caller,
        call_id,
        lambda principal, source: messages.StartCapture(
            principal=principal, source=source, call=call_id, session=body.payment_session
        ),
    )


@router.post(
    "/{call_id}/take_back", operation_id="take_back_customer", response_model=models.Call, responses=_PROBLEMS
)
async def take_back(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    call_id: str,
    body: inputs.Empty | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ends a running capture: keys are discarded at once, and customer and operator talk again when it is safe.

    409 `conflict` when no capture is running.
    """
    return await _command(
        request,
        deps,
        caller,
        call_id,
        lambda principal, source: messages.TakeBack(principal=principal, source=source, call=call_id),
    )


@router.post(
    "/{call_id}/reset_field", operation_id="reset_field", response_model=models.Call, responses=_PROBLEMS
)
async def reset_field(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    call_id: str,
    body: inputs.Empty | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """The field that is being keyed is asked for again from its start. 409 `conflict` when no capture is running."""
    return await _command(
        request,
        deps,
        caller,
        call_id,
        lambda principal, source: messages.ResetField(principal=principal, source=source, call=call_id),
    )


@router.post("/{call_id}/claim", operation_id="claim_call", response_model=models.Call, responses=_PROBLEMS)
async def claim(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    call_id: str,
    body: inputs.Empty | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ties a running inline call to the caller: other operators cannot command it any more.

    409 `conflict` when somebody else has claimed it, or it is not inline.
    """
    return await _command(
        request,
        deps,
        caller,
        call_id,
        lambda principal, source: messages.ClaimCall(principal=principal, source=source, call=call_id),
    )
