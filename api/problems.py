"""Every error of the API: one catalogue, one shape (RFC 9457).

A route raises `Problem(code)`; whatever else goes wrong (validation, routing, a fault of ours) is brought
into the same shape here. No problem repeats a value that was sent: it could be what must not be stored.
"""

from __future__ import annotations

import difflib
import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"

# code: (status, title). The reference at /docs and the OpenAPI document are made from this table.
CATALOGUE: Final[Mapping[str, tuple[int, str]]] = types.MappingProxyType(
    {
        "malformed_body": (400, "The body is not JSON."),
        "malformed_request": (400, "The request is not HTTP as this API speaks it."),
        "invalid_cursor": (400, "The cursor names no object of this list."),
        "invalid_version": (400, "This version of the API does not exist."),
        "invalid_idempotency_key": (400, "The Idempotency-Key is empty, too long or not printable ASCII."),
        "not_authenticated": (401, "No valid credentials."),
        "missing_scope": (403, "The key does not have the scope that this needs."),
        "forbidden": (403, "This principal may not do that."),
        "not_found": (404, "No such object."),
        "no_such_route": (404, "No such path."),
        "method_not_allowed": (405, "The path does not take this method."),
        "timed_out": (408, "The body did not arrive in time."),
        "order_in_progress": (409, "A payment session of this order is open."),
        "order_already_paid": (409, "The order is paid."),
        "conflict": (409, "The object's present state does not allow that."),
        "idempotency_key_reused": (409, "The Idempotency-Key was used with another request."),
        "idempotency_key_in_use": (409, "A request with this Idempotency-Key is still running."),
        "body_too_large": (413, "The body is too large."),
        "unsupported_media_type": (415, "The body must be application/json."),
        "validation_failed": (422, "The request has fields that are wrong."),
        "card_data_refused": (422, "Card numbers must never be sent to this API."),
        "rate_limited": (429, "Too many requests."),
        "locked_out": (429, "Too many failed log-ins."),
        "too_many_streams": (429, "Too many event streams."),
        "internal": (500, "A fault of ours."),
        "switch_unavailable": (503, "The switch does not answer; reads still work."),
        "store_unavailable": (503, "The records cannot be read at the moment."),
        "identification_numbers_exhausted": (503, "All identification numbers are in use."),
    }
)


class Problem(Exception):
    """An answer other than success.

    Args:
        code: a code of the catalogue.
        detail: what is wrong this time, for a person; None for the title alone.
        errors: what is wrong with which field.
        headers: Retry-After and the like.
        related: the object that is in the way.
    """

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        related: str | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status, self.title = CATALOGUE[code]
        self.detail = detail
        self.errors = errors or []
        self.headers = dict(headers or {})
        self.related = related

    def document(self, instance: str, request_id: str) -> dict[str, Any]:
        """The body as RFC 9457 §3 has it, with our members."""
        found: dict[str, Any] = {
            "type": f"/docs#{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail or self.title,
            "instance": instance,
            "code": self.code,
            "errors": self.errors,
            "request_id": request_id,
        }
        if self.related is not None:
            found["related"] = self.related
        return found

    def response(self, scope: Mapping[str, Any]) -> Response:
        """The answer to the request of this ASGI scope."""
        request_id = scope.get("state", {}).get("request_id", "")
        return Response(
            json.dumps(self.document(scope["path"], request_id), ensure_ascii=False),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers=self.headers,
        )


def pointer(location: typing.Sequence[int | str]) -> str:
    """The field as a JSON pointer for bodies (RFC 6901), by name for anything else."""
    if location[:1] == ("body",):
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location[1:])
    return ".".join(str(part) for part in location)


@functools.cache
def _models(endpoint: object) -> tuple[type[BaseModel], ...]:
    hints = typing.get_type_hints(endpoint) if callable(endpoint) else {}
    return tuple(
        part
        for name, hint in hints.items()
        for part in (hint, *typing.get_args(hint))
        if name != "return" and isinstance(part, type) and issubclass(part, BaseModel)
    )


def takes_query(endpoint: object) -> bool:
    """Whether a route has a model of its query parameters (by convention its name ends in `Query`)."""
    return any(model.__name__.endswith("Query") for model in _models(endpoint))


def _nearest(endpoint: object, unknown: str, where: str) -> str:
    names = [
        name
        for model in _models(endpoint)
        for name in model.model_fields
        if (model.__name__.endswith("Query")) == (where == "query")
    ]
    close = difflib.get_close_matches(unknown, names, n=1, cutoff=0.5)
    if close:
        return f"No such field; the nearest is `{close[0]}`."
    return (
        f"No such field; there are {', '.join(f'`{name}`' for name in names)}." if names else "No such field."
    )


def from_validation(request: Request, error: RequestValidationError) -> Problem:
    """What pydantic found, field by field, without the values."""
    found: list[dict[str, str]] = []
    for item in error.errors():
        location = tuple(item["loc"])
        if item["type"] == "json_invalid":
            return Problem("malformed_body")
        if item["type"] == "card_data":
            return Problem("card_data_refused", errors=[{"field": pointer(location), "message": item["msg"]}])
        message, code = str(item["msg"]), str(item["type"])
        if code == "extra_forbidden":
            message = _nearest(request.scope.get("endpoint"), str(location[-1]), str(location[0]))
            code = "unknown_field"
            # The name is the caller's text: short, and without anything that a terminal would act on.
            location = (*location[:-1], "".join(c for c in str(location[-1])[:40] if c.isprintable()))
        found.append({"field": pointer(location), "code": code, "message": message})
    return Problem("validation_failed", errors=found)


def from_http(error: HTTPException) -> Problem:
    """What Starlette and FastAPI raise by themselves."""
    code = {
        401: "not_authenticated",
        404: "no_such_route",
        405: "method_not_allowed",
        413: "body_too_large",
        415: "unsupported_media_type",
    }.get(error.status_code, "malformed_request" if error.status_code < 500 else "internal")
    if error.status_code == 400 and "body" in str(error.detail).lower():
        code = "malformed_body"
    return Problem(code, headers=error.headers)
