"""A telephone whose lines are operators' desks as well. What a desk does is in its name, the user part of the URI.

`busy…` refuses with 486, `silent…` rings and never answers, `early…` lets the caller hear something before it answers;
every other desk answers at once. Calls wait in a queue for each desk.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from bench.telephone.phone import PhoneCall, Telephone
from sipivr.ua.ports import IncomingInvite, SIPLeg
from sipivr.ua.sdp import SessionDescription


class Desks(Telephone):
    """See the module."""

    def __init__(self, *, lines: int = 32, record: bool = True) -> None:
        super().__init__(lines=lines, record=record)
        self.named: dict[str, str] = {}
        """Desks by what is dialled, where that is not their name."""
        self._ringing: dict[str, asyncio.Queue[PhoneCall]] = defaultdict(asyncio.Queue)
        self._answered: dict[str, asyncio.Queue[PhoneCall]] = defaultdict(asyncio.Queue)
        self._desk: dict[int, str] = {}
        self._answers: dict[int, Callable[[], None]] = {}

    def uri(self, desk: str) -> str:
        """What is dialled to reach a desk."""
        return f"sip:{desk}@127.0.0.1:{self.port}"

    async def ringing_at(self, desk: str, timeout_s: float = 10.0) -> PhoneCall:
        """The next call that rings at a desk that does not answer by itself."""
        async with asyncio.timeout(timeout_s):
            return await self._ringing[desk].get()

    async def call_at(self, desk: str, timeout_s: float = 10.0) -> PhoneCall:
        """The next call that a desk has answered."""
        async with asyncio.timeout(timeout_s):
            return await self._answered[desk].get()

    def pick_up(self, call: PhoneCall) -> None:
        """Answers a call that rings."""
        self._answers.pop(call.sip.number)()

    def incoming(self, leg: SIPLeg, invite: IncomingInvite) -> None:
        """See the module."""
        reading = invite.reading
        desk = (reading.request_uri.user if reading.request_uri else None) or ""
        desk = self.named.get(desk, desk)
        if desk.startswith("busy") or invite.offer is None or not self.lines_free:
            leg.refuse(486)
            return
        port, negotiator = self._line()
        call = self._adopt(leg, port, negotiator)
        call.caller = (reading.from_.user if reading.from_ else None) or ""
        self._desk[leg.number] = desk
        sdp, agreed = negotiator.answer(invite.offer)
        leg.prepare(sdp)
        self._answers[leg.number] = lambda: leg.answer(sdp)
        if desk.startswith("silent"):
            leg.ring()
            self._ringing[desk].put_nowait(call)
            return
        call.agree(agreed)
        if desk.startswith("early"):
            leg.ring(sdp, 183)
            self._ringing[desk].put_nowait(call)
        else:
            self.pick_up(call)

    def answered(self, leg: SIPLeg, sdp: SessionDescription | None) -> None:
        """A desk's call is up, or one that we have dialled."""
        if leg.outgoing:
            super().answered(leg, sdp)
            return
        call = self._calls[leg.number]
        call.on_up()
        self._answered[self._desk[leg.number]].put_nowait(call)
