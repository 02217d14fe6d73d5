"""One customer's presence on the switch: the shell around one dialogue.

The call owns a SIP leg, a media leg, a dialogue and its timers. What happens on any of them becomes an event of
the dialogue; what the dialogue wants is done here, in order. The call is over when its SIP leg has ended; it stays
with the switchboard until the dialogue has finished as well, because a payment may outlive its call.

Fail closed: a fault anywhere ends this call alone, wipes the card and removes the media leg, which silences it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from media.protocol import (
    AnyEvent,
    KeyPressed,
    LegFault,
    LegStatistics,
    MaskMode,
    PlayFinished,
    RTPTimeout,
    SourceLatched,
)
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
from sipivr.calls.media_bridge import MediaBridge
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaWorker
from sipivr.calls.restoration import Restoration
from sipivr.calls.services import Services
from sipivr.calls.snapshots import snapshot
from sipivr.dialogue import Dialogue, effects, events
from sipivr.store import write
from sipivr.store.errors import StoreError
from sipivr.store.records import ClaimRefused, Merchant, Number, PaymentSession, RefusalReason, Shop
from sipivr.ua.negotiation import NegotiatedAudio
from sipivr.ua.ports import SIPCause, SIPLeg

log = logging.getLogger(__name__)

_REFUSALS: Final = {
    RefusalReason.WRONG: events.RefusalReason.WRONG,
    RefusalReason.EXPIRED: events.RefusalReason.EXPIRED,
    RefusalReason.USED: events.RefusalReason.USED,
    RefusalReason.FOREIGN: events.RefusalReason.FOREIGN,
    RefusalReason.CANCELED: events.RefusalReason.USED,
}


class Call:
    """See the module. Made by the switchboard once a call is admitted and recorded.

    Args:
        id: of the call record.
        number: that was called.
        merchant: whose number it is.
        trunk: that it came by.
        sip: the customer's leg, answered by `start`.
        record: of this call in the store.
        dialogue: not started yet.
        services: the rest of the house.
        over: is told once when nothing of this call is left.
    """

    def __init__(
        self,
        id: str,
        *,
        number: Number,
        merchant: Merchant,
        trunk: str,
        sip: SIPLeg,
        record: CallRecord,
        dialogue: Dialogue,
        services: Services,
        over: Callable[[Call], None],
    ) -> None:
        self.id = id
        self.number = number
        self.merchant = merchant
        self.trunk = trunk
        self.sip = sip
        self.session: PaymentSession | None = None
        self.media: MediaLeg | None = None
        self.agreed: NegotiatedAudio | None = None
        self._bridge = MediaBridge()
        self._restoration = Restoration(
            services.media,
            self._bridge,
            background=self._background,
            restored=self._media_restored,
            failed=self._media_not_restored,
        )
        self._shop: Shop | None = None
        self._record = record
        self._dialogue = dialogue
        self._services = services
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._timers: dict[effects.TimerName, tuple[int, asyncio.TimerHandle]] = {}
        self._playlist: int | None = None
        self._mask_request: int | None = None
        self._ended = False
        self._gone = False
        self._broken = False

    # -- events in --------------------------------------------------------------------------------------

    def connected(self) -> None:
        """The customer's leg is up: the conversation begins."""
        self._record.answered(self.agreed)
        self.feed(events.CustomerConnected())
        if self.media is not None and self.media.lost:  # while it rang: then nobody had to be told
            self.feed(events.MediaLost())

    def feed(self, event: events.Event) -> None:
        """Gives the dialogue an event and does what it wants."""
        if self._broken:
            return
        try:
            for effect in self._dialogue.handle(event):
                self._perform(effect)
        except Exception as error:
            self.fault(error)
        self._settle()

    def fault(self, error: BaseException) -> None:
        """Something of ours failed: this call ends, its card is wiped, no other call notices."""
        self._services.count("call_faults")
        # The type and place only: a message could quote a value (PCI DSS 3.3.1).
        log.error("call %s: %s; ending it", self.id, type(error).__name__, exc_info=_without_values(error))
        self._broken = True
        self._dialogue.abandon()
        self._record.fault()
        self.sip.hang_up(500)

    def refused(self, reason: str, *, recorded: bool) -> None:
        """The call was admitted and could not be answered after all; its leg is being refused."""
        self._record.refused(reason)
        if not recorded:
            self._record.not_begun()

    def info_key(self, key: int) -> None:
        """A key by SIP INFO: the worker, where the other ways arrive, says whether it is a new press."""
        if self.media is None or self.media.lost or self._ended:
            self._services.count("info_keys_without_media")
        elif self.media.takes_info:
            self.media.hear_key(key)
        else:
            self._services.count("info_keys_not_taken")

    def cancel_session(self) -> None:
        """The merchant has cancelled the payment session."""
        self.feed(events.SessionCancelled())

    def hang_up(self) -> None:
        """Somebody with the right to it ends the call."""
        self._record.ended_by = "api"
        self.sip.hang_up()

    def sip_ended(self, cause: SIPCause) -> None:
        """The customer's leg is over."""
        if self._ended:
            return
        self._ended = True
        self.feed(events.CustomerHungUp())
        if self.media is not None:
            self._bridge.forget(self.media)
            self.media.remove()
        self._record.ended(cause)
        self._settle()

    # -- media ------------------------------------------------------------------------------------------

    def on_media_event(self, event: AnyEvent) -> None:
        """See `LegEvents`."""
        match event:
            case KeyPressed(key=key, way=way):
                self._record.key(way)
                self.feed(events.KeyPressed(key))
            case PlayFinished(playlist=playlist, interrupted=interrupted):
                if self.media is not None:
                    self.media.play_finished(playlist)
                self.feed(events.PlayFinished(playlist, interrupted))
            case LegFault(reason=reason):
                log.error("call %s: media fault: %s", self.id, reason)
                self._services.count("media_faults")
                self.feed(events.MaskFailed())
            case RTPTimeout(seconds=seconds):
                log.warning("call %s: no RTP for %.0f s; ending it", self.id, seconds)
                self._services.count("rtp_timeouts")
                self._record.ended_by = "rtp_timeout"
                self.sip.hang_up()
            case SourceLatched(remote=remote):
                if self.media is not None:
                    self.media.latched(remote)
            case LegStatistics():
                self._record.statistics(event)

    def on_media_lost(self) -> None:
        """See `LegEvents`. The replacement worker has the same ports, so the leg can live on in it."""
        self._record.media_lost()
        if self._ended:
            return
        log.warning("call %s: its media worker is gone", self.id)
        self._services.count("media_lost")
        self._mask_request = None
        self.feed(events.MediaLost())

    def worker_arrived(self, worker: MediaWorker) -> None:
        """A worker has connected: perhaps the successor of ours."""
        if self.media is not None and not self._ended:
            self._restoration.worker_arrived(worker, ((self.media, self.sip),))

    def reanswered(self, followed: asyncio.Future[None]) -> None:
        """The peer has answered an offer of ours inside the call; `followed` ends when the worker knows it."""
        if self.media is not None:
            self._restoration.reanswered(self.media, followed)

    def reoffer_failed(self, status: int) -> None:
        """The peer refused an offer of ours; the call goes on as it was if it can."""
        if self.media is not None:
            self._restoration.reoffer_failed(self.media, status)

    def _media_restored(self) -> None:
        if not self._ended:
            self.feed(events.MediaRestored())

    def _media_not_restored(self, reason: str) -> None:
        log.error("call %s: its media could not be restored: %s", self.id, reason)
        self.sip.hang_up(500)

    # -- effects out ------------------------------------------------------------------------------------

    def _perform(self, effect: effects.Effect) -> None:  # noqa: PLR0912 - a table of fifteen effects
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
                if self.media is not None:
                    self._bridge.part(self.media, self.media)
            case effects.ClaimSession(request=request, number=digits):
                self._background(self._claim(request, digits))
            case effects.ReleaseSession(session_id=session):
                self._services.record(write.release_claim, session=session, call=self.id)
            case effects.SubmitCharge():
                self._submit(effect)
            case effects.RecordOutcome(outcome=outcome):
                log.info("call %s: charge %s", self.id, outcome)
            case effects.CardWiped():
                self._record.card_wiped()
            case effects.PublishCapture(capture=capture):
                self._record.capture(capture)
            case effects.PublishProgress():
                self._show(effect)
            case effects.RecordResult(result=result):
                self._record.result(result)
            case effects.HangUp():
                self.sip.hang_up()

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
        if self._ended:
            return
        self._playlist = effect.playlist
        paths = [self._services.prompts.ready(effect.language, phrase) for phrase in effect.phrases]
        if all(path is not None for path in paths):
            self._play_now(effect, [path for path in paths if path is not None])
        else:
            self._services.count("prompts_awaited")
            if self.media is not None:
                self.media.stop_playing()
            self._background(self._play_when_rendered(effect))

    def _play_now(self, effect: effects.Play, paths: list[Path]) -> None:
        if self.media is not None:
            self.media.play(effect.playlist, paths, barge_in=effect.barge_in, repeat=effect.repeat)

    async def _play_when_rendered(self, effect: effects.Play) -> None:
        paths = [await self._services.prompts.render(effect.language, phrase) for phrase in effect.phrases]
        if self._playlist == effect.playlist and not self._ended:
            self._play_now(effect, paths)
        elif not self._ended:
            self.feed(events.PlayFinished(effect.playlist, interrupted=True))

    def _stop_playing(self) -> None:
        self._playlist = None
        if self.media is not None:
            self.media.stop_playing()

    def _apply_mask(self, request: int) -> None:
        if self.media is None or self._ended:
            self._loop.call_soon(self.feed, events.MaskFailed(request))
            return
        self._mask_request = request
        self._record.capture_opening()
        # The bridge is the merchant's: what plays into it is all that can be done there.
        answer = self._bridge.set(self.media, self.media, MaskMode(self.merchant.bridge_mask))
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
                write.claim_identification_number, merchant=self.merchant.id, digits=digits, call=self.id
            )
        except StoreError as error:
            log.error("call %s: the identification number could not be looked up: %s", self.id, error)
            self.feed(events.SessionRefused(request, events.RefusalReason.UNAVAILABLE))
            return
        if isinstance(claimed, ClaimRefused):
            services.count(f"identification_refused_{claimed.reason.value}")
            self.feed(events.SessionRefused(request, _REFUSALS[claimed.reason]))
            return
        shop = services.directory.shop(claimed.shop)
        if shop is None or not shop.active or self._ended:
            services.record(write.release_claim, session=claimed.id, call=self.id)
            self.feed(events.SessionRefused(request, events.RefusalReason.UNAVAILABLE))
            return
        self.session, self._shop = claimed, shop
        picture = snapshot(
            claimed, shop, self.merchant, services.today(), services.directory.attempts(claimed.id)
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
            session, shop, self.id, effect.card, lambda result: self._charged(effect.attempt, result)
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
            merchant=self.merchant.id,
            session=self.session.id,
            call=self.id,
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

    def _background(self, work: Awaitable[None]) -> None:
        self._services.background(self._guarded(work))

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            self.fault(error)
            self._settle()

    # -- the end ----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Leaves the switchboard once the leg has ended and the dialogue has nothing left to do."""
        if not self._ended or self._gone or not (self._broken or self._dialogue.finished):
            return
        self._gone = True
        for _, handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        # Only now: the outcome of a charge that outlived the leg was shown, too.
        self._services.progress.forget(self.id)
        self._over(self)


def _without_values(error: BaseException) -> BaseException:
    """The same traceback behind an exception without a message."""
    bare = RuntimeError(type(error).__name__)
    return bare.with_traceback(error.__traceback__)
