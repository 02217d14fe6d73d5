"""What a merchant has on the switch: shops and numbers."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from api import inputs, models
from api.auth import Caller, Deps, scope
from api.problems import Problem
from api.routes import problems_of
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
