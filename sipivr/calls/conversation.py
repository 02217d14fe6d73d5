"""The shell around one dialogue: gives it what happens, and does what it wants.

Timers, prompts, the claim, the charge and what desks see are dealt with here; what concerns the legs (masks,
hanging up, handing back) is the host's, the call. A conversation may outlive its call: a charge on its way
goes on until its outcome is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, Protocol

from sipivr.calls.call_record import CallRecord
from sipivr.calls.charging import (
    ChargeApproved,
    ChargeDeclined,
    ChargeImpossible,
    ChargeResult,
    ChargeUnknown,
    OnlyTestCards,
    Resolved,
)
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.services import Services
from sipivr.calls.snapshots import snapshot
from sipivr.dialogue import Dialogue, effects, events
from sipivr.store import write
from sipivr.store.errors import StoreError
from sipivr.store.records import ClaimRefused, Merchant, PaymentSession, RefusalReason, Shop

log = logging.getLogger(__name__)

_REFUSALS: Final = {
    RefusalReason.WRONG: events.RefusalReason.WRONG,
    RefusalReason.EXPIRED: events.RefusalReason.EXPIRED,
    RefusalReason.USED: events.RefusalReason.USED,
    RefusalReason.FOREIGN: events.RefusalReason.FOREIGN,
    RefusalReason.CANCELED: events.RefusalReason.USED,
}


class Host(Protocol):
    """The call, as a conversation knows it."""

    @property
    def id(self) -> str:
        """Of the call record."""

    @property
    def listener(self) -> MediaLeg | None:
        """The customer's media leg while prompts can be played to it."""

    def mask(self, conversation: Conversation) -> asyncio.Future[None] | None:
        """Masks the customer towards everyone else; None: it cannot be done."""

    def lift_mask(self, conversation: Conversation) -> None:
        """Key entry is over, told, and quiet."""

    def hang_up_customer(self) -> None:
        """Ends the customer's leg."""

    def hand_back(self, conversation: Conversation) -> None:
        """Customer and operator talk again."""

    def background(self, work: Awaitable[None]) -> None:
        """Runs something; a fault in it is the call's."""

    def fault(self, error: BaseException) -> None:
        """Something of ours failed: the call ends."""

    def settle(self) -> None:
        """Something has happened: perhaps it was the last."""


class Conversation:
    """See the module.

    Args:
        dialogue: not started yet.
        host: the call.
        merchant: whose call it is.
        record: of the call.
        services: the rest of the house.
        session, shop: already claimed for this call; None: the customer (or the operator) keys the number.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        *,
        host: Host,
        merchant: Merchant,
        record: CallRecord,
        services: Services,
        session: PaymentSession | None = None,
        shop: Shop | None = None,
    ) -> None:
        self.session = session
        self._shop = shop
        self._dialogue = dialogue
        self._host = host
        self._merchant = merchant
        self._record = record
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._timers: dict[effects.TimerName, tuple[int, asyncio.TimerHandle]] = {}
        self._playlist: int | None = None
        self._mask_request: int | None = None
        self._abandoned = False

    @property
    def finished(self) -> bool:
        """Whether nothing can happen any more."""
        return self._abandoned or self._dialogue.finished

    def feed(self, event: events.Event) -> None:
        """Gives the dialogue an event and does what it wants."""
        if self._abandoned:
            return
        try:
            for effect in self._dialogue.handle(event):
                self._perform(effect)
        except Exception as error:
            self._host.fault(error)
        self._host.settle()

    def media_lost(self) -> None:
        """The customer's worker is gone; what it was asked for will not be answered."""
        self._mask_request = None
        self.feed(events.MediaLost())

    def abandon(self) -> None:
        """The call has failed: wipes the card at once; nothing is taken in any more."""
        self._abandoned = True
        self._dialogue.abandon()

    def close(self) -> None:
        """Nothing of it is waited for any longer."""
        for _, handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    # -- effects out ------------------------------------------------------------------------------------

    def _perform(self, effect: effects.Effect) -> None:  # noqa: PLR0912 - a table of sixteen effects
        match effect:
            case effects.StartTimer():
                self._start_timer(effect)
            case effects.StopTimer(name=name, generation=generation):
                running = self._timers.get(name)
                if running is not None and running[0] == generation:
                    running[1].cancel()
                    del self._timers[name]
            case effects.Play():
                self._play(effect)
            case effects.StopPlaying():
                self._stop_playing()
            case effects.ApplyMask(request=request):
                self._apply_mask(request)
            case effects.LiftMask():
                self._mask_request = None
                self._record.capture_closed()
                self._host.lift_mask(self)
            case effects.ClaimSession(request=request, number=digits):
                self._host.background(self._claim(request, digits))
            case effects.ReleaseSession(session_id=session):
                self._services.record(write.release_claim, session=session, call=self._host.id)
            case effects.SubmitCharge():
                self._submit(effect)
            case effects.RecordOutcome(outcome=outcome):
                log.info("call %s: charge %s", self._host.id, outcome)
            case effects.CardWiped():
                self._record.card_wiped()
            case effects.PublishCapture(capture=capture):
                self._record.capture(capture)
            case effects.PublishProgress():
                self._show(effect)
            case effects.RecordResult(result=result):
                self._record.result(result)
            case effects.HangUp():
                self._host.hang_up_customer()
            case effects.HandBack():
                self._mask_request = None
                self._record.capture_closed()
                self._host.hand_back(self)

    def _start_timer(self, effect: effects.StartTimer) -> None:
        running = self._timers.pop(effect.name, None)
        if running is not None:
            running[1].cancel()
        handle = self._loop.call_later(effect.seconds, self._timer_fired, effect.name, effect.generation)
        self._timers[effect.name] = (effect.generation, handle)

    def _timer_fired(self, name: effects.TimerName, generation: int) -> None:
        running = self._timers.get(name)
        if running is not None and running[0] == generation:
            del self._timers[name]
        self.feed(events.TimerFired(name, generation))

    def _play(self, effect: effects.Play) -> None:
        if self._host.listener is None:
            return
        self._playlist = effect.playlist
        paths = [self._services.prompts.ready(effect.language, phrase) for phrase in effect.phrases]
        if all(path is not None for path in paths):
            self._play_now(effect, [path for path in paths if path is not None])
        else:
            self._services.count("prompts_awaited")
            self._host.listener.stop_playing()
            self._host.background(self._play_when_rendered(effect))

    def _play_now(self, effect: effects.Play, paths: list[Path]) -> None:
        if self._host.listener is not None:
            self._host.listener.play(effect.playlist, paths, barge_in=effect.barge_in, repeat=effect.repeat)

    async def _play_when_rendered(self, effect: effects.Play) -> None:
        paths = [await self._services.prompts.render(effect.language, phrase) for phrase in effect.phrases]
        if self._host.listener is None:
            return
        if self._playlist == effect.playlist:
            self._play_now(effect, paths)
        else:
            self.feed(events.PlayFinished(effect.playlist, interrupted=True))

    def _stop_playing(self) -> None:
        self._playlist = None
        if self._host.listener is not None:
            self._host.listener.stop_playing()

    def _apply_mask(self, request: int) -> None:
        answer = self._host.mask(self)
        if answer is None:
            self._loop.call_soon(self.feed, events.MaskFailed(request))
            return
        self._mask_request = request
        self._record.capture_opening()
        answer.add_done_callback(lambda done: self._mask_answered(request, done))

    def _mask_answered(self, request: int, answer: asyncio.Future[None]) -> None:
        if answer.cancelled() or self._mask_request != request:
            return
        self._mask_request = None
        on = answer.exception() is None
        self.feed(events.MaskApplied(request) if on else events.MaskFailed(request))

    async def _claim(self, request: int, digits: str) -> None:
        services = self._services
        try:
            claimed = await services.writer.run(
                write.claim_identification_number,
                merchant=self._merchant.id,
                digits=digits,
                call=self._host.id,
            )
        except StoreError as error:
            log.error("call %s: the identification number could not be looked up: %s", self._host.id, error)
            self.feed(events.SessionRefused(request, events.RefusalReason.UNAVAILABLE))
            return
        if isinstance(claimed, ClaimRefused):
            services.count(f"identification_refused_{claimed.reason.value}")
            self.feed(events.SessionRefused(request, _REFUSALS[claimed.reason]))
            return
        shop = services.directory.shop(claimed.shop)
        if shop is None or not shop.active or self._host.listener is None:
            services.record(write.release_claim, session=claimed.id, call=self._host.id)
            self.feed(events.SessionRefused(request, events.RefusalReason.UNAVAILABLE))
            return
        self.session, self._shop = claimed, shop
        picture = snapshot(
            claimed, shop, self._merchant, services.today(), services.directory.attempts(claimed.id)
        )
        # The claim must not wait for a voice: these are usually there since the session was created.
        services.background(
            services.prompts.prepare_session(
                picture.language, picture.shop_name, picture.amount, picture.currency
            )
        )
        self.feed(events.SessionClaimed(request, picture))

    def _submit(self, effect: effects.SubmitCharge) -> None:
        session, shop = self.session, self._shop
        assert session is not None and shop is not None, "a charge without a claimed session"
        self._services.charging.start(
            session, shop, self._host.id, effect.card, lambda result: self._charged(effect.attempt, result)
        )

    def _charged(self, attempt: int, result: ChargeResult) -> None:
        match result:
            case ChargeApproved():
                self.feed(events.ChargeApproved(attempt))
            case ChargeDeclined(category=category):
                self.feed(events.ChargeDeclined(attempt, events.DeclineClass(category.value)))
            case ChargeUnknown(payment=payment):
                self._services.charging.listen(payment.id, lambda known: self._resolved(attempt, known))
                self.feed(events.ChargeUnknown(attempt))
            case ChargeImpossible() | OnlyTestCards():
                self.feed(events.GatewayUnavailable(attempt))

    def _resolved(self, attempt: int, result: Resolved) -> None:
        """An unknown outcome is known: charged, or surely not (then no card is to blame)."""
        if isinstance(result, ChargeApproved):
            self.feed(events.ChargeApproved(attempt))
        else:
            self.feed(events.ChargeDeclined(attempt, events.DeclineClass.TRY_LATER))

    def _show(self, progress: effects.PublishProgress) -> None:
        if self.session is None:
            return
        self._services.progress.show(
            merchant=self._merchant.id,
            session=self.session.id,
            call=self._host.id,
            values={
                "field": progress.field.value if progress.field else None,
                "pan_groups": progress.pan_groups,
                "pan_complete": progress.pan_complete,
                "brand": progress.brand.value if progress.brand else None,
                "expiry": progress.expiry.value,
                "security_code": progress.security_code.value,
                "payment": progress.payment.value,
                "no_keys_heard": progress.no_keys_heard,
                "still_pressing": progress.still_pressing,
            },
        )
