"""All calls of a node: takes INVITEs in or refuses them, hands what happens to the call it concerns.

The user agent's handler. Admission is decided at once, from facts that are read in microseconds; a line is
counted from that moment on, so that two INVITEs in one packet cannot both take the last one. Then the call is
recorded, its media leg is made, and the customer's leg is answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from media.protocol import DTMFMode, Remote
from sipivr.calls import admission
from sipivr.calls.admission import Admitted, Facts, Refusal, Refused
from sipivr.calls.call import Call
from sipivr.calls.call_record import CallRecord
from sipivr.calls.lines import Lines
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaRefused, MediaWorker
from sipivr.calls.media_ports import FamilyMissing, PortsExhausted
from sipivr.calls.rate import CallRate
from sipivr.calls.services import Services
from sipivr.calls.srtp import ExposedKeys
from sipivr.dialogue import Dialogue
from sipivr.store import write
from sipivr.store.identifiers import new_id
from sipivr.store.records import Call as CallRow
from sipivr.store.records import Leg as LegRow
from sipivr.store.records import Trunk
from sipivr.ua.edge import EdgeRefusal
from sipivr.ua.identity import CalledFrom, CallIdentity, IdentityRules, identify, read_nothing
from sipivr.ua.ladder import LadderEntry
from sipivr.ua.negotiation import MediaTerms, NegotiatedAudio
from sipivr.ua.ports import IncomingInvite, SIPCause, SIPLeg
from sipivr.ua.sdes import SRTPPolicy
from sipivr.ua.sdp import Codec, NotAcceptable, SDPError, SessionDescription

log = logging.getLogger(__name__)


#: RFC 3261 §20.43.
_INCOMPATIBLE_ADDRESS: Final = {"Warning": '301 sipivr "Incompatible network address formats"'}
_STRANGER: Final = admission.refused(Refusal.TRUNK_UNKNOWN)


class Switchboard:
    """See the module.

    Args:
        services: the rest of the house.
        country_code: for national numbers.
        rate: of new calls.
        max_calls: at once on this node.
        dialogue: makes the conversation for one called number's language and its identification lengths.
    """

    def __init__(
        self,
        services: Services,
        *,
        country_code: str,
        rate: CallRate,
        max_calls: int,
        dialogue: Callable[[str, int], Dialogue],
    ) -> None:
        self._services = services
        self._country_code = country_code
        self._rate = rate
        self._max_calls = max_calls
        self._make_dialogue = dialogue
        self._calls: dict[int, Call] = {}
        self._settling: set[Call] = set()
        self._exposed = ExposedKeys(services.count)
        self._lines = Lines()
        self._channels = Lines()
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        services.media.on_arrival(self._worker_arrived)

    # -- for the control socket and the drain -----------------------------------------------------------

    @property
    def calls(self) -> tuple[Call, ...]:
        """Those with a living leg."""
        return tuple(self._calls.values())

    @property
    def lines_taken(self) -> int:
        """Over all numbers."""
        return self._lines.total

    @property
    def settling(self) -> int:
        """Calls whose leg has ended and whose payment has not."""
        return len(self._settling)

    def call(self, id: str) -> Call | None:
        """A living call by its record's id."""
        return next((call for call in self._calls.values() if call.id == id), None)

    def call_of_session(self, session: str) -> Call | None:
        """The living call that has claimed a payment session."""
        return next(
            (call for call in self._calls.values() if call.session and call.session.id == session), None
        )

    async def drain(self, timeout_s: float) -> None:
        """No new calls; running ones may finish for so long, then they are ended."""
        self.draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("%d calls are ended by the shutdown", len(self._calls))
            for call in self.calls:
                call.hang_up()

    def hurry(self) -> None:
        """A second signal: calls are not waited for any longer."""
        for call in self.calls:
            call.hang_up()

    # -- a new call -------------------------------------------------------------------------------------

    def incoming(self, leg: SIPLeg, invite: IncomingInvite) -> None:
        """See `UAHandler`. pjsua wants our SDP before this returns, so the RTP port is chosen here as well."""
        trunk = self._services.directory.trunk(invite.trunk)
        identity = identify(invite.reading, self._rules(trunk))
        verdict = admission.decide(self._facts(trunk, identity))
        if isinstance(verdict, Admitted) and invite.offer_error is not None:
            verdict = Refused(Refusal.SDP_UNUSABLE, invite.offer_error.status)
        if isinstance(verdict, Refused) or trunk is None:
            self._refuse(leg, verdict if isinstance(verdict, Refused) else _STRANGER, trunk, identity)
            return
        call_id, leg_id = new_id("call"), new_id("leg")
        record = CallRecord(call_id, leg_id, leg, self._services)
        call = Call(
            call_id,
            number=verdict.number,
            merchant=verdict.merchant,
            trunk=trunk.id,
            sip=leg,
            record=record,
            dialogue=self._make_dialogue(
                verdict.number.language or verdict.merchant.language, verdict.merchant.identification_digits
            ),
            services=self._services,
            over=self._over,
        )
        try:
            sdp = self._open_media(call, invite, trunk)
        except SDPError as error:
            warning = _INCOMPATIBLE_ADDRESS if isinstance(error, FamilyMissing) else {}
            self._refuse(leg, Refused(Refusal.SDP_UNUSABLE, error.status, warning), trunk, identity)
            return
        except (MediaRefused, PortsExhausted) as error:
            log.error("a call is refused: %s", error)
            self._refuse(leg, admission.refused(Refusal.MEDIA_UNAVAILABLE), trunk, identity)
            return
        self._exposed.note(trunk.id, invite.transport, invite.offer, sdp)
        if invite.offer is not None:
            leg.prepare(sdp)
        self._calls[leg.number] = call
        self._lines.take(verdict.number.id)
        self._channels.take(trunk.id)
        self._empty.clear()
        self._services.ladders.claim(leg.call_id)
        # Queued now, ahead of whatever a CANCEL in the next packet will have to record.
        recorded = self._record_start(call, leg_id, trunk, identity)
        self._services.background(self._answer(call, sdp, recorded, trunk, identity))

    def _open_media(self, call: Call, invite: IncomingInvite, trunk: Trunk) -> SessionDescription:
        """Chooses worker and port, and makes our answer (or, without an offer, our offer).

        Raises:
            MediaRefused, PortsExhausted: no worker, no port.
            SDPError: nothing in common, not even the address family.
        """
        audio = invite.offer.audio if invite.offer else None
        call.media = media = MediaLeg(
            self._services.media,
            call,
            remote=Remote(audio.address, audio.port) if audio and audio.address else None,
            terms=_terms(trunk),
            advertised=self._services.media_addresses,
            symmetric=trunk.rules.symmetric_rtp,
            dtmf=DTMFMode(trunk.rules.dtmf.value),
            signalled=invite.source_address or None,
        )
        if invite.offer is None:
            return media.negotiator.offer()
        try:
            sdp, call.agreed = media.answer(invite.offer)
        except (SDPError, PortsExhausted):
            media.remove()
            raise
        return sdp

    def _rules(self, trunk: Trunk | None) -> IdentityRules:
        if trunk is None:
            return IdentityRules(country_code=self._country_code)
        return IdentityRules(
            called_from=tuple(CalledFrom(place.value) for place in trunk.rules.called_from),
            trust_asserted=trunk.trust_identity,
            # From is a caller's own claim: it counts only where the trunk belongs to one merchant.
            trust_from=trunk.merchant is not None,
            country_code=self._country_code,
        )

    def _facts(self, trunk: Trunk | None, identity: CallIdentity) -> Facts:
        directory = self._services.directory
        number = directory.number(identity.called_candidates)
        merchant = directory.merchant(number.merchant) if number else None
        allowed = bool(
            merchant and identity.caller and directory.caller_allowed(merchant.id, identity.caller)
        )
        return Facts(
            trunk=trunk,
            draining=self.draining,
            overloaded=len(self._calls) >= self._max_calls or not self._rate.take(time.monotonic()),
            number=number,
            merchant=merchant,
            caller=identity.caller,
            caller_allowed=allowed,
            calls_on_trunk=self._channels.taken(trunk.id) if trunk else 0,
            calls_on_number=self._lines.taken(number.id) if number else 0,
        )

    def _refuse(
        self,
        leg: SIPLeg,
        verdict: Refused,
        trunk: Trunk | None,
        identity: CallIdentity,
        id: str | None = None,
    ) -> None:
        """Refuses an INVITE; the record is a new one, or `id` where the store has not taken that yet."""
        services = self._services
        services.count(f"refused_{verdict.refusal.value}")
        leg.refuse(verdict.status, dict(verdict.headers))
        self._record_refusal(verdict.refusal.value, verdict.status, trunk, identity, id)

    def _record_refusal(
        self, refusal: str, status: int, trunk: Trunk | None, identity: CallIdentity, id: str | None = None
    ) -> None:
        services = self._services
        number = services.directory.number(identity.called_candidates)
        if trunk is not None and trunk.merchant is not None and number is not None:
            number = number if number.merchant == trunk.merchant else None
        merchant = services.directory.merchant(number.merchant) if number else None
        services.record(
            write.call_refused,
            refusal=refusal,
            sip_status=status,
            called=next(iter(identity.called_candidates), ""),
            node=services.node,
            merchant=merchant.id if merchant else None,
            number=number.id if number else None,
            caller=None if identity.private else identity.caller,
            caller_withheld="private" if identity.private else identity.no_caller_reason or None,
            mode=merchant.mode if merchant else None,
            id=id,
        )

    def _record_start(
        self, call: Call, leg_id: str, trunk: Trunk, identity: CallIdentity
    ) -> asyncio.Future[tuple[CallRow | BaseException, LegRow | BaseException]]:
        """Queues the call's and its leg's first rows; the results say which of them the store has taken."""
        writer = self._services.writer
        return asyncio.gather(
            writer.enqueue(
                write.call_started,
                id=call.id,
                merchant=call.merchant.id,
                number=call.number.id,
                called=call.number.e164,
                caller=None if identity.private else identity.caller,
                caller_withheld="private" if identity.private else None,
                mode=call.merchant.mode,
                node=self._services.node,
            ),
            writer.enqueue(
                write.leg_started,
                id=leg_id,
                call=call.id,
                party="customer",
                sip_call_id=call.sip.call_id,
                trunk=trunk.id,
            ),
            return_exceptions=True,
        )

    async def _answer(
        self,
        call: Call,
        sdp: SessionDescription,
        recorded: asyncio.Future[tuple[CallRow | BaseException, LegRow | BaseException]],
        trunk: Trunk,
        identity: CallIdentity,
    ) -> None:
        """Once the call is recorded, makes the worker take the leg, and answers; or refuses with the reason."""
        leg = call.sip
        begun, leg_begun = await recorded
        if isinstance(begun, BaseException):
            log.error("call %s is refused after admission: %s", call.id, begun)
            call.refused(Refusal.STORE_UNAVAILABLE, recorded=False)
            verdict = admission.refused(Refusal.STORE_UNAVAILABLE)
            self._refuse(leg, verdict, trunk, identity, call.id)
            return
        if isinstance(leg_begun, BaseException):
            self._give_up(call, Refusal.STORE_UNAVAILABLE, leg_begun)
            return
        if leg.cause is not None or call.media is None:  # CANCEL came while we wrote
            return
        try:
            await call.media.add(call.agreed)
        except MediaRefused as error:
            self._give_up(call, Refusal.MEDIA_UNAVAILABLE, error)
            return
        leg.answer(sdp)

    def _give_up(self, call: Call, refusal: Refusal, error: BaseException) -> None:
        log.error("call %s is refused after admission: %s: %s", call.id, refusal.value, error)
        self._services.count(f"refused_{refusal.value}")
        call.refused(refusal.value, recorded=True)
        verdict = admission.refused(refusal)
        call.sip.refuse(verdict.status, dict(verdict.headers))

    # -- UAHandler --------------------------------------------------------------------------------------

    def answered(self, leg: SIPLeg, sdp: SessionDescription | None) -> None:
        """ACK has come: the conversation begins."""
        call = self._calls.get(leg.number)
        if call is None or call.media is None:
            return
        if sdp is not None:
            try:
                self._agree(call, call.media, call.media.accept(sdp))
            except SDPError as error:
                log.warning("call %s: the answer to our offer is unusable: %s", call.id, error)
                leg.hang_up()
                return
        call.connected()

    def reoffered(self, leg: SIPLeg, offer: SessionDescription | None) -> SessionDescription:
        """re-INVITE or UPDATE: hold, un-hold, a new address; masks and playlists stay."""
        call = self._calls.get(leg.number)
        if call is None or call.media is None:
            raise NotAcceptable("the call has no media leg")
        media = call.media
        if offer is None:
            return media.negotiator.offer()
        port = media.port
        try:
            sdp, agreed = media.answer(offer)
        except (SDPError, PortsExhausted) as error:
            log.warning("call %s: a change of its media is refused: %s", call.id, error)
            self._services.count("media_changes_refused")
            raise error if isinstance(error, SDPError) else NotAcceptable(str(error)) from error
        if media.port != port:
            self._services.count("rtp_ports_moved")
        self._agree(call, media, agreed)
        return sdp

    def reanswered(self, leg: SIPLeg, sdp: SessionDescription) -> None:
        """The peer's answer to an offer of ours inside the call; one that we cannot follow ends the call."""
        call = self._calls.get(leg.number)
        if call is None or call.media is None:
            return
        try:
            followed = self._agree(call, call.media, call.media.accept(sdp))
        except SDPError as error:
            log.warning("call %s: the answer to our offer is unusable: %s", call.id, error)
            self._services.count("media_changes_refused")
            leg.hang_up()
            return
        call.reanswered(followed)

    def _agree(self, call: Call, media: MediaLeg, agreed: NegotiatedAudio) -> asyncio.Future[None]:
        """Both ends have agreed on something new: the worker has to follow, or the call is not what SIP says."""
        call.agreed = agreed
        followed, worker = media.update(agreed), media.worker
        followed.add_done_callback(lambda answer: self._followed(call, worker, answer))
        return followed

    def _followed(self, call: Call, worker: MediaWorker, answer: asyncio.Future[None]) -> None:
        # What a lost worker did not do, its successor will.
        if answer.cancelled() or answer.exception() is None or worker.closed or call.sip.cause is not None:
            return
        log.error("call %s: its media could not follow what was agreed; ending it", call.id)
        self._services.count("media_updates_refused")
        call.sip.hang_up(500)

    def reoffer_failed(self, leg: SIPLeg, status: int) -> None:
        """The call goes on as it was."""
        log.info("a re-INVITE of ours was refused with %d", status)
        call = self._calls.get(leg.number)
        if call is not None:
            call.reoffer_failed(status)

    def info_key(self, leg: SIPLeg, key: int, duration_ms: int) -> None:
        """A key by SIP INFO."""
        call = self._calls.get(leg.number)
        if call is not None:
            call.info_key(key)

    def ended(self, leg: SIPLeg, cause: SIPCause) -> None:
        """A leg is over."""
        call = self._calls.pop(leg.number, None)
        if call is None:
            self._services.ladders.forget(leg.call_id)
            return
        self._settling.add(call)
        self._lines.free(call.number.id)
        self._channels.free(call.trunk)
        if not self._lines:
            self._empty.set()
        call.sip_ended(cause)

    def fault(self, leg: SIPLeg | None, error: BaseException) -> None:
        """An exception in a handler of ours: the user agent is ending the leg with 500."""
        self._services.count("ua_faults")
        call = self._calls.get(leg.number) if leg is not None else None
        if call is not None:
            call.fault(error)
        else:
            log.error("fault in the user agent: %s", type(error).__name__)

    def turned_away(self, refusal: EdgeRefusal) -> None:
        """A trunk's INVITE that the edge refused leaves a record."""
        self._services.ladders.forget(refusal.call_id)
        self._services.count(f"edge_{refusal.reason}")
        trunk = self._services.directory.trunk(refusal.trunk)
        reading = refusal.reading or read_nothing(refusal.call_id)
        self._record_refusal(
            f"edge_{refusal.reason}", refusal.status, trunk, identify(reading, self._rules(trunk))
        )

    def ladder(self, entry: LadderEntry) -> None:
        """One SIP message."""
        self._services.ladders.add(entry)

    def ringing(self, leg: SIPLeg, status: int) -> None:
        """We dial nobody yet."""

    def early_media(self, leg: SIPLeg, status: int, sdp: SessionDescription) -> None:
        """We dial nobody yet."""

    def referred(self, leg: SIPLeg, refer_to: str) -> None:
        """Nobody may transfer our leg."""

    # -- bookkeeping ------------------------------------------------------------------------------------

    def _worker_arrived(self, worker: MediaWorker) -> None:
        for call in self.calls:
            call.worker_arrived(worker)

    def _over(self, call: Call) -> None:
        self._settling.discard(call)


def _terms(trunk: Trunk) -> MediaTerms:
    codecs = tuple(Codec[name.value] for name in trunk.rules.codecs)
    return MediaTerms(codecs=codecs, srtp=SRTPPolicy(trunk.srtp.value))
