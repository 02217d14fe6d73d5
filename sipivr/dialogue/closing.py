"""The end of a call, whatever led to it.

A capture that was opened, or whose mask was only asked for, ends in this order (invariant 1):

1. the reason is spoken, then "key entry is over", never cut short;
2. `after_keys_s` without a key, each key starting them again; meanwhile the farewell is spoken;
3. the mask lifts;
4. we hang up, or hand the customer back to the operator's leg that waits (`Ending.BRIDGE`).

Without a mask only the reason and the farewell are spoken. If the telling cannot be heard, or keys never
stop, `closing_s` ends the call with the mask still on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipivr.dialogue.effects import (
    HandBack,
    HangUp,
    LiftMask,
    RecordResult,
    ReleaseSession,
    Result,
    TimerName,
)
from sipivr.dialogue.phrases import Phrase, PhraseKey
from sipivr.dialogue.session import Ending
from sipivr.dialogue.states import CaptureState, CustomerLegState, MaskState, PaymentState, TalkState

if TYPE_CHECKING:
    from sipivr.dialogue.core import Core

_KEY_ENTRY_OVER = Phrase(PhraseKey.KEY_ENTRY_OVER)

_FINAL_CAPTURES = (CaptureState.DONE, CaptureState.ABORTED)


class Closing:
    """Ends the conversation."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._reason: tuple[Phrase, ...] = ()
        self._recorded = False
        self._told = False
        self._settled = False
        self._farewell_said = False
        self._mask_first = False

    def begin(self, result: Result, *reason: Phrase) -> None:
        """Ends the conversation for a reason that the customer is told."""
        core = self._core
        if core.talk in (TalkState.CLOSING, TalkState.OVER):
            return
        self._reason = reason
        self._settle_accounts(result)
        core.move_talk(TalkState.CLOSING)
        core.outbox.start(TimerName.CLOSING, core.params.closing_s)
        self._settled = core.mask_request is None
        if core.media_up:
            self._speak()

    def customer_gone(self) -> None:
        """The customer's leg is gone: nothing can be said and nothing leaks any more."""
        core = self._core
        core.move_customer(CustomerLegState.GONE)
        if core.talk is not TalkState.OVER:
            self._settle_accounts(Result.CUSTOMER_HUNG_UP)
            self._end()

    def hang_up(self) -> None:
        """Ends the leg now. The mask is not lifted: it ends with the leg."""
        core = self._core
        if core.talk is TalkState.OVER:
            return
        core.voice.hush()
        core.outbox.emit(HangUp())
        core.move_customer(CustomerLegState.ENDING)
        self._end()

    def operator_gone(self) -> None:
        """Nobody is left to hand the customer back to: the call will end with a goodbye."""
        if self._core.ending is Ending.BRIDGE:
            self._core.ending = Ending.GOODBYE

    def give_up(self, result: Result) -> None:
        """Ends the call without a word: there is no way to say one."""
        self._settle_accounts(result)
        self.hang_up()

    def key(self) -> None:
        """A key although key entry is over: the three seconds begin again."""
        core = self._core
        if self._settled:
            return
        core.still_pressing = True
        if self._told:
            core.outbox.start(TimerName.AFTER_KEYS, core.params.after_keys_s)
            if not core.voice.speaking:
                core.voice.say((_KEY_ENTRY_OVER,), self._said_again)

    def no_keys(self) -> None:
        """The `AFTER_KEYS` timer ran out."""
        core = self._core
        self._settled = True
        core.still_pressing = False
        if core.mask is MaskState.ON:
            core.move_mask(MaskState.OFF)
            core.outbox.emit(LiftMask())
        self._leave_when_done()

    def media_lost(self) -> None:
        """What was being said is lost; it is said again when there is media."""
        self._told = self._farewell_said = False
        self._core.outbox.stop(TimerName.AFTER_KEYS)

    def media_restored(self) -> None:
        """The leg lives again: masked first, where keys may come, then told."""
        core = self._core
        if self._settled:
            self._speak()
            return
        self._mask_first = True
        core.request_mask()

    def mask_answered(self) -> None:
        """The mask is on again, or it failed and the path is silent: either way the customer is told now."""
        core = self._core
        if self._settled and core.mask is MaskState.ON:
            # It came too late to be needed; what comes on is lifted by the same rule all the same.
            self._settled = False
            core.outbox.start(TimerName.AFTER_KEYS, core.params.after_keys_s)
        elif self._mask_first:
            self._mask_first = False
            self._speak()

    def _settle_accounts(self, result: Result) -> None:
        core = self._core
        charging = core.talk is TalkState.CHARGING
        if not self._recorded:
            self._recorded = True
            pending = charging and core.payment in (PaymentState.AUTHORIZING, PaymentState.UNKNOWN)
            if pending and result is not Result.UNCONFIRMED:
                result = Result.PAYMENT_PENDING
            core.outbox.emit(RecordResult(result))
        if core.payment is PaymentState.AUTHORIZING and TimerName.OUTCOME in core.outbox.running:
            # The gateway adapter may not have read the card yet: it lives until the answer or `outcome_s`.
            core.outbox.stop_all_but(TimerName.OUTCOME, TimerName.MEDIA)
        else:
            core.wipe()
            core.outbox.stop_all_but(TimerName.MEDIA)
        core.asking.stop()
        if core.capture not in _FINAL_CAPTURES:
            core.move_capture(CaptureState.DONE if charging else CaptureState.ABORTED)
        if core.session is not None and not core.attempts:
            core.outbox.emit(ReleaseSession(core.session.session_id))
            core.session = None

    def _speak(self) -> None:
        core = self._core
        if not self._settled:
            core.voice.say((*self._reason, _KEY_ENTRY_OVER), self._was_told)
        else:
            core.voice.say((*self._reason, self._farewell()), self._said_farewell)

    def _was_told(self, spoken: bool) -> None:
        if spoken:
            core = self._core
            self._told = True
            core.outbox.start(TimerName.AFTER_KEYS, core.params.after_keys_s)
            core.voice.say((self._farewell(),), self._said_farewell)

    def _said_farewell(self, _spoken: bool) -> None:
        self._farewell_said = True
        self._leave_when_done()

    def _said_again(self, _spoken: bool) -> None:
        self._leave_when_done()

    def _leave_when_done(self) -> None:
        if self._settled and self._farewell_said and not self._core.voice.speaking:
            if self._core.ending is Ending.BRIDGE:
                self._hand_back()
            else:
                self.hang_up()

    def _hand_back(self) -> None:
        core = self._core
        core.outbox.emit(HandBack())
        core.move_customer(CustomerLegState.RETURNED)
        self._end()

    def _farewell(self) -> Phrase:
        alone = self._core.ending is Ending.GOODBYE
        return Phrase(PhraseKey.GOODBYE if alone else PhraseKey.GOODBYE_OPERATOR)

    def _end(self) -> None:
        core = self._core
        core.still_pressing = False
        core.asking.no_keys_heard = False
        core.voice.lost()
        keep = (TimerName.OUTCOME,) if core.payment is PaymentState.AUTHORIZING else ()
        core.outbox.stop_all_but(*keep)
        if core.mask is not MaskState.OFF:
            core.move_mask(MaskState.OFF)
        core.move_talk(TalkState.OVER)
