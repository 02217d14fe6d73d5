"""The dialogue: takes events to the part that they concern. See `states` for the machines and their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipivr.dialogue import events as ev
from sipivr.dialogue.asking import POUND, STAR
from sipivr.dialogue.capturing import Capturing
from sipivr.dialogue.charging import Charging
from sipivr.dialogue.closing import Closing
from sipivr.dialogue.core import Core
from sipivr.dialogue.effects import Result, TimerName
from sipivr.dialogue.identifying import Identifying
from sipivr.dialogue.params import DialogueParams
from sipivr.dialogue.phrases import Phrase, PhraseKey
from sipivr.dialogue.session import Ending
from sipivr.dialogue.states import (
    CaptureState,
    CustomerLegState,
    MaskState,
    OperatorLegState,
    PaymentState,
    TalkState,
)

if TYPE_CHECKING:
    from sipivr.dialogue.effects import Effect
    from sipivr.dialogue.events import Event
    from sipivr.dialogue.session import SessionSnapshot

_BEFORE_CHARGING = frozenset(
    {
        TalkState.IDENTIFYING,
        TalkState.CLAIMING,
        TalkState.ANNOUNCING,
        TalkState.MASKING,
        TalkState.CAPTURING,
    }
)


class Dialogue:
    """One customer's conversation with the switch, from answer to the outcome of the payment.

    Args:
        language: spoken until the session says otherwise: the called number's default.
        identification_lengths: lengths an identification number of this merchant may have, ascending.
        ending: how the call ends for the customer.
        params: times and limits.
        session: already claimed for this call (inline, outbound): then no identification number is asked for.
    """

    def __init__(
        self,
        *,
        language: str,
        identification_lengths: tuple[int, ...] = (8,),
        ending: Ending = Ending.TRANSFER_RETURN,
        params: DialogueParams | None = None,
        session: SessionSnapshot | None = None,
    ) -> None:
        self._core = core = Core(
            language=language,
            identification_lengths=identification_lengths,
            ending=ending,
            params=params or DialogueParams(),
            on_field_ended=self._field_ended,
            on_silence=self._silence,
        )
        self._closing = Closing(core)
        self._capturing = Capturing(core, self._closing)
        self._charging = Charging(core, self._closing, self._capturing)
        self._capturing.charging = self._charging
        self._identifying = Identifying(core, self._closing, self._capturing)
        self._claimed = session
        self._star = False

    @property
    def claimed(self) -> bool:
        """Whether it was begun with a session that had been claimed."""
        return self._claimed is not None

    @property
    def customer(self) -> CustomerLegState:
        """The customer's leg."""
        return self._core.customer

    @property
    def operator(self) -> OperatorLegState:
        """The operator's leg on our side."""
        return self._core.operator

    @property
    def talk(self) -> TalkState:
        """Where the conversation is."""
        return self._core.talk

    @property
    def capture(self) -> CaptureState:
        """The secure entry."""
        return self._core.capture

    @property
    def mask(self) -> MaskState:
        """The mask between the customer and everyone else."""
        return self._core.mask

    @property
    def payment(self) -> PaymentState:
        """The payment."""
        return self._core.payment

    @property
    def card_held(self) -> bool:
        """Whether any digit of a card is held."""
        return self._core.card_held

    @property
    def finished(self) -> bool:
        """Whether nothing can happen any more: the customer is gone or returned, and the outcome known.

        While a payment is `UNKNOWN` the gateway's resolver owns the wait; the shell may keep the dialogue for
        the answer or drop it: nothing is held here but that word.
        """
        core = self._core
        left = core.customer in (CustomerLegState.GONE, CustomerLegState.RETURNED)
        return left and core.payment not in (PaymentState.AUTHORIZING, PaymentState.UNKNOWN)

    def handle(self, event: Event) -> tuple[Effect, ...]:
        """Takes one event and says what to do about it, in order.

        Raises:
            TransitionError: a bug of ours; the call must be ended.
        """
        if self._core.customer is CustomerLegState.RINGING:
            self._before_answer(event)
        else:
            self._dispatch(event)
            self._core.publish_progress()
        return self._core.outbox.drain()

    def abandon(self) -> None:
        """Overwrites all card data at once; for a shell whose call has failed. No event may follow."""
        self._core.wipe()
        self._core.outbox.drain()

    def _before_answer(self, event: Event) -> None:
        core = self._core
        match event:
            case ev.CustomerConnected():
                core.move_customer(CustomerLegState.CONNECTED)
                core.outbox.start(TimerName.CALL, core.params.call_s)
                if self._claimed is not None:
                    self._identifying.begin_claimed(self._claimed)
                else:
                    self._identifying.begin()
                core.publish_progress()
            case ev.CustomerHungUp():
                self._closing.customer_gone()

    def _dispatch(self, event: Event) -> None:
        core = self._core
        match event:
            case ev.ChargeApproved(attempt):
                self._charging.approved(attempt)
            case ev.ChargeDeclined(attempt, decline):
                self._charging.declined(attempt, decline)
            case ev.ChargeUnknown(attempt):
                self._charging.unknown(attempt)
            case ev.GatewayUnavailable(attempt):
                self._charging.unavailable(attempt)
            case ev.SessionClaimed(request, session):
                self._identifying.claimed(request, session)
            case ev.TimerFired(name, generation):
                if core.outbox.fired(name, generation):
                    self._timer(name)
            case ev.OperatorConnected() if core.operator is OperatorLegState.NONE:
                core.move_operator(OperatorLegState.CONNECTED)
            case ev.OperatorHungUp() if core.operator is OperatorLegState.CONNECTED:
                core.move_operator(OperatorLegState.GONE)
                self._closing.operator_gone()
            case ev.CustomerHungUp() if core.customer is not CustomerLegState.GONE:
                self._closing.customer_gone()
            case _ if core.talk is not TalkState.OVER:
                self._dispatch_in_call(event)

    def _dispatch_in_call(self, event: Event) -> None:
        core = self._core
        match event:
            case ev.KeyPressed(key):
                self._key(key)
            case ev.PlayFinished(playlist, interrupted):
                core.voice.finished(playlist, interrupted=interrupted)
            case ev.SessionRefused(request, reason):
                self._identifying.refused(request, reason)
            case ev.MaskApplied(request):
                self._mask_applied(request)
            case ev.MaskFailed(request):
                self._mask_failed(request)
            case ev.MediaLost() if core.media_up:
                self._media_lost()
            case ev.MediaRestored() if not core.media_up:
                self._media_restored()
            case ev.SessionCancelled() if core.session is not None and core.talk in _BEFORE_CHARGING:
                self._closing.begin(Result.SESSION_CANCELLED, Phrase(PhraseKey.SESSION_CANCELLED))
            case ev.OperatorTookBack():
                self._taken_back()
            case ev.OperatorResetField():
                self._capturing.reset_field()

    def _timer(self, name: TimerName) -> None:
        core = self._core
        match name:
            case TimerName.CALL:
                self._call_over_time()
            case TimerName.CLOSING:
                self._closing.hang_up()
            case TimerName.PROMPT:
                core.voice.overdue()
            case TimerName.KEYS if core.capture is CaptureState.CONFIRM:
                self._capturing.confirmation_waited()
            case TimerName.KEYS:
                core.asking.waited()
            case TimerName.QUIET:
                core.asking.quiet()
            case TimerName.AFTER_KEYS:
                self._closing.no_keys()
            case TimerName.CLAIM:
                self._identifying.unavailable()
            case TimerName.MASK:
                self._mask_failed(None)
            case TimerName.MEDIA:
                self._closing.give_up(Result.MEDIA_LOST)
            case TimerName.SLOW_GATEWAY:
                self._charging.slow()
            case TimerName.OUTCOME:
                self._charging.overdue()

    def _key(self, key: int) -> None:
        core = self._core
        core.asking.heard()
        operator_wanted, self._star = self._star and key == POUND, key == STAR
        if core.talk is TalkState.CLOSING:
            self._closing.key()
        elif operator_wanted and core.talk in _BEFORE_CHARGING:
            self._closing.begin(Result.OPERATOR_REQUESTED, Phrase(PhraseKey.OPERATOR_REQUESTED))
        elif core.capture is CaptureState.CONFIRM:
            self._capturing.confirmation_key(key)
        elif core.talk in (TalkState.IDENTIFYING, TalkState.CAPTURING):
            core.card_keyed |= core.talk is TalkState.CAPTURING and key < STAR
            core.asking.key(key)

    def _field_ended(self) -> None:
        if self._core.talk is TalkState.IDENTIFYING:
            self._identifying.field_ended()
        else:
            self._capturing.field_ended()

    def _silence(self) -> None:
        self._capturing.silence()

    def _call_over_time(self) -> None:
        if self._core.talk in _BEFORE_CHARGING:
            self._closing.begin(Result.CALL_TOO_LONG, Phrase(PhraseKey.CALL_TOO_LONG))
        else:
            self._core.call_over_time = True

    def _taken_back(self) -> None:
        if self._core.talk is TalkState.CHARGING:
            self._closing.begin(Result.PAYMENT_PENDING, Phrase(PhraseKey.PAYMENT_CONTINUES))
        else:
            self._closing.begin(Result.TAKEN_BACK, Phrase(PhraseKey.TAKEN_BACK))

    def _mask_applied(self, request: int) -> None:
        core = self._core
        if core.mask is MaskState.APPLYING and request == core.mask_request:
            core.outbox.stop(TimerName.MASK)
            core.move_mask(MaskState.ON)
            if core.talk is TalkState.CLOSING:
                self._closing.mask_answered()
            else:
                self._capturing.mask_on()

    def _mask_failed(self, request: int | None) -> None:
        core = self._core
        if core.mask is MaskState.OFF or request not in (None, core.mask_request):
            return
        core.outbox.stop(TimerName.MASK)
        core.move_mask(MaskState.OFF)
        if core.talk is TalkState.CLOSING:
            self._closing.mask_answered()
        else:
            self._capturing.mask_failed()

    def _media_lost(self) -> None:
        core = self._core
        core.media_up = False
        core.voice.lost()
        core.outbox.stop(TimerName.KEYS, TimerName.QUIET, TimerName.MASK)
        core.outbox.start(TimerName.MEDIA, core.params.media_s)
        if core.mask is not MaskState.OFF:
            core.move_mask(MaskState.OFF)
        self._capturing.suspend()
        if core.talk is TalkState.IDENTIFYING:
            core.asking.stop()
        elif core.talk is TalkState.CLOSING:
            self._closing.media_lost()

    def _media_restored(self) -> None:
        core = self._core
        core.media_up = core.voice.available = True
        core.outbox.stop(TimerName.MEDIA)
        match core.talk:
            case TalkState.IDENTIFYING:
                self._identifying.ask(Phrase(PhraseKey.LINE_RESTORED))
            case TalkState.ANNOUNCING:
                self._identifying.announce()
            case TalkState.MASKING | TalkState.CAPTURING | TalkState.CHARGING:
                core.request_mask()
            case TalkState.CLOSING:
                self._closing.media_restored()
