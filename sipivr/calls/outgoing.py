"""Calls to customers (`dial`): whether one may be made, its record, its leg.

The counterpart of the reception: the same limits in the same order, and one more: only numbers that the trunk's
`outbound_prefixes` allow, by the trunk that the number's rules name (`outbound_trunk`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Final

from sipivr.calls.call_record import CallRecord
from sipivr.calls.claimed import claimed_dialogue
from sipivr.calls.dialling import Dialler, Unreachable
from sipivr.calls.lines import Lines
from sipivr.calls.outbound import OutboundCall
from sipivr.calls.rate import CallRate
from sipivr.calls.reception import ReceptionRules, Register
from sipivr.calls.services import Services
from sipivr.dialogue import Dialogue, Ending
from sipivr.store import reach, write
from sipivr.store.errors import Conflict, StoreError
from sipivr.store.identification import UNLISTED_CALLER_DIGITS
from sipivr.store.identifiers import new_id
from sipivr.store.number_rules import Destination
from sipivr.store.records import Actor, ClaimRefused, Merchant, Number, NumberUse, PaymentSession

log = logging.getLogger(__name__)

#: What a dialled number that could not even be rung is recorded with; SIP has said nothing.
_UNREACHED_STATUS: Final = 503


class DialRefused(Exception):
    """The customer is not called; says why, in a sentence. `invalid`: and never will be, asked like that."""

    def __init__(self, reason: str, *, invalid: bool = False) -> None:
        super().__init__(reason)
        self.invalid = invalid


@dataclass(frozen=True, slots=True)
class DialOrder:
    """What somebody wants.

    Attributes:
        number: id of ours, that the call is made from.
        to: E.164.
        session: payment session that the customer is called for; None: a number is keyed, or an operator begins it.
        ring_s: how long it rings.
        merchant: whose number it has to be.
        by: who wants it.
    """

    number: str
    to: str = field(repr=False)
    session: str | None
    ring_s: int
    merchant: str
    by: Actor


class Outgoing:
    """See the module.

    Args:
        services: the rest of the house.
        rules: of this node.
        rate: of new calls, in both directions.
        lines: calls by number.
        dialler: makes the leg.
        register: keeps the calls.
    """

    def __init__(
        self,
        services: Services,
        rules: ReceptionRules,
        *,
        rate: CallRate,
        lines: Lines,
        dialler: Dialler,
        register: Register,
    ) -> None:
        self._services = services
        self._rules = rules
        self._rate = rate
        self._lines = lines
        self._dialler = dialler
        self._register = register

    async def call(self, order: DialOrder) -> OutboundCall:
        """Rings a customer; returns once the INVITE is out.

        Raises:
            DialRefused: it is not made.
            StoreError: it could not be recorded, so it is not made either.
        """
        number, merchant, destination = self._allowed(order)
        self._lines.take(number.id)
        try:
            call = await self._recorded(number, merchant, order)
            await self._ring(call, destination, order)
        except BaseException:
            self._lines.free(number.id)
            raise
        call.ring_for(order.ring_s)
        return call

    async def _ring(self, call: OutboundCall, destination: Destination, order: DialOrder) -> None:
        """Claims the session and sends the INVITE; a call that comes to nothing here has its record ended."""
        reason: str | None = "fault"
        try:
            await self._converse(call, order.session)
            await self._dialler.ring(
                call,
                destination,
                merchant=call.merchant.id,
                caller=call.number.e164,
                called=call.number.e164,
                beside=None,
                party="customer",
            )
            reason = None
        except Unreachable as error:
            reason = error.reason
            raise DialRefused(f"the customer could not be called: {reason}") from None
        except DialRefused:
            reason = "session_refused"
            raise
        finally:
            if reason is not None:
                self._services.count(f"dial_{reason}")
                self._services.record(
                    write.call_ended,
                    call=call.id,
                    outcome=reason,
                    ended_by="switch",
                    sip_status=_UNREACHED_STATUS,
                )

    def _allowed(self, order: DialOrder) -> tuple[Number, Merchant, Destination]:
        directory, to = self._services.directory, order.to
        number, merchant = directory.number_by_id(order.number), directory.merchant(order.merchant)
        if number is None or merchant is None or number.merchant != merchant.id:
            raise DialRefused("number: no such number", invalid=True)
        if not number.active or not merchant.active:
            raise DialRefused("number: it is switched off", invalid=True)
        trunk_id = number.rules.outbound_trunk
        if trunk_id is None:
            raise DialRefused(
                "number: its rule outbound_trunk is not set, so nobody is called from it", invalid=True
            )
        if number.use is NumberUse.TRANSFER_IN and not number.rules.destinations:
            raise DialRefused(
                "number: a transfer's number needs destinations to call customers from", invalid=True
            )
        if number.use is NumberUse.INLINE and order.session is not None:
            raise DialRefused(
                "payment_session: on an inline number begin the capture when the operator talks with the customer",
                invalid=True,
            )
        destination = Destination(target=to, trunk=trunk_id, ring_s=order.ring_s)
        reason = reach.reason_against(destination, directory.trunk(trunk_id), merchant.id)
        if reason is not None:
            raise DialRefused(reason.replace("target:", "to:"), invalid=True)
        if directory.number((to,)) is not None:
            raise DialRefused("to: a number of this switch would be a loop", invalid=True)
        if directory.caller_blocked(merchant.id, to):
            raise DialRefused("to: this number is blocked", invalid=True)
        if self._register.draining:
            raise DialRefused("the switch is shutting down")
        if self._lines.total >= self._rules.max_calls or not self._rate.take(time.monotonic()):
            raise DialRefused("the switch has too many calls; try again in some seconds")
        if self._lines.taken(number.id) >= number.line_limit:
            raise DialRefused("number: all its lines are taken")
        return number, merchant, destination

    async def _recorded(self, number: Number, merchant: Merchant, order: DialOrder) -> OutboundCall:
        id = new_id("call")
        await self._services.writer.run(
            write.call_started,
            id=id,
            merchant=merchant.id,
            number=number.id,
            called=number.e164,
            caller=order.to,
            mode=merchant.mode,
            node=self._services.node,
            direction="outbound",
            by=order.by,
        )
        call = OutboundCall(
            id,
            number=number,
            merchant=merchant,
            record=CallRecord(id, self._services),
            services=self._services,
            over=self._register.over,
        )
        call.route(
            dialler=self._dialler,
            dialogue=lambda picture, ending: Dialogue(
                language=picture.language, ending=ending, params=self._rules.dialogue, session=picture
            ),
            caller=order.to,
            offered=False,
            longest_s=self._rules.dialogue.call_s,
        )
        return call

    async def _converse(self, call: OutboundCall, session_id: str | None) -> None:
        """Gives the call what it will say: nothing on an inline number, where the operator talks."""
        number, merchant, services = call.number, call.merchant, self._services
        if number.use is NumberUse.INLINE:
            return
        alone = number.use is NumberUse.SELF_SERVICE
        ending = Ending.GOODBYE if alone else Ending.BRIDGE
        if session_id is None:
            digits = UNLISTED_CALLER_DIGITS if alone else merchant.identification_digits
            call.converse(
                Dialogue(
                    language=number.language or merchant.language,
                    identification_lengths=(digits,),
                    ending=ending,
                    params=self._rules.dialogue,
                )
            )
            return
        session = await self._claimed(call, session_id)
        shop = services.directory.shop(session.shop)
        if shop is None or not shop.active:
            raise DialRefused("payment_session: its shop takes no payments now")
        dialogue = claimed_dialogue(
            services, session, shop, merchant, ending=ending, params=self._rules.dialogue
        )
        call.converse(dialogue, session=session, shop=shop)

    async def _claimed(self, call: OutboundCall, session: str) -> PaymentSession:
        try:
            claimed = await self._services.writer.run(
                write.claim_session, merchant=call.merchant.id, session=session, call=call.id
            )
        except Conflict as error:
            raise DialRefused(f"payment_session: {error.detail}") from None
        except StoreError as error:
            log.error("call %s: a session could not be claimed: %s", call.id, error)
            raise DialRefused("the store cannot be written now") from None
        if isinstance(claimed, ClaimRefused):
            raise DialRefused(f"payment_session: it cannot be taken: {claimed.reason.value}")
        return claimed
