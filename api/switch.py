"""The switch, as routes see it: commands that are carried out or end in a problem.

One connection to the control socket, kept by `listen`: down → up → down …, tried again with a growing wait. While
it is down every command ends at once in 503 `switch_unavailable`; nothing is queued, because a payment that was
asked for a minute ago is not a payment that is wanted now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from api import logs
from api.problems import Problem
from sipivr.control import messages
from sipivr.control.messages import ErrorCode
from tests.api.shim_client import ControlClient, ControlUnavailable

TIMEOUT_S: Final = 10.0
_LONGEST_WAIT_S: Final = 2.0
_RETRY_AFTER: Final = {"Retry-After": "5"}

# ErrorCode: our problem. What is missing is `internal`: a fault of the switch, said without its detail.
_PROBLEMS: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.INVALID: "validation_failed",
    ErrorCode.NOT_FOUND: "not_found",
    ErrorCode.FORBIDDEN: "forbidden",
    ErrorCode.ORDER_IN_PROGRESS: "order_in_progress",
    ErrorCode.ORDER_ALREADY_PAID: "order_already_paid",
    ErrorCode.IDENTIFICATION_NUMBERS_EXHAUSTED: "identification_numbers_exhausted",
    ErrorCode.CONFLICT: "conflict",
    ErrorCode.UNAVAILABLE: "switch_unavailable",
}

Result = Mapping[str, str | int | bool | None]
Notice = messages.EventNotice | messages.ProgressNotice

_logger = logging.getLogger("api.switch")


class Switch:
    """The one connection to the control socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._client: ControlClient | None = None
        self._up = asyncio.Event()

    async def command(self, command: messages.AnyCommand) -> Result:
        """Has a command carried out.

        Raises:
            Problem: it was refused, or the switch does not answer. After a time-out it may have been carried
                out all the same; the switch's own rules (one open session an order) keep a retry harmless.
        """
        client = self._client
        if client is None:
            raise _unavailable()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reply = await client.request(command)
        except (ControlUnavailable, TimeoutError):
            raise _unavailable() from None
        if reply.error is None:
            return reply.result or {}
        code = _PROBLEMS.get(reply.error, "internal")
        retry = _RETRY_AFTER if code in {"switch_unavailable", "identification_numbers_exhausted"} else None
        detail = reply.detail if code != "internal" else None
        raise Problem(code, detail, headers=retry, related=reply.related)

    async def status(self) -> Result | None:
        """What the switch says of itself; None if it does not answer."""
        try:
            return await self.command(messages.Ping(principal="api"))
        except Problem:
            return None

    async def answers(self) -> bool:
        """Whether commands would be carried out now."""
        return await self.status() is not None

    async def connected(self) -> None:
        """Waits until the connection is up."""
        await self._up.wait()

    async def listen(self, on_notice: Callable[[Notice], None]) -> None:
        """Keeps the connection and passes notices on; runs as a task of the application."""
        wait_s = 0.05
        while True:
            try:
                await self._session(on_notice)
                wait_s = 0.05
            except ControlUnavailable:
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            await asyncio.sleep(wait_s)

    async def _session(self, on_notice: Callable[[Notice], None]) -> None:
        client = ControlClient(self._path, on_notice)
        await client.connect()
        try:
            await client.subscribe()
            self._client = client
            self._up.set()
            logs.say(_logger, logging.INFO, "switch_connected")
            await client.task
        finally:
            self._client = None
            self._up.clear()
            await client.close()
            logs.say(_logger, logging.WARNING, "switch_disconnected")

    async def close(self) -> None:
        """Ends the connection."""
        if self._client is not None:
            await self._client.close()


def _unavailable() -> Problem:
    return Problem("switch_unavailable", headers=_RETRY_AFTER)
