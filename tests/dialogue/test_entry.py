"""Keying: identification, mask, mistakes, silence, the key grammar."""

import pytest

from sipivr.card import Brand
from sipivr.dialogue import effects as ef
from sipivr.dialogue import events as ev
from sipivr.dialogue.effects import Result
from sipivr.dialogue.phrases import DigitCount, Phrase
from sipivr.dialogue.phrases import PhraseKey as Key
from sipivr.dialogue.states import CaptureState

from .driver import (
    AMEX,
    DINERS,
    IDENTIFICATION,
    VISA,
    VISA_2,
    Driver,
    digests_of,
    snapshot,
)

WRONG_VISA = VISA[:-1] + "2"


# Identification.


@pytest.mark.parametrize(
    "reason",
    [ev.RefusalReason.WRONG, ev.RefusalReason.EXPIRED, ev.RefusalReason.USED, ev.RefusalReason.FOREIGN],
)
def test_three_refused_numbers_end_the_call_with_one_and_the_same_message(
    call: Driver, reason: ev.RefusalReason
) -> None:
    call.to_claim()
    call.refused(reason)
    for _ in range(2):
        call.listen()
        call.field(IDENTIFICATION)
        call.refused(reason)
    call.to_the_end()
    assert call.said[2:] == [
        Key.IDENTIFICATION_REFUSED,
        Key.IDENTIFICATION_PROMPT,
        Key.IDENTIFICATION_REFUSED,
        Key.IDENTIFICATION_PROMPT,
        Key.IDENTIFICATION_REFUSED_FINALLY,
        Key.GOODBYE_OPERATOR,
    ]
    assert call.result is Result.IDENTIFICATION_REFUSED
    assert not call.of(ef.ApplyMask)


def test_a_caller_over_the_limit_gets_no_second_try(call: Driver) -> None:
    call.to_claim()
    call.refused(ev.RefusalReason.LIMITED)
    call.to_the_end()
    assert Key.IDENTIFICATION_REFUSED_FINALLY in call.said


def test_a_store_that_cannot_answer(call: Driver) -> None:
    call.to_claim()
    call.refused(ev.RefusalReason.UNAVAILABLE)
    call.to_the_end()
    assert call.result is Result.SERVICE_UNAVAILABLE


def test_a_claim_without_an_answer(call: Driver) -> None:
    call.to_claim()
    call.wait(5)
    assert call.said[-2] is Key.SERVICE_UNAVAILABLE
    call.claimed()
    assert call.of(ef.ReleaseSession) == [ef.ReleaseSession("ps_1")]
    call.to_the_end()


def test_a_claim_answered_after_the_customer_left_is_given_back(call: Driver) -> None:
    call.to_claim()
    call.send(ev.CustomerHungUp())
    call.claimed()
    assert call.of(ef.ReleaseSession) == [ef.ReleaseSession("ps_1")]


def test_an_incomplete_identification_number_is_not_looked_up(call: Driver) -> None:
    call.to_identification()
    call.field("123#")
    assert call.claim is None
    assert Key.IDENTIFICATION_INCOMPLETE in call.said


def test_identification_numbers_of_several_lengths_end_by_pound_or_silence() -> None:
    call = Driver(lengths=(8, 10))
    call.to_identification()
    assert Key.IDENTIFICATION_PROMPT_OPEN in call.said
    call.keys("12345678")
    assert call.claim is None
    call.key("#")
    call.wait(0.6)
    assert call.claim is not None
    assert call.claim.number == "12345678"
    assert "12345678" not in repr(call.claim)


# The mask.


def test_no_capture_before_the_mask_is_acknowledged(call: Driver) -> None:
    call.to_masking()
    assert call.dialogue.capture is CaptureState.IDLE
    assert Key.PAN_PROMPT not in call.said
    call.keys(VISA, gap=0.05)
    assert not call.dialogue.card_held
    call.send(ev.MaskApplied(999))
    assert call.dialogue.capture is CaptureState.IDLE


@pytest.mark.parametrize("way", ["refused", "silent"])
def test_a_mask_that_fails_aborts(call: Driver, way: str) -> None:
    call.to_masking()
    assert call.mask is not None
    if way == "refused":
        call.send(ev.MaskFailed(call.mask.request))
    else:
        call.wait(2)
    assert call.dialogue.capture is CaptureState.ABORTED
    call.to_the_end()
    assert call.result is Result.MASK_UNAVAILABLE
    assert Key.PAN_PROMPT not in call.said
    assert not call.of(ef.LiftMask)
    assert call.of(ef.ReleaseSession)


def test_a_mask_that_is_lost_in_the_middle_aborts(call: Driver) -> None:
    call.to_expiry()
    call.keys("09")
    call.send(ev.MaskFailed())
    assert call.dialogue.capture is CaptureState.ABORTED
    assert not call.dialogue.card_held
    call.to_the_end()
    assert not call.of(ef.LiftMask)


def test_a_mask_lost_while_charging_ends_key_entry_but_not_the_charge(call: Driver) -> None:
    call.to_charge()
    call.send(ev.MaskFailed())
    assert call.dialogue.capture is CaptureState.DONE
    call.declined(ev.DeclineClass.ANOTHER_CARD)
    call.to_the_end()
    assert call.result is Result.DECLINED


# Mistakes.


def test_three_wrong_numbers(call: Driver) -> None:
    call.to_pan()
    for _ in range(3):
        call.field(WRONG_VISA)
    assert call.said.count(Key.PAN_WRONG) == 2
    call.to_the_end()
    assert call.result is Result.TOO_MANY_MISTAKES
    assert call.of(ef.ReleaseSession) == [ef.ReleaseSession("ps_1")]
    assert not call.of(ef.SubmitCharge)


def test_a_number_too_short(call: Driver) -> None:
    call.to_pan()
    call.field("411111#")
    assert call.last_play is not None
    assert call.last_play.phrases[0] == Phrase(Key.PAN_WRONG_LENGTH, (DigitCount(6),))


def test_a_brand_not_accepted() -> None:
    call = Driver(session=snapshot(accepted_brands=frozenset({Brand.JCB})))
    call.to_pan()
    call.field(VISA)
    assert Key.BRAND_NOT_ACCEPTED in call.said


def test_a_real_card_on_a_test_line_is_refused_and_wiped() -> None:
    call = Driver(session=snapshot(test_pan_digests=digests_of(VISA_2)))
    call.to_pan()
    call.field(VISA)
    assert Key.TEST_LINE in call.said
    assert not call.dialogue.card_held
    call.field(VISA_2)
    assert call.dialogue.capture is CaptureState.EXPIRY


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("1328", Key.EXPIRY_NO_SUCH_MONTH),
        ("1025", Key.EXPIRY_PAST),
        ("0199", Key.EXPIRY_TOO_FAR),
        ("09#", Key.EXPIRY_INCOMPLETE),
    ],
)
def test_impossible_expiries(call: Driver, keys: str, message: Key) -> None:
    call.to_expiry()
    call.field(keys)
    assert call.dialogue.capture is CaptureState.EXPIRY
    assert message in call.said
    call.field("0928")
    assert call.dialogue.capture is CaptureState.SECURITY_CODE


@pytest.mark.parametrize(("pan", "keys", "needed"), [(VISA, "73#", 3), (AMEX, "737#", 4)])
def test_wrong_code_length(call: Driver, pan: str, keys: str, needed: int) -> None:
    call.to_security_code(pan)
    call.field(keys)
    assert call.last_play is not None
    assert call.last_play.phrases[0] == Phrase(Key.SECURITY_CODE_INCOMPLETE, (DigitCount(needed),))


def test_amex_has_its_own_code_prompt(call: Driver) -> None:
    call.to_charge(AMEX)
    assert Key.SECURITY_CODE_PROMPT_AMEX in call.said


def test_a_shop_that_asks_for_no_security_code() -> None:
    call = Driver(session=snapshot(security_code_required=False))
    call.to_expiry()
    call.field("0928")
    assert call.dialogue.capture is CaptureState.CONFIRM
    call.key("1")
    assert call.charge is not None
    with call.charge.card.disclose() as fields:
        assert fields.security_code is None


# Silence.


def test_no_keys_at_all(call: Driver) -> None:
    call.to_identification()
    for _ in range(2):
        call.wait(30)
        assert call.said[-2:] == [Key.NO_KEYS_HEARD, Key.IDENTIFICATION_PROMPT]
        call.listen()
    assert call.of(ef.PublishProgress)[-1].no_keys_heard
    call.wait(30)
    call.to_the_end()
    assert call.result is Result.NO_INPUT


def test_keys_of_the_operator_say_nothing_about_the_customers_telephone(call: Driver) -> None:
    call.to_pan()
    call.wait(30)
    assert call.said[-2:] == [Key.NO_KEYS_HEARD, Key.PAN_PROMPT]


def test_silence_is_no_mistake_and_the_digits_stay(call: Driver) -> None:
    call.to_pan()
    call.keys(VISA[:8])
    call.wait(12)
    assert call.last_play is not None
    assert call.last_play.phrases == (Phrase(Key.PAN_DIGITS_SO_FAR, (DigitCount(8),)),)
    call.listen()
    call.field(VISA[8:])
    assert call.dialogue.capture is CaptureState.EXPIRY


def test_nine_seconds_after_every_fourth_digit(call: Driver) -> None:
    call.to_pan()
    for start in range(0, 16, 4):
        call.keys(VISA[start : start + 4])
        call.wait(9)
    assert call.dialogue.capture is CaptureState.EXPIRY
    assert Key.PAN_DIGITS_SO_FAR not in call.said


def test_three_silences_in_a_row_end_the_entry(call: Driver) -> None:
    call.to_pan()
    call.keys("4111")
    for _ in range(2):
        call.wait(12)
        assert call.said[-1] is Key.PAN_DIGITS_SO_FAR
        call.listen()
    call.wait(12)
    assert not call.dialogue.card_held
    call.to_the_end()
    assert call.result is Result.NO_INPUT


def test_the_security_code_has_a_hint_after_twelve_seconds(call: Driver) -> None:
    call.to_security_code()
    mark = len(call.said)
    call.wait(12)
    assert call.said_since(mark) == [Key.SECURITY_CODE_WHERE]
    call.listen()
    call.wait(17.9)
    assert call.said_since(mark) == [Key.SECURITY_CODE_WHERE]
    call.wait(0.2)
    assert call.said_since(mark) == [Key.SECURITY_CODE_WHERE, Key.SECURITY_CODE_PROMPT]


def test_a_number_of_several_lengths_ends_by_silence_after_a_hint(call: Driver) -> None:
    call.to_pan()
    call.keys(DINERS)
    call.wait(4)
    assert call.said[-1] is Key.FINISH_WITH_POUND
    call.listen()
    call.wait(8.6)
    assert call.dialogue.capture is CaptureState.EXPIRY


# The key grammar.


def test_pound_after_every_field_and_a_doubled_digit_harm_nothing(call: Driver) -> None:
    call.to_pan()
    call.field(VISA + "#")
    call.field("0928#")
    call.field("7377")
    assert call.dialogue.capture is CaptureState.CONFIRM


def test_keys_are_dropped_until_there_was_quiet(call: Driver) -> None:
    call.to_pan()
    call.keys(VISA)
    for _ in range(5):
        call.wait(0.25)
        call.key("0")
    call.wait(0.59)
    assert call.dialogue.capture is CaptureState.PAN
    call.wait(0.02)
    assert call.dialogue.capture is CaptureState.EXPIRY
    assert call.of(ef.PublishProgress)[-1].expiry is ef.FieldProgress.EMPTY


def test_star_clears_and_pound_in_an_empty_field_is_nothing(call: Driver) -> None:
    call.to_pan()
    call.keys("##")
    call.keys("4999*")
    assert call.said[-1] is Key.FIELD_CLEARED
    call.field(VISA)
    assert call.dialogue.capture is CaptureState.EXPIRY


def test_a_prompt_cut_by_a_key_without_effect_is_said_again(call: Driver) -> None:
    call.to_masking()
    call.mask_applied()
    call.key("#")
    assert call.said[-2:] == [Key.CAPTURE_INTRODUCTION, Key.PAN_PROMPT]
    assert call.said.count(Key.PAN_PROMPT) == 2
    for _ in range(3):
        call.key("A")
    assert call.said.count(Key.PAN_PROMPT) == 3
    assert call.playing is None


@pytest.mark.parametrize("order", ["key first", "playlist first"])
def test_barge_in_in_either_order(call: Driver, order: str) -> None:
    call.to_masking()
    call.mask_applied()
    assert call.playing is not None
    playlist = call.playing.playlist
    events: list[ev.Event] = [ev.KeyPressed(4), ev.PlayFinished(playlist, interrupted=True)]
    for event in events if order == "key first" else reversed(events):
        call.send(event)
    assert call.playing is None
    call.field(VISA[1:])
    assert call.dialogue.capture is CaptureState.EXPIRY


@pytest.mark.parametrize(
    "where", ["to_identification", "to_masking", "to_pan", "to_expiry", "to_confirmation"]
)
def test_star_pound_asks_for_the_operator_anywhere(call: Driver, where: str) -> None:
    getattr(call, where)()
    call.keys("*#")
    assert Key.OPERATOR_REQUESTED in call.said
    assert not call.dialogue.card_held
    call.to_the_end()
    assert call.result is Result.OPERATOR_REQUESTED


def test_star_pound_with_digits_in_the_field(call: Driver) -> None:
    call.to_pan()
    call.keys("4111*#")
    assert call.dialogue.capture is CaptureState.ABORTED
