"""Everything that routes need, made once by the composition root (`api.__main__`, or a test)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import Request
from prometheus_client import CollectorRegistry

from api.idempotency import Idempotency
from api.limits import RateLimiter
from api.live import Live
from api.reader import Reader
from api.store.schema import Store
from api.switch import Switch


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What `create_app` takes."""

    store: Store
    reader: Reader
    switch: Switch
    live: Live
    idempotency: Idempotency
    limiter: RateLimiter
    registry: CollectorRegistry
    clock: Callable[[], float] = field(default=time.time)


async def dependencies(request: Request) -> Dependencies:
    """The dependencies of the application that serves this request.

    Async although nothing is awaited: FastAPI sends a plain function to a thread.
    """
    found = request.app.state.dependencies
    assert isinstance(found, Dependencies)
    return found
