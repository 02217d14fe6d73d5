"""All calls of a node: keeps them, and hands what happens on a leg to the side that it concerns.

The user agent's handler. New calls come by way of the reception.
"""

from __future__ import annotations

import asyncio
import logging

from sipivr.calls.call import Call
from sipivr.calls.dialling import Dialler
from sipivr.calls.lines import Lines
from sipivr.calls.media_link import MediaWorker
from sipivr.calls.outgoing import DialOrder, Outgoing
from sipivr.calls.rate import CallRate
from sipivr.calls.reception import Reception, ReceptionRules
from sipivr.calls.services import Services
from sipivr.calls.side import Side, SideOwner
from sipivr.ua.edge import EdgeRefusal
from sipivr.ua.ladder import LadderEntry
from sipivr.ua.ports import IncomingInvite, SIPCause, SIPLeg, UserAgent
from sipivr.ua.sdp import NotAcceptable, SessionDescription

log = logging.getLogger(__name__)


class Switchboard:
    """See the module.

    Args:
        services: the rest of the house.
        rules: of this node, for new calls.
        rate: of new calls.
    """

    def __init__(self, services: Services, rules: ReceptionRules, *, rate: CallRate) -> None:
        self._services = services
        self._calls: dict[str, Call] = {}
        self._sides: dict[int, tuple[Call, Side]] = {}
        self._lines = Lines()
        self._channels = Lines()
        self._dialler = Dialler(services, self._channels, self._adopt)
        self._reception = Reception(
            services,
            rules,
            rate=rate,
            lines=self._lines,
            channels=self._channels,
            dialler=self._dialler,
            register=self,
        )
        self._outgoing = Outgoing(
            services, rules, rate=rate, lines=self._lines, dialler=self._dialler, register=self
        )
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        services.media.on_arrival(self._worker_arrived)

    def use(self, agent: UserAgent, domain: str) -> None:
        """The user agent that dials for us, and the host that our From names."""
        self._dialler.use(agent, domain)

    # -- for the control socket and the drain -----------------------------------------------------------

    @property
    def calls(self) -> tuple[Call, ...]:
        """Those with a living leg."""
        return tuple(call for call in self._calls.values() if call.sides)

    @property
    def lines_taken(self) -> int:
        """Over all numbers."""
        return self._lines.total

    @property
    def settling(self) -> int:
        """Calls whose legs have ended and whose payment has not."""
        return sum(not call.sides for call in self._calls.values())

    def call(self, id: str) -> Call | None:
        """A living call by its record's id."""
        found = self._calls.get(id)
        return found if found is not None and found.sides else None

    def call_of_session(self, session: str) -> Call | None:
        """The living call that has claimed a payment session."""
        return next((call for call in self.calls if call.session and call.session.id == session), None)

    async def dial(self, order: DialOrder) -> Call:
        """Calls a customer; see `Outgoing.call`."""
        return await self._outgoing.call(order)

    async def drain(self, timeout_s: float) -> None:
        """No new calls; running ones may finish for so long, then they are ended."""
        self.draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("%d calls are ended by the shutdown", len(self.calls))
            self.hurry()

    def hurry(self) -> None:
        """A second signal: calls are not waited for any longer."""
        for call in self.calls:
            call.hang_up()

    # -- `Register` -------------------------------------------------------------------------------------

    def admit(self, call: Call, side: Side) -> None:
        """See `Register`."""
        self._calls[call.id] = call
        self._sides[side.sip.number] = (call, side)
        self._empty.clear()

    def over(self, call: Call) -> None:
        """See `Register`."""
        self._calls.pop(call.id, None)

    def _adopt(self, owner: SideOwner, side: Side) -> None:
        """A leg that we have dialled; a customer's brings its call with it."""
        if side.party == "customer" and isinstance(owner, Call):
            owner.customer = side
            self.admit(owner, side)
            return
        self._sides[side.sip.number] = (self._calls[owner.id], side)

    # -- UAHandler --------------------------------------------------------------------------------------

    def incoming(self, leg: SIPLeg, invite: IncomingInvite) -> None:
        """See `UAHandler`."""
        self._reception.incoming(leg, invite)

    def ringing(self, leg: SIPLeg, status: int) -> None:
        """See `UAHandler`."""
        if (side := self._side(leg)) is not None:
            side.ringing()

    def early_media(self, leg: SIPLeg, status: int, sdp: SessionDescription) -> None:
        """See `UAHandler`."""
        if (side := self._side(leg)) is not None:
            side.ringing(sdp)

    def answered(self, leg: SIPLeg, sdp: SessionDescription | None) -> None:
        """See `UAHandler`."""
        if (side := self._side(leg)) is not None:
            side.answered(sdp)

    def reoffered(self, leg: SIPLeg, offer: SessionDescription | None) -> SessionDescription:
        """See `UAHandler`."""
        side = self._side(leg)
        if side is None:
            raise NotAcceptable("the call has no media leg")
        return side.reoffered(offer)

    def reanswered(self, leg: SIPLeg, sdp: SessionDescription) -> None:
        """See `UAHandler`."""
        if (side := self._side(leg)) is not None:
            side.reanswered(sdp)

    def reoffer_failed(self, leg: SIPLeg, status: int) -> None:
        """See `UAHandler`."""
        log.info("a re-INVITE of ours was refused with %d", status)
        if (side := self._side(leg)) is not None:
            side.reoffer_failed(status)

    def info_key(self, leg: SIPLeg, key: int, duration_ms: int) -> None:
        """See `UAHandler`."""
        if (side := self._side(leg)) is not None:
            side.info_key(key)

    def ended(self, leg: SIPLeg, cause: SIPCause) -> None:
        """See `UAHandler`."""
        call, side = self._sides.pop(leg.number, (None, None))
        if call is None or side is None:
            self._services.ladders.forget(leg.call_id)
            return
        self._channels.free(side.trunk)
        if side is call.customer:
            self._lines.free(call.number.id)
        if not self._lines:
            self._empty.set()
        side.sip_ended(cause)

    def fault(self, leg: SIPLeg | None, error: BaseException) -> None:
        """An exception in a handler of ours: the user agent is ending the leg with 500."""
        self._services.count("ua_faults")
        side = self._side(leg) if leg is not None else None
        if side is not None:
            side.fault(error)
        else:
            log.error("fault in the user agent: %s", type(error).__name__)

    def turned_away(self, refusal: EdgeRefusal) -> None:
        """See `UAHandler`."""
        self._reception.turned_away(refusal)

    def ladder(self, entry: LadderEntry) -> None:
        """One SIP message."""
        self._services.ladders.add(entry)

    def referred(self, leg: SIPLeg, refer_to: str) -> None:
        """Nobody may transfer our leg; it has been refused."""
        self._services.count("refers_refused")

    def transferred(self, leg: SIPLeg, status: int, *, final: bool) -> None:
        """See `UAHandler`."""
        if (side := self._side(leg)) is not None:
            side.transferred(status, final=final)

    # -- bookkeeping ------------------------------------------------------------------------------------

    def _side(self, leg: SIPLeg) -> Side | None:
        found = self._sides.get(leg.number)
        return found[1] if found is not None else None

    def _worker_arrived(self, worker: MediaWorker) -> None:
        for call in self.calls:
            call.worker_arrived(worker)
