"""The switch, as routes see it: commands that are carried out or end in a problem.

While the control socket is down every command ends at once in 503 `switch_unavailable`; nothing is queued,
because a payment that was asked for a minute ago is not a payment that is wanted now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from api.problems import Problem
from sipivr.control import messages
from sipivr.control.client import ControlClient, Notice, SwitchUnavailable
from sipivr.control.messages import ErrorCode

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


class Switch:
    """The one connection to the control socket; `listen` makes and keeps it."""

    def __init__(self, path: Path) -> None:
        self._client = ControlClient(path)

    async def command(self, command: messages.AnyCommand) -> Result:
        """Has a command carried out.

        Raises:
            Problem: it was refused, or the switch does not answer.
        """
        try:
            reply = await self._client.request(command)
        except SwitchUnavailable as error:
            detail = (
                "The switch has not answered; it may have carried this out. Look before you try again."
                if error.sent
                else None
            )
            raise Problem("switch_unavailable", detail, headers=_RETRY_AFTER) from None
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

    async def connected(self, timeout_s: float) -> bool:
        """Waits for the switch; False if it does not come in time."""
        return await self._client.wait_connected(timeout_s)

    async def listen(self, on_notice: Callable[[Notice], None]) -> None:
        """Keeps the connection and passes notices on; runs as a task of the application."""
        await self._client.start()
        async for notice in self._client.notices():
            on_notice(notice)

    async def close(self) -> None:
        """Ends the connection."""
        await self._client.close()
