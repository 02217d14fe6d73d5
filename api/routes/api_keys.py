"""API keys: made, listed and revoked by an administrator with name and password.

Not by a key: one that leaks could then make itself successors that outlive its revocation.
"""

from __future__ import annotations

import logging
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api import inputs, logs, models
from api.auth import Administrator, Deps, address, administrator
from api.dependencies import Dependencies
from api.idempotency import IdempotencyKey, Outcome
from api.problems import Problem
from api.routes import WRITE_PROBLEMS, problems_of
from api.store import keys
from sipivr.control import messages

router: Final = APIRouter(prefix="/v1/api_keys", tags=["api_keys"])

_Admin = Annotated[Administrator, Depends(administrator)]
_logger = logging.getLogger("api.keys")


def _shown(key: keys.APIKey, secret: str | None = None) -> models.APIKey:
    shown = models.APIKey.of(key)
    shown.secret = secret
    return shown


async def _own(deps: Dependencies, admin: Administrator, key_id: str) -> keys.APIKey:
    key = await deps.store.run(keys.of_merchant, key_id, admin.merchant.id)
    if key is None:
        raise Problem("not_found")
    return key


@router.post(
    "",
    operation_id="create_api_key",
    status_code=201,
    response_model=models.APIKey,
    responses=problems_of(*WRITE_PROBLEMS, "locked_out"),
)
async def create(
    *,
    request: Request,
    deps: Deps,
    admin: _Admin,
    body: inputs.APIKeyCreate,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Makes a key with a principal of its own. `secret` is shown in this answer and never again."""
    if body.mode is not None and body.mode != admin.merchant.mode:
        raise Problem("forbidden", f"The merchant is in {admin.merchant.mode} mode.")
    scopes = tuple(dict.fromkeys(body.scopes))

    async def execute() -> Outcome:
        result = await deps.switch.command(
            messages.RegisterPrincipal(
                principal=admin.principal,
                source=address(request),
                name=body.name,
                role="api_key",
                permissions=scopes,
            )
        )
        secret = keys.new_secret(admin.merchant.mode)
        key = await deps.store.run(
            keys.add,
            secret,
            name=body.name,
            mode=admin.merchant.mode,
            principal=str(result["principal"]),
            merchant=admin.merchant.id,
            scopes=scopes,
            created_by=admin.principal,
        )
        return Outcome(201, _shown(key, secret.text), key.id, kept=_shown(key))

    async def present(key_id: str) -> models.APIKey:
        return _shown(await _own(deps, admin, key_id))

    return await deps.idempotency.answer(request, admin.principal, execute, present)


@router.get("", operation_id="list_api_keys", responses=problems_of("invalid_cursor", "locked_out"))
async def list_(
    deps: Deps, admin: _Admin, query: Annotated[inputs.PageQuery, Query()]
) -> models.Page[models.APIKey]:
    """Newest first, revoked ones too."""
    rows = await deps.store.run(
        keys.page, admin.merchant.id, limit=query.limit, starting_after=query.starting_after
    )
    if rows is None:
        raise Problem("invalid_cursor")
    shown = [_shown(row) for row in rows[: query.limit]]
    return models.Page(data=shown, has_more=len(rows) > query.limit)


@router.post(
    "/{key_id}/revoke",
    operation_id="revoke_api_key",
    response_model=models.APIKey,
    responses=problems_of(*WRITE_PROBLEMS, "not_found", "locked_out"),
)
async def revoke(
    *,
    request: Request,
    deps: Deps,
    admin: _Admin,
    key_id: str,
    body: inputs.Empty | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """From this answer on the key is refused and its event streams are closed, with the switch down too."""
    key = await _own(deps, admin, key_id)

    async def execute() -> Outcome:
        await deps.store.run(keys.revoke, key.id, by=admin.principal)
        deps.live.drop_key(key.id)
        await retire_principals(deps)
        return Outcome(200, await present(key.id), key.id)

    async def present(revoked_id: str) -> models.APIKey:
        return _shown(await _own(deps, admin, revoked_id))

    return await deps.idempotency.answer(request, admin.principal, execute, present)


async def retire_principals(deps: Dependencies) -> None:
    """Tells the switch about revoked keys' principals; what it cannot hear now is told again later."""
    for key, revoked_by in await deps.store.run(keys.unretired):
        try:
            await deps.switch.command(
                messages.DeactivatePrincipal(principal=revoked_by, target=key.principal)
            )
        except Problem as problem:
            if problem.status >= 500:
                return
            # The administrator is gone or the principal is: nobody will ever carry this out.
            logs.say(_logger, logging.WARNING, "principal_not_retired", key=key.id, code=problem.code)
        await deps.store.run(keys.note_retired, key.id)
