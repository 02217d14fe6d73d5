"""The whole way of a customer who pays, by example."""

from sipivr.dialogue import Ending
from sipivr.dialogue import effects as ef
from sipivr.dialogue.effects import Outcome, Result
from sipivr.dialogue.phrases import Phrase
from sipivr.dialogue.phrases import PhraseKey as Key
from sipivr.dialogue.states import CaptureState

from .driver import (
    VISA,
    Driver,
)


def test_a_paid_call(call: Driver) -> None:
    call.to_charge()
    assert call.charge is not None
    card = call.charge.card
    with card.disclose() as fields:
        assert (fields.number, fields.expire, fields.security_code) == (VISA.encode(), b"2809", b"737")
    call.approved()
    assert card.wiped
    call.to_the_end()
    assert call.said == [
        Key.GREETING,
        Key.IDENTIFICATION_PROMPT,
        Key.SHOP_AND_AMOUNT,
        Key.CAPTURE_INTRODUCTION,
        Key.PAN_PROMPT,
        Key.EXPIRY_PROMPT,
        Key.SECURITY_CODE_PROMPT,
        Key.CONFIRM_AMOUNT,
        Key.CONFIRM_CHOICE,
        Key.PLEASE_WAIT,
        Key.PAYMENT_APPROVED,
        Key.KEY_ENTRY_OVER,
        Key.GOODBYE_OPERATOR,
    ]
    assert call.result is Result.PAID
    assert call.outcomes == [Outcome.APPROVED]
    assert len(call.of(ef.SubmitCharge)) == 1
    assert len(call.of(ef.LiftMask)) == 1
    assert not call.of(ef.ReleaseSession)
    assert call.dialogue.finished
    assert [effect.capture for effect in call.of(ef.PublishCapture)] == [
        CaptureState.PAN,
        CaptureState.EXPIRY,
        CaptureState.SECURITY_CODE,
        CaptureState.CONFIRM,
        CaptureState.SUBMITTED,
        CaptureState.DONE,
    ]


def test_the_language_is_the_numbers_until_the_session_says_its_own(call: Driver) -> None:
    call.to_pan()
    languages = [play.language for play in call.of(ef.Play)]
    assert languages == ["en", "ja", "ja"]


def test_the_waiting_tone_runs_until_the_answer(call: Driver) -> None:
    call.to_charge()
    call.finish_prompt()
    assert call.playing is not None
    assert call.playing.repeat
    assert call.playing.phrases == (Phrase(Key.WAIT_TONE),)
    call.approved()
    assert call.playing.phrases[0].key is Key.PAYMENT_APPROVED


def test_self_service_ends_with_a_goodbye() -> None:
    call = Driver(ending=Ending.GOODBYE)
    call.to_charge()
    call.approved()
    call.to_the_end()
    assert call.said[-1] is Key.GOODBYE
