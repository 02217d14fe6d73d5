"""A merchant's own settings, and what it has on the switch: shops and numbers."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request

from api import inputs, models
from api.auth import Caller, Deps, address, scope
from api.dependencies import Dependencies
from api.problems import Problem
from api.routes import problems_of
from sipivr.control import messages
from sipivr.store import read, records

router: Final = APIRouter(tags=["merchant"])


def _cut(
    rows: tuple[records.Shop, ...] | tuple[records.Number, ...], query: inputs.PageQuery
) -> tuple[list[records.Shop | records.Number], bool]:
    """A page of a list that is short by nature (a merchant has dozens of numbers, not thousands)."""
    start = 0
    if query.starting_after is not None:
        ids = [row.id for row in rows]
        if query.starting_after not in ids:
            raise Problem("invalid_cursor")
        start = ids.index(query.starting_after) + 1
    return list(rows[start : start + query.limit]), len(rows) > start + query.limit


async def _merchant(deps: Dependencies, caller: Caller) -> models.Merchant:
    row = await deps.reader.run(read.merchant, caller.merchant)
    if row is None:
        raise Problem("not_found")
    return models.Merchant.of(row)


@router.get("/v1/merchant", operation_id="retrieve_merchant", responses=problems_of("not_found"))
async def retrieve(deps: Deps, caller: Annotated[Caller, Depends(scope("merchant:read"))]) -> models.Merchant:
    """The merchant that the key is of, with its settings."""
    return await _merchant(deps, caller)


@router.patch(
    "/v1/merchant",
    operation_id="change_merchant",
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
    caller: Annotated[Caller, Depends(scope("merchant:write"))],
    body: inputs.MerchantChange,
) -> models.Merchant:
    """Changes settings; captures that begin from now on follow them."""
    caller.may_write()
    await deps.switch.command(
        messages.SetMasks(
            principal=caller.principal,
            source=address(request),
            mask=body.mask,
            bridge_mask=body.bridge_mask,
        )
    )
    return await _merchant(deps, caller)


@router.get("/v1/shops", operation_id="list_shops", responses=problems_of("invalid_cursor"))
async def shops(
    deps: Deps,
    caller: Annotated[Caller, Depends(scope("shops:read"))],
    query: Annotated[inputs.PageQuery, Query()],
) -> models.Page[models.Shop]:
    """The merchant's shops."""
    rows, more = _cut(await deps.reader.run(read.shops, caller.merchant), query)
    return models.Page(data=[models.Shop.of(row) for row in rows], has_more=more)


@router.get("/v1/numbers", operation_id="list_numbers", responses=problems_of("invalid_cursor"))
async def numbers(
    deps: Deps,
    caller: Annotated[Caller, Depends(scope("numbers:read"))],
    query: Annotated[inputs.PageQuery, Query()],
) -> models.Page[models.Number]:
    """The merchant's telephone numbers."""
    rows, more = _cut(await deps.reader.run(read.numbers, caller.merchant), query)
    return models.Page(data=[models.Number.of(row) for row in rows], has_more=more)
