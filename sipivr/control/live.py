"""Commands to running calls: who may give them, and what becomes of them.

An operator's commands are for calls that are theirs: answered at their extension, claimed on their desk, or of a
payment session that they have registered. Administrators and API keys with the permission may speak to every call
of their merchant.
"""

from __future__ import annotations

import logging
import re
from typing import Final, Protocol, TypeAlias

from sipivr.control.authorise import merchant_of
from sipivr.control.failed import Failed
from sipivr.control.messages import (
    ClaimCall,
    DialCustomer,
    ErrorCode,
    HangUpCall,
    ResetField,
    StartCapture,
    TakeBack,
)
from sipivr.store.records import Actor, Call, PaymentSession, Principal, Role

log = logging.getLogger(__name__)

#: A customer's number, and how long it may ring.
_E164: Final = re.compile(r"^\+[1-9][0-9]{2,14}$", re.ASCII)
_RING_S: Final = (10, 120)

LiveCommand: TypeAlias = HangUpCall | StartCapture | TakeBack | ResetField | ClaimCall


class LiveDirectory(Protocol):
    """What the checks look up."""

    def call(self, id: str, /) -> Call | None:
        """A call."""
        ...

    def session(self, id: str, /) -> PaymentSession | None:
        """A payment session."""
        ...


class LiveControl(Protocol):
    """The running calls; `sipivr.calls` implements it."""

    async def hang_up(self, call: str, /) -> bool:
        """Ends a running call; False if it does not run here (any more)."""
        ...

    async def start_capture(self, call: str, session: str, /) -> str | None:
        """Begins the capture of a session on an inline call; the reason if it does not begin."""
        ...

    async def take_back(self, call: str, /) -> bool:
        """The operator wants the customer back; False if nothing is being captured."""
        ...

    async def reset_field(self, call: str, /) -> bool:
        """The current field is asked for again; False if nothing is being captured."""
        ...

    def operator_of(self, call: str, /) -> tuple[str | None, str | None]:
        """What was rung for the operator who is on the call, and the principal that has claimed it."""
        ...

    async def dial(
        self, number: str, to: str, session: str | None, /, *, ring_s: int, merchant: str, by: Actor
    ) -> str:
        """Calls a customer; the call's id.

        Raises:
            Failed: why not.
        """
        ...

    def claim(self, call: str, principal: str, /) -> bool:
        """Ties a call to a principal's desk; False if it is not inline or somebody else has it."""
        ...


class LiveCommands:
    """See the module.

    Args:
        directory: calls and sessions as stored.
        calls: the running ones.
    """

    def __init__(self, directory: LiveDirectory, calls: LiveControl) -> None:
        self._directory = directory
        self._calls = calls

    async def __call__(
        self, command: LiveCommand, principal: Principal
    ) -> dict[str, str | int | bool | None]:
        """Does what the command says; answers with the call's id.

        Raises:
            Failed: not this principal's call, or the call is not in that state.
        """
        call = self._directory.call(command.call)
        if call is None or (principal.merchant is not None and call.merchant != principal.merchant):
            raise Failed(ErrorCode.NOT_FOUND, "no such call")
        match command:
            case ClaimCall():
                if not self._calls.claim(call.id, principal.id):
                    raise Failed(
                        ErrorCode.CONFLICT, "somebody else has this call, or it is not inline", call.id
                    )
            case HangUpCall():
                self._check_tie(principal, call)
                if not await self._calls.hang_up(call.id):
                    raise Failed(ErrorCode.CONFLICT, "the call has ended", call.id)
                log.info("call %s is hung up by %s", call.id, principal.id)
            case StartCapture(session=session):
                self._check_tie(principal, call)
                check_operator(self._directory, principal, session)
                refusal = await self._calls.start_capture(call.id, session)
                if refusal is not None:
                    raise Failed(ErrorCode.CONFLICT, refusal, call.id)
            case TakeBack():
                self._check_tie(principal, call)
                if not await self._calls.take_back(call.id):
                    raise Failed(ErrorCode.CONFLICT, "no capture is running on this call", call.id)
            case ResetField():
                self._check_tie(principal, call)
                if not await self._calls.reset_field(call.id):
                    raise Failed(ErrorCode.CONFLICT, "no capture is running on this call", call.id)
        return {"call": call.id}

    async def dial(
        self, command: DialCustomer, principal: Principal, actor: Actor
    ) -> dict[str, str | int | bool | None]:
        """Calls a customer; an operator's call is claimed by that operator.

        Raises:
            Failed: it is not made.
        """
        if not _E164.match(command.to):
            raise Failed(ErrorCode.INVALID, "to: a number in E.164 (+81...)")
        if not _RING_S[0] <= command.ring_s <= _RING_S[1]:
            raise Failed(ErrorCode.INVALID, f"ring_s: {_RING_S[0]} to {_RING_S[1]}")
        if command.session is not None:
            check_operator(self._directory, principal, command.session)
        call = await self._calls.dial(
            command.number,
            command.to,
            command.session,
            ring_s=command.ring_s,
            merchant=merchant_of(principal),
            by=actor,
        )
        if principal.role is Role.OPERATOR:
            self._calls.claim(call, principal.id)
        return {"call": call}

    def _check_tie(self, principal: Principal, call: Call) -> None:
        if principal.role is not Role.OPERATOR:
            return
        target, claimed_by = self._calls.operator_of(call.id)
        if claimed_by is not None:
            tied = claimed_by == principal.id
        else:
            tied = principal.extension is not None and principal.extension == _user(target)
        if not tied:
            if call.session is None:
                raise Failed(ErrorCode.FORBIDDEN, "another operator's call")
            check_operator(self._directory, principal, call.session)


def check_operator(directory: LiveDirectory, principal: Principal, session: str) -> None:
    """An operator's commands are for sessions that the same operator has registered.

    Raises:
        Failed: it is another's, or none of the merchant's.
    """
    found = directory.session(session)
    if found is None or (principal.merchant is not None and found.merchant != principal.merchant):
        raise Failed(ErrorCode.NOT_FOUND, "no such payment session")
    if principal.role is Role.OPERATOR and found.created_by != principal.id:
        raise Failed(ErrorCode.FORBIDDEN, "another operator's payment session")


def _user(target: str | None) -> str | None:
    """The extension in what was rung: the user part of a URI."""
    if target is None or "@" not in target:
        return None
    return target.split(":", 1)[1].rpartition("@")[0]
