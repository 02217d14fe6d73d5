"""The capture: PAN, expiry, security code, confirmation; behind a mask that the media plane has acknowledged.

A field is entered through `enter`, which opens it only when media and mask are there; otherwise the capture
waits `SUSPENDED` and goes on where it was to go when the mask is on again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sipivr.card import ExpiryEntry, PANEntry, SecurityCodeEntry
from sipivr.dialogue.asking import STAR
from sipivr.dialogue.effects import Result, TimerName
from sipivr.dialogue.fields import expiry_script, fault_phrase, pan_script, security_code_script
from sipivr.dialogue.phrases import Amount, DigitCount, Last4, Phrase, PhraseKey
from sipivr.dialogue.states import CAPTURE_OPEN, CaptureState, MaskState, TalkState

if TYPE_CHECKING:
    from sipivr.dialogue.charging import Charging
    from sipivr.dialogue.closing import Closing
    from sipivr.dialogue.core import Core

PAY: Final = 1
KEY_AGAIN: Final = 2

_CHOICE: Final = Phrase(PhraseKey.CONFIRM_CHOICE)


class Capturing:
    """Takes the card from the customer's keys."""

    charging: Charging

    def __init__(self, core: Core, closing: Closing) -> None:
        self._core = core
        self._closing = closing
        self._resume_at = CaptureState.PAN
        self._resume_lead: tuple[Phrase, ...] = ()
        self._mistakes: dict[CaptureState, int] = {}
        self._restarts = 0
        self._choice_open = False
        self._reminders = 0

    def begin(self) -> None:
        """The amount was announced: masks, then introduces and asks."""
        session = self._core.the_session
        introduction = (
            PhraseKey.CAPTURE_INTRODUCTION
            if session.voice_masked
            else PhraseKey.CAPTURE_INTRODUCTION_VOICE_PASSES
        )
        self._resume_at, self._resume_lead = CaptureState.PAN, (Phrase(introduction),)
        # The identification number was perhaps keyed by the operator: it says nothing about this telephone.
        self._core.asking.any_key_heard = False
        self._core.move_talk(TalkState.MASKING)
        self._core.request_mask()

    def mask_on(self) -> None:
        """The mask is acknowledged: what waited for it goes on."""
        core = self._core
        if core.talk is TalkState.MASKING:
            core.move_talk(TalkState.CAPTURING)
            self._open(self._resume_at, self._resume_lead)
        elif core.capture is CaptureState.SUSPENDED:
            self._open(self._resume_at, self._resume_lead)
        else:
            self.charging.keep_company()

    def mask_failed(self) -> None:
        """No mask, no capture. A charge on its way goes on, but no further key is taken."""
        core = self._core
        if core.talk is TalkState.CHARGING:
            if core.capture is not CaptureState.DONE:
                core.move_capture(CaptureState.DONE)
            core.voice.hush()
            self.charging.keep_company()
        elif core.talk in (TalkState.MASKING, TalkState.CAPTURING):
            self._closing.begin(Result.MASK_UNAVAILABLE, Phrase(PhraseKey.MASK_UNAVAILABLE))

    def suspend(self) -> None:
        """The media worker died: the field is given up and will be asked for again."""
        core = self._core
        if core.capture in CAPTURE_OPEN:
            self._resume_at, self._resume_lead = core.capture, (Phrase(PhraseKey.LINE_RESTORED),)
            if core.capture is CaptureState.SUBMITTED:
                self._resume_lead = ()
            core.asking.stop()
            core.move_capture(CaptureState.SUSPENDED)

    def enter(self, field: CaptureState, *lead: Phrase) -> None:
        """Goes on at a field or the confirmation, its mistakes forgotten, as soon as there is a mask."""
        core = self._core
        self._mistakes.pop(field, None)
        if core.mask is MaskState.ON:
            self._open(field, lead)
        else:
            self._resume_at, self._resume_lead = field, lead
            if core.capture is not CaptureState.SUSPENDED:
                core.move_capture(CaptureState.SUSPENDED)

    def reset_field(self) -> None:
        """The operator asks for the current field again."""
        core = self._core
        if core.capture in (CaptureState.PAN, CaptureState.EXPIRY, CaptureState.SECURITY_CODE):
            self._ask(core.capture, (Phrase(PhraseKey.FIELD_RESET),))

    def field_ended(self) -> None:
        """A field has been keyed."""
        match self._core.capture:
            case CaptureState.PAN:
                self._check_pan()
            case CaptureState.EXPIRY:
                self._check_expiry()
            case CaptureState.SECURITY_CODE:
                self._check_security_code()

    def confirmation_key(self, key: int) -> None:
        """A key at the confirmation. Only what is pressed after the amount was spoken counts."""
        if not self._choice_open:
            return
        if key == PAY:
            self._leave_confirmation()
            self.charging.submit()
        elif key == KEY_AGAIN:
            self._leave_confirmation()
            self._key_again()
        elif key < STAR and not self._core.voice.speaking and self._mistake(CaptureState.CONFIRM):
            self._core.outbox.stop(TimerName.KEYS)
            self._core.voice.say((Phrase(PhraseKey.CONFIRM_WRONG_KEY), _CHOICE), self._await_choice)

    def confirmation_waited(self) -> None:
        """Neither 1 nor 2 came in time."""
        self._reminders += 1
        if self._reminders > self._core.params.max_reminders:
            self.silence()
        else:
            self._ask_confirmation(())

    def silence(self) -> None:
        """One silence too many."""
        self._closing.begin(Result.NO_INPUT, Phrase(PhraseKey.NO_INPUT_END))

    def _open(self, state: CaptureState, lead: tuple[Phrase, ...]) -> None:
        core = self._core
        if core.capture is not state:
            core.move_capture(state)
        if state is CaptureState.SUBMITTED:
            self.charging.keep_company()
        elif state is CaptureState.CONFIRM:
            self._choice_open = False
            self._reminders = 0
            self._ask_confirmation(lead)
        else:
            self._ask(state, lead)

    def _ask(self, field: CaptureState, lead: tuple[Phrase, ...]) -> None:
        core = self._core
        session, params = core.the_session, core.params
        if field is CaptureState.PAN:
            core.asking.ask(pan_script(params), PANEntry(session.longest_pan), lead)
        elif field is CaptureState.EXPIRY:
            core.expiry_complete = False
            core.asking.ask(expiry_script(params), ExpiryEntry(), lead)
        else:
            core.security_code_complete = False
            brand = core.card.brand
            assert brand is not None
            entry = SecurityCodeEntry(brand.security_code_length)
            core.asking.ask(security_code_script(params, brand), entry, lead)

    def _check_pan(self) -> None:
        core = self._core
        session, entry = core.the_session, core.asking.entry
        assert isinstance(entry, PANEntry)
        possible = entry.complete
        pan = entry.take()
        fault = pan.fault(session.accepted_brands)
        if fault is not None or not possible:
            message = (
                fault_phrase(fault, pan.length)
                if fault is not None
                else Phrase(PhraseKey.PAN_WRONG_LENGTH, (DigitCount(pan.length),))
            )
        elif session.test_pan_digests is not None and not pan.has_digest_in(session.test_pan_digests):
            message = Phrase(PhraseKey.TEST_LINE)
        else:
            core.card.put_pan(pan)
            self.charging.new_pan()
            self._next(CaptureState.EXPIRY)
            return
        pan.wipe()
        self._wrong(CaptureState.PAN, message)

    def _check_expiry(self) -> None:
        core = self._core
        session, entry = core.the_session, core.asking.entry
        assert isinstance(entry, ExpiryEntry)
        expiry = entry.take()
        fault = expiry.fault(session.today)
        if fault is not None:
            message = fault_phrase(fault, expiry.length)
            expiry.wipe()
            self._wrong(CaptureState.EXPIRY, message)
            return
        core.card.put_expiry(expiry)
        core.expiry_complete = True
        if session.security_code_required:
            self._next(CaptureState.SECURITY_CODE)
        else:
            self._next(CaptureState.CONFIRM)

    def _check_security_code(self) -> None:
        core = self._core
        entry = core.asking.entry
        assert isinstance(entry, SecurityCodeEntry)
        if not entry.complete:
            brand = core.card.brand
            assert brand is not None
            needed = DigitCount(brand.security_code_length)
            self._wrong(CaptureState.SECURITY_CODE, Phrase(PhraseKey.SECURITY_CODE_INCOMPLETE, (needed,)))
            return
        core.card.put_security_code(entry.take())
        core.security_code_complete = True
        self._next(CaptureState.CONFIRM)

    def _next(self, state: CaptureState) -> None:
        self._core.asking.stop()
        self.enter(state)

    def _wrong(self, field: CaptureState, message: Phrase) -> None:
        if self._mistake(field):
            self._ask(field, (message,))

    def _mistake(self, field: CaptureState) -> bool:
        """Counts a mistake; false if it was the last one and the capture is over."""
        self._mistakes[field] = self._mistakes.get(field, 0) + 1
        if self._mistakes[field] < self._core.params.max_attempts:
            return True
        self._closing.begin(Result.TOO_MANY_MISTAKES, Phrase(PhraseKey.TOO_MANY_MISTAKES))
        return False

    def _ask_confirmation(self, lead: tuple[Phrase, ...]) -> None:
        core, session = self._core, self._core.the_session
        phrases = list(lead)
        if session.speak_amount:
            phrases.append(Phrase(PhraseKey.CONFIRM_AMOUNT, (Amount(session.amount, session.currency),)))
        else:
            phrases.append(Phrase(PhraseKey.CONFIRM_WITHOUT_AMOUNT))
        if session.speak_last4:
            phrases.append(Phrase(PhraseKey.CONFIRM_LAST4, (Last4(core.card.last4),)))
        core.outbox.stop(TimerName.KEYS)
        core.voice.say(tuple(phrases), self._amount_spoken)

    def _amount_spoken(self, spoken: bool) -> None:
        if not spoken:
            # An amount that nobody can have heard is never confirmed.
            self._closing.begin(Result.SERVICE_UNAVAILABLE, Phrase(PhraseKey.SERVICE_UNAVAILABLE))
            return
        self._choice_open = True
        self._core.voice.say((_CHOICE,), self._await_choice)

    def _await_choice(self, _spoken: bool) -> None:
        self._core.outbox.start(TimerName.KEYS, self._core.params.confirm_s)

    def _leave_confirmation(self) -> None:
        self._choice_open = False
        self._core.outbox.stop(TimerName.KEYS)
        self._core.voice.hush()

    def _key_again(self) -> None:
        self._restarts += 1
        if self._restarts > self._core.params.max_restarts:
            self._closing.begin(Result.TOO_MANY_MISTAKES, Phrase(PhraseKey.TOO_MANY_MISTAKES))
            return
        self._core.wipe()
        self.another_card(PhraseKey.CARD_AGAIN)

    def another_card(self, message: PhraseKey) -> None:
        """Begins again at the card number, every count of mistakes at nought."""
        self._mistakes.clear()
        self.enter(CaptureState.PAN, Phrase(message))
