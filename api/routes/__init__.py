"""The routes of `/v1` and of operation, a module for each resource."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request

from api.models import ProblemDocument
from api.problems import CATALOGUE, MEDIA_TYPE, Problem, takes_query


def problems_of(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: which problems it can answer, by status, for the OpenAPI document."""
    always = ("malformed_request", "not_authenticated", "missing_scope", "rate_limited", "store_unavailable")
    by_status: dict[int, list[str]] = {}
    for code in (*codes, *always, "validation_failed", "internal"):
        by_status.setdefault(CATALOGUE[code][0], []).append(code)
    return {
        status: {
            "description": "; ".join(f"`{code}`: {CATALOGUE[code][1]}" for code in dict.fromkeys(names)),
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}},
        }
        for status, names in sorted(by_status.items())
    }


WRITE_PROBLEMS: Final = (
    "malformed_body",
    "forbidden",
    "conflict",
    "idempotency_key_reused",
    "idempotency_key_in_use",
    "invalid_idempotency_key",
    "body_too_large",
    "switch_unavailable",
)


async def refuse_unknown_parameters(request: Request) -> None:
    """A misspelt filter must not silently become no filter; routes with a query model say it."""
    if request.query_params and not takes_query(request.scope.get("endpoint")):
        raise Problem(
            "validation_failed",
            errors=[
                {"field": "", "code": "unknown_field", "message": "This path takes no query parameters."}
            ],
        )
