"""The outermost layer: request ids, limits of bodies, headers on every answer, access log, figures.

Plain ASGI, because Starlette's own middleware class would buffer event streams. The body is read here, whole
and bounded, before any route runs: what a route gets has a size that we chose and arrived in a time that we
chose.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import logs
from api.problems import Problem

VERSION: Final = "2026-11-23"
VERSION_HEADER: Final = "Sipivr-Version"
MAX_BODY_BYTES: Final = 65_536
BODY_TIMEOUT_S: Final = 10.0

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_logger = logging.getLogger("api.access")


class Figures:
    """What the API counts about itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "sipivr_api_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "sipivr_api_request_seconds", "Time to the answer's head.", ["method", "route"], registry=registry
        )


class Front:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else f"req_{secrets.token_hex(12)}"
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        started = time.monotonic()
        status: int | None = None
        sent_bytes = 0
        head_s = 0.0

        async def front_send(message: Message) -> None:
            nonlocal status, sent_bytes, head_s
            if message["type"] == "http.response.start":
                status, head_s = message["status"], time.monotonic() - started
                out = MutableHeaders(scope=message)
                out["X-Request-Id"] = request_id
                out[VERSION_HEADER] = VERSION
                out["X-Content-Type-Options"] = "nosniff"
                out.setdefault("Cache-Control", "no-store")
                for name, value in state.get("headers", {}).items():
                    out.setdefault(name, value)
                if scope.get("scheme") == "https":
                    out["Strict-Transport-Security"] = "max-age=31536000"
            elif message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            try:
                body = await _accepted_body(headers, receive)
            except Problem as problem:
                # The rest of a refused body stays unread: the connection cannot be used again.
                problem.headers["Connection"] = "close"
                await problem.response(scope)(scope, receive, front_send)
            else:
                await self._app(scope, _replayed(body, receive), front_send)
        except Exception as error:
            logs.say(
                _logger,
                logging.ERROR,
                "fault",
                request_id=request_id,
                exception=type(error).__name__,
                where=logs.where(error.__traceback__),
            )
            if status is None:
                await Problem("internal").response(scope)(scope, receive, front_send)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._figures.requests.labels(method, route, str(status or 499)).inc()
            self._figures.seconds.labels(method, route).observe(head_s)
            client = scope.get("client")
            logs.say(
                _logger,
                logging.INFO,
                "request",
                request_id=request_id,
                method=method,
                route=route,
                status=status or 499,
                head_ms=round(head_s * 1000, 1),
                total_ms=round((time.monotonic() - started) * 1000, 1),
                bytes=sent_bytes,
                peer=client[0] if client else None,
                key=state.get("key_id"),
            )


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


async def _accepted_body(headers: Headers, receive: Receive) -> bytes:
    if headers.get(VERSION_HEADER, VERSION) != VERSION:
        raise Problem("invalid_version", f"The version of this API is {VERSION}.")
    body = await _read_body(headers, receive)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        raise Problem("unsupported_media_type")
    return body


async def _read_body(headers: Headers, receive: Receive) -> bytes:
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise Problem("body_too_large", f"At most {MAX_BODY_BYTES} bytes.")
    if not length and "transfer-encoding" not in headers:
        return b""
    chunks = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return bytes(chunks)
                chunks += message.get("body", b"")
                if len(chunks) > MAX_BODY_BYTES:
                    raise Problem("body_too_large", f"At most {MAX_BODY_BYTES} bytes.")
                if not message.get("more_body"):
                    return bytes(chunks)
    except TimeoutError:
        raise Problem("timed_out") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then whatever the server has to say (a disconnect)."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
