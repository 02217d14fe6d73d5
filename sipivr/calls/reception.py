"""The reception: takes an INVITE in or refuses it, and brings an admitted call to its beginning.

Admission is decided at once, from facts that are read in microseconds; a line is counted from that moment on, so
that two INVITEs in one packet cannot both take the last one. Then the call is recorded, its media leg is made, and
the call begins: a transfer is answered, an inline call rings for an operator.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final, Protocol

from media.protocol import DTMFMode, Remote
from sipivr.calls import admission
from sipivr.calls.admission import Admitted, Facts, Refusal, Refused
from sipivr.calls.call import Call
from sipivr.calls.call_record import CallRecord
from sipivr.calls.claimed import claimed_dialogue
from sipivr.calls.dialling import Dialler, media_terms, pairs
from sipivr.calls.inline import InlineCall
from sipivr.calls.leg_record import LegRecord
from sipivr.calls.lines import Lines
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaRefused
from sipivr.calls.media_ports import FamilyMissing, PortsExhausted
from sipivr.calls.rate import CallRate
from sipivr.calls.returning import ReturningCall
from sipivr.calls.services import Services
from sipivr.calls.side import Side
from sipivr.calls.srtp import ExposedKeys
from sipivr.calls.transfer import TransferCall
from sipivr.dialogue import Dialogue, DialogueParams, Ending, SessionSnapshot
from sipivr.store import write
from sipivr.store.errors import StoreError
from sipivr.store.identification import UNLISTED_CALLER_DIGITS
from sipivr.store.identifiers import new_id
from sipivr.store.records import Call as CallRow
from sipivr.store.records import Leg as LegRow
from sipivr.store.records import Number, NumberUse, Trunk
from sipivr.ua.edge import EdgeRefusal
from sipivr.ua.identity import CalledFrom, CallIdentity, IdentityRules, identify, read_nothing
from sipivr.ua.ports import IncomingInvite, SIPLeg
from sipivr.ua.sdp import SDPError, SessionDescription

log = logging.getLogger(__name__)


#: RFC 3261 §20.43.
_INCOMPATIBLE_ADDRESS: Final = {"Warning": '301 sipivr "Incompatible network address formats"'}
_STRANGER: Final = admission.refused(Refusal.TRUNK_UNKNOWN)


@dataclass(frozen=True, slots=True)
class ReceptionRules:
    """What the node's settings say of new calls.

    Attributes:
        country_code: for national numbers.
        max_calls: at once on this node.
        dialogue: times and limits of every conversation.
    """

    country_code: str
    max_calls: int
    dialogue: DialogueParams


class Register(Protocol):
    """Who keeps the calls: the switchboard."""

    draining: bool

    def admit(self, call: Call, side: Side) -> None:
        """A call has come to be; its customer's leg is `side`."""

    def over(self, call: Call) -> None:
        """Nothing is left of a call."""


class Reception:
    """See the module.

    Args:
        services: the rest of the house.
        rules: of this node.
        rate: of new calls.
        lines, channels: calls by number, legs by trunk.
        dialler: for calls that need an operator.
        register: keeps the calls.
    """

    def __init__(
        self,
        services: Services,
        rules: ReceptionRules,
        *,
        rate: CallRate,
        lines: Lines,
        channels: Lines,
        dialler: Dialler,
        register: Register,
    ) -> None:
        self._services = services
        self._rules = rules
        self._rate = rate
        self._lines = lines
        self._channels = channels
        self._dialler = dialler
        self._register = register
        self._exposed = ExposedKeys(services.count)

    def incoming(self, leg: SIPLeg, invite: IncomingInvite) -> None:
        """See `UAHandler`. pjsua wants our SDP before this returns, so the RTP port is chosen here as well."""
        trunk = self._services.directory.trunk(invite.trunk)
        identity = identify(invite.reading, self._identity_rules(trunk))
        looped = self._services.node in invite.reading.hop_marks
        verdict = admission.decide(self._facts(trunk, identity, looped=looped))
        if isinstance(verdict, Admitted) and invite.offer_error is not None:
            verdict = Refused(Refusal.SDP_UNUSABLE, invite.offer_error.status)
        if isinstance(verdict, Refused) or trunk is None:
            self._refuse(leg, verdict if isinstance(verdict, Refused) else _STRANGER, trunk, identity)
            return
        call = self._call(verdict, identity, offered=invite.offer is not None)
        leg_id = new_id("leg")
        side = call.customer = Side(
            "customer",
            trunk=trunk.id,
            sip=leg,
            record=LegRecord(call.id, leg_id, leg, "customer", self._services),
            owner=call,
            services=self._services,
        )
        try:
            sdp = self._open_media(side, invite, trunk)
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
        self._register.admit(call, side)
        self._lines.take(verdict.number.id)
        self._channels.take(trunk.id)
        self._services.ladders.claim(leg.call_id)
        # Queued now, ahead of whatever a CANCEL in the next packet will have to record.
        recorded = self._record_start(call, leg_id, trunk, identity)
        self._services.background(self._begin(call, sdp, recorded, trunk, identity))

    def _call(self, admitted: Admitted, identity: CallIdentity, *, offered: bool) -> Call:
        number, merchant = admitted.number, admitted.merchant
        id = new_id("call")
        kind = _kind_of(number)
        call = kind(
            id,
            number=number,
            merchant=merchant,
            record=CallRecord(id, self._services),
            services=self._services,
            over=self._register.over,
        )
        if isinstance(call, InlineCall):
            call.route(
                dialler=self._dialler,
                dialogue=self._claimed_dialogue,
                caller=None if identity.private else identity.caller,
                offered=offered,
                longest_s=self._rules.dialogue.call_s,
            )
        if isinstance(call, TransferCall | ReturningCall):
            alone = number.use is NumberUse.SELF_SERVICE
            together = Ending.BRIDGE if isinstance(call, ReturningCall) else Ending.TRANSFER_RETURN
            digits = UNLISTED_CALLER_DIGITS if alone else merchant.identification_digits
            call.converse(
                Dialogue(
                    language=number.language or merchant.language,
                    identification_lengths=(digits,),
                    ending=Ending.GOODBYE if alone else together,
                    params=self._rules.dialogue,
                )
            )
        return call

    def _claimed_dialogue(self, session: SessionSnapshot, ending: Ending) -> Dialogue:
        return Dialogue(
            language=session.language, ending=ending, params=self._rules.dialogue, session=session
        )

    def _open_media(self, side: Side, invite: IncomingInvite, trunk: Trunk) -> SessionDescription:
        """Chooses worker and port, and makes our answer (or, without an offer, our offer).

        Raises:
            MediaRefused, PortsExhausted: no worker, no port.
            SDPError: nothing in common, not even the address family.
        """
        audio = invite.offer.audio if invite.offer else None
        side.media = media = MediaLeg(
            self._services.media,
            side,
            remote=Remote(audio.address, audio.port) if audio and audio.address else None,
            terms=media_terms(trunk),
            advertised=self._services.media_addresses,
            symmetric=trunk.rules.symmetric_rtp,
            dtmf=DTMFMode(trunk.rules.dtmf.value),
            signalled=invite.source_address or None,
        )
        if invite.offer is None:
            return media.negotiator.offer()
        try:
            sdp, side.agreed = media.answer(invite.offer)
        except (SDPError, PortsExhausted):
            media.remove()
            raise
        return sdp

    def _identity_rules(self, trunk: Trunk | None) -> IdentityRules:
        if trunk is None:
            return IdentityRules(country_code=self._rules.country_code)
        return IdentityRules(
            called_from=tuple(CalledFrom(place.value) for place in trunk.rules.called_from),
            trust_asserted=trunk.trust_identity,
            # From is a caller's own claim: it counts only where the trunk belongs to one merchant.
            trust_from=trunk.merchant is not None,
            country_code=self._rules.country_code,
            called_rewrite=pairs(trunk.rules.called_rewrite),
            caller_rewrite=pairs(trunk.rules.caller_rewrite),
        )

    def _facts(self, trunk: Trunk | None, identity: CallIdentity, *, looped: bool) -> Facts:
        directory = self._services.directory
        number = directory.number(identity.called_candidates)
        merchant = directory.merchant(number.merchant) if number else None
        allowed = bool(
            merchant and identity.caller and directory.caller_allowed(merchant.id, identity.caller)
        )
        blocked = bool(
            merchant and identity.caller and directory.caller_blocked(merchant.id, identity.caller)
        )
        return Facts(
            trunk=trunk,
            draining=self._register.draining,
            overloaded=self._lines.total >= self._rules.max_calls or not self._rate.take(time.monotonic()),
            number=number,
            merchant=merchant,
            caller=identity.caller,
            caller_allowed=allowed,
            calls_on_trunk=self._channels.taken(trunk.id) if trunk else 0,
            calls_on_number=self._lines.taken(number.id) if number else 0,
            caller_blocked=blocked,
            looped=looped,
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
                sip_call_id=call.customer.sip.call_id,
                trunk=trunk.id,
            ),
            return_exceptions=True,
        )

    async def _begin(
        self,
        call: Call,
        sdp: SessionDescription,
        recorded: asyncio.Future[tuple[CallRow | BaseException, LegRow | BaseException]],
        trunk: Trunk,
        identity: CallIdentity,
    ) -> None:
        """Once the call is recorded, makes the worker take the leg, and begins; or refuses with the reason."""
        side = call.customer
        leg = side.sip
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
        if leg.cause is not None or side.media is None:  # CANCEL came while we wrote
            return
        try:
            await side.media.add(side.agreed)
        except MediaRefused as error:
            self._give_up(call, Refusal.MEDIA_UNAVAILABLE, error)
            return
        await self._match(call)
        if leg.cause is None:
            call.begin(sdp)

    async def _match(self, call: Call) -> None:
        """A transfer whose caller exactly one open session names needs no identification number."""
        services = self._services
        if call.number.use is not NumberUse.TRANSFER_IN or not isinstance(call, TransferCall | ReturningCall):
            return
        try:
            session = await services.writer.run(
                write.claim_by_caller, merchant=call.merchant.id, call=call.id
            )
        except StoreError as error:
            log.warning("call %s: no session was looked for by its caller: %s", call.id, error)
            return
        shop = services.directory.shop(session.shop) if session is not None else None
        if session is None or shop is None:
            return
        if not shop.active:
            services.record(write.release_claim, session=session.id, call=call.id)
            return
        services.count("matched_by_caller")
        ending = Ending.BRIDGE if isinstance(call, ReturningCall) else Ending.TRANSFER_RETURN
        dialogue = claimed_dialogue(
            services, session, shop, call.merchant, ending=ending, params=self._rules.dialogue
        )
        call.converse(dialogue, session=session, shop=shop)

    def _give_up(self, call: Call, refusal: Refusal, error: BaseException) -> None:
        log.error("call %s is refused after admission: %s: %s", call.id, refusal.value, error)
        self._services.count(f"refused_{refusal.value}")
        call.refused(refusal.value, recorded=True)
        verdict = admission.refused(refusal)
        call.customer.sip.refuse(verdict.status, dict(verdict.headers))

    def turned_away(self, refusal: EdgeRefusal) -> None:
        """A trunk's INVITE that the edge refused leaves a record."""
        self._services.ladders.forget(refusal.call_id)
        self._services.count(f"edge_{refusal.reason}")
        trunk = self._services.directory.trunk(refusal.trunk)
        reading = refusal.reading or read_nothing(refusal.call_id)
        self._record_refusal(
            f"edge_{refusal.reason}", refusal.status, trunk, identify(reading, self._identity_rules(trunk))
        )


def _kind_of(number: Number) -> type[TransferCall | InlineCall]:
    """How a call of this number goes."""
    if number.use is NumberUse.INLINE:
        return InlineCall
    returns = number.use is NumberUse.TRANSFER_IN and number.rules.destinations
    return ReturningCall if returns else TransferCall
