"""Telephone numbers: what they are used for, and where their inline calls go."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request

from api import inputs, models
from api.auth import Caller, Deps, address, scope
from api.dependencies import Dependencies
from api.problems import Problem
from api.routes import problems_of
from sipivr.control import messages
from sipivr.store import read

router: Final = APIRouter(prefix="/v1/numbers", tags=["merchant"])


async def _number(deps: Dependencies, caller: Caller, number_id: str) -> models.Number:
    rows = await deps.reader.run(read.numbers, caller.merchant)
    found = next((row for row in rows if row.id == number_id), None)
    if found is None:
        raise Problem("not_found")
    return models.Number.of(found)


@router.get("/{number_id}", operation_id="retrieve_number", responses=problems_of("not_found"))
async def retrieve(
    deps: Deps, caller: Annotated[Caller, Depends(scope("numbers:read"))], number_id: str
) -> models.Number:
    """One of the merchant's numbers."""
    return await _number(deps, caller, number_id)


@router.patch(
    "/{number_id}",
    operation_id="change_number",
    responses=problems_of(
        "not_found",
        "malformed_body",
        "forbidden",
        "body_too_large",
        "unsupported_media_type",
        "switch_unavailable",
    ),
)
async def change(
    request: Request,
    deps: Deps,
    caller: Annotated[Caller, Depends(scope("numbers:write"))],
    number_id: str,
    body: inputs.NumberChange,
) -> models.Number:
    """Changes where the number's inline calls go; calls that begin from now on follow it.

    A destination is reached by a trunk that the platform has opened for it, and by no other way.
    """
    caller.may_write()
    await _number(deps, caller, number_id)
    await deps.switch.command(
        messages.SetNumberRules(
            principal=caller.principal,
            source=address(request),
            number=number_id,
            rules=body.rules.model_dump(),
        )
    )
    return await _number(deps, caller, number_id)
