"""The charge: submitted once, waited for, and answered according to its class.

The payment machine lives longer than the conversation: an answer that comes after the customer has left is
recorded all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipivr.dialogue.effects import Outcome, RecordOutcome, Result, SubmitCharge, TimerName
from sipivr.dialogue.events import DeclineClass
from sipivr.dialogue.phrases import Amount, Phrase, PhraseKey
from sipivr.dialogue.states import CaptureState, PaymentState, TalkState

if TYPE_CHECKING:
    from sipivr.dialogue.capturing import Capturing
    from sipivr.dialogue.closing import Closing
    from sipivr.dialogue.core import Core


class Charging:
    """Submits the card and deals with what the gateway says."""

    def __init__(self, core: Core, closing: Closing, capturing: Capturing) -> None:
        self._core = core
        self._closing = closing
        self._capturing = capturing
        self._pan_is_new = False
        self._cards = 0
        self._security_code_failures = 0

    def new_pan(self) -> None:
        """Another card number has been keyed."""
        self._pan_is_new = True

    def submit(self) -> None:
        """The customer has confirmed: charges the card."""
        core = self._core
        if self._pan_is_new:
            self._pan_is_new = False
            self._cards += 1
            self._security_code_failures = 0
        core.attempts += 1
        core.move_payment(PaymentState.AUTHORIZING)
        core.move_capture(CaptureState.SUBMITTED)
        core.move_talk(TalkState.CHARGING)
        core.outbox.emit(SubmitCharge(core.attempts, core.the_session.session_id, core.card))
        core.outbox.start(TimerName.OUTCOME, core.params.outcome_s)
        core.outbox.start(TimerName.SLOW_GATEWAY, core.params.slow_gateway_s)
        self.keep_company()

    def keep_company(self) -> None:
        """Says what is going on, then lets the waiting tone run."""
        unknown = self._core.payment is PaymentState.UNKNOWN
        self._say_and_wait(PhraseKey.CONFIRMING if unknown else PhraseKey.PLEASE_WAIT)

    def slow(self) -> None:
        """The `SLOW_GATEWAY` timer ran out."""
        if self._core.talk is TalkState.CHARGING:
            self._say_and_wait(PhraseKey.STILL_WAITING)

    def overdue(self) -> None:
        """The `OUTCOME` timer ran out: the customer is not kept, the payment stays open."""
        core = self._core
        if core.talk is TalkState.CHARGING:
            self._closing.begin(Result.UNCONFIRMED, Phrase(PhraseKey.NOT_CONFIRMED))
        else:
            core.wipe()

    def approved(self, attempt: int) -> None:
        """The card was charged."""
        core = self._core
        if self._answers(attempt, PaymentState.AUTHORIZING, PaymentState.UNKNOWN):
            self._known(PaymentState.APPROVED, Outcome.APPROVED)
            core.wipe()
            session = core.the_session
            amount = Amount(session.amount, session.currency)
            if core.talk is TalkState.CHARGING:
                self._closing.begin(Result.PAID, Phrase(PhraseKey.PAYMENT_APPROVED, (amount,)))

    def declined(self, attempt: int, decline: DeclineClass) -> None:
        """The card was not charged."""
        core = self._core
        if self._answers(attempt, PaymentState.AUTHORIZING, PaymentState.UNKNOWN):
            self._known(PaymentState.DECLINED, Outcome.DECLINED)
            if core.talk is TalkState.CHARGING:
                self._after_decline(decline)
            else:
                core.wipe()

    def unknown(self, attempt: int) -> None:
        """No answer came; the gateway is being asked by references alone, the card is not needed for it."""
        core = self._core
        if self._answers(attempt, PaymentState.AUTHORIZING):
            core.move_payment(PaymentState.UNKNOWN)
            core.outbox.emit(RecordOutcome(attempt, Outcome.UNKNOWN))
            core.outbox.stop(TimerName.SLOW_GATEWAY)
            core.wipe()
            if core.talk is TalkState.CHARGING:
                self.keep_company()
            else:
                core.outbox.stop(TimerName.OUTCOME)

    def unavailable(self, attempt: int) -> None:
        """Nothing was sent."""
        core = self._core
        if self._answers(attempt, PaymentState.AUTHORIZING):
            self._known(PaymentState.NOT_SENT, Outcome.NOT_SENT)
            core.wipe()
            if core.talk is TalkState.CHARGING:
                sorry = Phrase(PhraseKey.NOT_CHARGED_UNAVAILABLE)
                self._closing.begin(Result.GATEWAY_UNAVAILABLE, sorry)

    def _answers(self, attempt: int, *waiting: PaymentState) -> bool:
        return attempt == self._core.attempts and self._core.payment in waiting

    def _known(self, state: PaymentState, outcome: Outcome) -> None:
        core = self._core
        core.move_payment(state)
        core.outbox.emit(RecordOutcome(core.attempts, outcome))
        core.outbox.stop(TimerName.OUTCOME, TimerName.SLOW_GATEWAY)

    def _say_and_wait(self, key: PhraseKey) -> None:
        self._core.voice.say((Phrase(key),), self._wait, tries=1)

    def _wait(self, _spoken: bool) -> None:
        self._core.voice.repeat((Phrase(PhraseKey.WAIT_TONE),))

    def _after_decline(self, decline: DeclineClass) -> None:
        core, session = self._core, self._core.the_session
        # The security code never outlives its authorization, not even for the next attempt (PCI DSS 3.3.1).
        core.card.wipe_security_code()
        core.security_code_complete = False
        if decline is DeclineClass.REENTER_SECURITY_CODE:
            self._security_code_failures += 1
            spent = self._security_code_failures >= core.params.max_security_code_failures
            if spent or not session.security_code_required:
                decline = DeclineClass.ANOTHER_CARD
        # A decline that came only after UNKNOWN finds no card any more: it is keyed anew.
        if core.card.wiped and decline in (
            DeclineClass.REENTER_EXPIRY,
            DeclineClass.REENTER_SECURITY_CODE,
        ):
            decline = DeclineClass.REENTER_PAN
        closed = core.capture not in (CaptureState.SUBMITTED, CaptureState.SUSPENDED)
        exhausted = core.attempts >= session.gateway_attempts_left or core.call_over_time or closed
        if decline in (DeclineClass.ANOTHER_CARD, DeclineClass.REENTER_PAN):
            exhausted = exhausted or self._cards >= core.params.max_cards
        if decline is DeclineClass.TRY_LATER:
            self._closing.begin(Result.DECLINED, Phrase(PhraseKey.DECLINED_TRY_LATER))
        elif decline is DeclineClass.STOP or exhausted:
            self._closing.begin(Result.DECLINED, Phrase(PhraseKey.DECLINED_FINALLY))
        else:
            self._again(decline)

    def _again(self, decline: DeclineClass) -> None:
        core, capturing = self._core, self._capturing
        core.move_talk(TalkState.CAPTURING)
        core.voice.hush()
        match decline:
            case DeclineClass.REENTER_EXPIRY:
                core.expiry_complete = False
                capturing.enter(CaptureState.EXPIRY, Phrase(PhraseKey.DECLINED_EXPIRY))
            case DeclineClass.REENTER_SECURITY_CODE:
                capturing.enter(CaptureState.SECURITY_CODE, Phrase(PhraseKey.DECLINED_SECURITY_CODE))
            case DeclineClass.REENTER_PAN:
                core.wipe()
                capturing.another_card(PhraseKey.DECLINED_PAN)
            case _:
                core.wipe()
                capturing.another_card(PhraseKey.DECLINED_ANOTHER_CARD)
