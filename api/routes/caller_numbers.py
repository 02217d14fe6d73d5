"""Caller numbers: whose transfers the merchant's numbers take. They are shown masked, also to whom they belong."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api import inputs, models
from api.auth import Caller, Deps, address, scope
from api.dependencies import Dependencies
from api.idempotency import IdempotencyKey, Outcome
from api.problems import Problem
from api.routes import WRITE_PROBLEMS, problems_of
from sipivr.control import messages
from sipivr.store import read

router: Final = APIRouter(prefix="/v1/caller_numbers", tags=["merchant"])

_Reading = Annotated[Caller, Depends(scope("caller_numbers:read"))]
_Writing = Annotated[Caller, Depends(scope("caller_numbers:write"))]


async def _shown(deps: Dependencies, caller: Caller, id: str) -> models.CallerNumber:
    row = await deps.reader.run(read.allowed_caller, caller.merchant, id)
    if row is None:
        raise Problem("not_found")
    return models.CallerNumber.of(row)


@router.post(
    "",
    operation_id="create_caller_number",
    status_code=201,
    response_model=models.CallerNumber,
    responses=problems_of(*WRITE_PROBLEMS, "unsupported_media_type"),
)
async def create(
    *,
    request: Request,
    deps: Deps,
    caller: _Writing,
    body: inputs.CallerNumberCreate,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Takes a caller's transfers from the next call on. A number that is on the list already stays."""
    caller.may_write()

    async def execute() -> Outcome:
        result = await deps.switch.command(
            messages.AllowCaller(principal=caller.principal, source=address(request), number=body.number)
        )
        id = str(result["caller"])
        return Outcome(201, await shown(id), id)

    async def shown(id: str) -> models.CallerNumber:
        return await _shown(deps, caller, id)

    return await deps.idempotency.answer(request, caller.principal, execute, shown)


@router.get("", operation_id="list_caller_numbers", responses=problems_of("invalid_cursor"))
async def list_(
    deps: Deps, caller: _Reading, query: Annotated[inputs.PageQuery, Query()]
) -> models.Page[models.CallerNumber]:
    """In the order of their ids, which means nothing."""
    cursor = query.starting_after
    if cursor is not None and await deps.reader.run(read.allowed_caller, caller.merchant, cursor) is None:
        raise Problem("invalid_cursor")
    page = await deps.reader.run(
        read.allowed_callers, caller.merchant, starting_after=cursor, limit=query.limit
    )
    return models.Page(data=[models.CallerNumber.of(row) for row in page.items], has_more=page.has_more)


@router.get("/{caller_id}", operation_id="retrieve_caller_number", responses=problems_of("not_found"))
async def retrieve(deps: Deps, caller: _Reading, caller_id: str) -> models.CallerNumber:
    """One of them."""
    return await _shown(deps, caller, caller_id)


@router.delete(
    "/{caller_id}",
    operation_id="delete_caller_number",
    status_code=204,
    responses=problems_of("not_found", "forbidden", "switch_unavailable"),
)
async def delete(request: Request, deps: Deps, caller: _Writing, caller_id: str) -> Response:
    """Takes a caller from the list; running calls go on."""
    caller.may_write()
    await _shown(deps, caller, caller_id)
    await deps.switch.command(
        messages.DisallowCaller(principal=caller.principal, source=address(request), caller=caller_id)
    )
    return Response(status_code=204)
