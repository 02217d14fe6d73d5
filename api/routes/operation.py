"""For those who run the switch: health, readiness, figures, and the reference of this API."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.exposition import generate_latest
from starlette.responses import HTMLResponse, JSONResponse, Response

from api import figures, reference
from api.auth import Deps, address, bearer
from api.dependencies import Dependencies
from api.problems import Problem
from api.routes import problems_of
from sipivr.store import read

router: Final = APIRouter(tags=["operation"])

_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="api_key")


@router.get("/healthz", operation_id="health")
async def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="readiness")
async def readiness(deps: Deps) -> JSONResponse:
    """Whether reads, writes and calls work: 503 if one of them does not."""
    records, status = await asyncio.gather(_readable(deps), deps.switch.status())
    # A switch that has just come back answers commands before its media workers have found it again.
    parts = {
        "records": records,
        "switch": status is not None,
        "media": bool(status and status.get("workers")),
    }
    ready = all(parts.values())
    return JSONResponse({"ready": ready, **parts}, status_code=200 if ready else 503)


async def _readable(deps: Dependencies) -> bool:
    try:
        await deps.reader.run(read.newest_sequence)
    except Problem:
        return False
    return True


def _is_loopback(request: Request) -> bool:
    # A proxy on this machine is loopback too; those who ask through one need a key.
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "via", "x-real-ip")):
        return False
    try:
        return ipaddress.ip_address(address(request)).is_loopback
    except ValueError:
        return False


@router.get("/metrics", operation_id="metrics", responses=problems_of(), response_class=Response)
async def metrics(
    request: Request, deps: Deps, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> Response:
    """Figures for Prometheus: from this machine, or with a key that has `metrics:read`."""
    if given is not None or not _is_loopback(request):
        caller = await bearer(request, deps, given)
        if "metrics:read" not in caller.scopes:
            raise Problem("missing_scope", "Needs `metrics:read`.")
    await figures.refresh(request.app.state.switch_figures, deps)
    return Response(await asyncio.to_thread(generate_latest, deps.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The reference as one page without scripts or anything from elsewhere."""
    return HTMLResponse(
        reference.page(request.app.openapi()),
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )
