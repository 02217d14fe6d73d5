"""Each path that a customer may take, by example."""

import pytest

from sipivr.card import Brand, CardWipedError
from sipivr.dialogue import Ending
from sipivr.dialogue import effects as ef
from sipivr.dialogue import events as ev
from sipivr.dialogue.effects import Outcome, Result
from sipivr.dialogue.phrases import Amount, DigitCount, Last4, Phrase
from sipivr.dialogue.phrases import PhraseKey as Key
from sipivr.dialogue.states import CaptureState, MaskState, PaymentState, TalkState

from .driver import (
    AMEX,
    DINERS,
    IDENTIFICATION,
    MASTERCARD,
    VISA,
    VISA_2,
    Driver,
    check_rules,
    digests_of,
    snapshot,
)

WRONG_VISA = VISA[:-1] + "2"


@pytest.fixture
def call() -> Driver:
    driver = Driver()
    driver.seen = lambda the_driver, _event, _effects: check_rules(the_driver)
    return driver


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


# The confirmation.


def test_nothing_pressed_before_the_amount_was_spoken_confirms(call: Driver) -> None:
    call.to_security_code()
    call.keys("737")
    call.wait(0.6)
    assert call.playing is not None
    assert not call.playing.barge_in
    call.keys("1111")
    assert call.charge is None
    call.finish_prompt()
    assert call.said[-1] is Key.CONFIRM_CHOICE
    call.key("1")
    assert call.charge is not None


def test_an_amount_that_could_not_be_spoken_is_never_confirmed(call: Driver) -> None:
    call.to_security_code()
    call.keys("737")
    call.wait(0.6)
    for _ in range(3):
        assert call.said[-1] is Key.CONFIRM_AMOUNT
        call.key("1")
        call.finish_prompt(interrupted=True)
    assert call.charge is None
    call.to_the_end()
    assert call.result is Result.SERVICE_UNAVAILABLE


def test_two_keys_the_card_again(call: Driver) -> None:
    call.to_confirmation()
    call.key("2")
    assert call.dialogue.capture is CaptureState.PAN
    assert not call.dialogue.card_held
    call.another_go(MASTERCARD)
    assert call.charge is not None
    assert call.charge.card.brand is Brand.MASTERCARD


def test_keying_again_has_an_end(call: Driver) -> None:
    call.to_confirmation()
    for _ in range(2):
        call.key("2")
        call.listen()
        call.field(VISA)
        call.field("0928")
        call.field("737")
    call.key("2")
    call.to_the_end()
    assert call.result is Result.TOO_MANY_MISTAKES


def test_wrong_keys_at_the_confirmation(call: Driver) -> None:
    call.to_confirmation()
    for _ in range(2):
        call.key("5")
        assert call.said[-2:] == [Key.CONFIRM_WRONG_KEY, Key.CONFIRM_CHOICE]
        call.listen()
    call.key("0")
    call.to_the_end()
    assert call.result is Result.TOO_MANY_MISTAKES


def test_silence_at_the_confirmation(call: Driver) -> None:
    call.to_confirmation()
    for _ in range(2):
        call.wait(15)
        assert call.said[-1] is Key.CONFIRM_AMOUNT
        call.listen()
    call.wait(15)
    call.to_the_end()
    assert call.result is Result.NO_INPUT


def test_what_the_confirmation_says_is_the_merchants_choice() -> None:
    call = Driver(session=snapshot(speak_amount=False, speak_last4=True))
    call.to_confirmation()
    confirmation = call.of(ef.Play)[-2]
    assert confirmation.phrases == (
        Phrase(Key.CONFIRM_WITHOUT_AMOUNT),
        Phrase(Key.CONFIRM_LAST4, (Last4("1111"),)),
    )


# The gateway.


@pytest.mark.parametrize(
    ("decline", "state", "message"),
    [
        (ev.DeclineClass.REENTER_PAN, CaptureState.PAN, Key.DECLINED_PAN),
        (ev.DeclineClass.REENTER_EXPIRY, CaptureState.EXPIRY, Key.DECLINED_EXPIRY),
        (ev.DeclineClass.REENTER_SECURITY_CODE, CaptureState.SECURITY_CODE, Key.DECLINED_SECURITY_CODE),
        (ev.DeclineClass.ANOTHER_CARD, CaptureState.PAN, Key.DECLINED_ANOTHER_CARD),
    ],
)
def test_after_a_decline_by_its_class(
    call: Driver, decline: ev.DeclineClass, state: CaptureState, message: Key
) -> None:
    call.to_charge()
    first = call.charge
    call.declined(decline)
    assert call.dialogue.capture is state
    assert message in call.said
    call.listen()
    if state is CaptureState.PAN:
        assert first is not None
        assert first.card.wiped
        call.field(VISA_2)
    if state in (CaptureState.PAN, CaptureState.EXPIRY):
        call.field("1027")
    call.field("999")
    assert call.dialogue.capture is CaptureState.CONFIRM
    call.key("1")
    assert call.charge is not None
    assert call.charge.attempt == 2
    with call.charge.card.disclose() as fields:
        assert fields.security_code == b"999"
    call.approved()
    call.to_the_end()
    assert call.result is Result.PAID
    assert call.outcomes == [Outcome.DECLINED, Outcome.APPROVED]


@pytest.mark.parametrize(
    ("decline", "message"),
    [
        (ev.DeclineClass.STOP, Key.DECLINED_FINALLY),
        (ev.DeclineClass.TRY_LATER, Key.DECLINED_TRY_LATER),
    ],
)
def test_declines_that_end(call: Driver, decline: ev.DeclineClass, message: Key) -> None:
    call.to_charge()
    call.declined(decline)
    assert message in call.said
    call.to_the_end()
    assert call.result is Result.DECLINED
    assert not call.of(ef.ReleaseSession)


def test_at_most_three_cards(call: Driver) -> None:
    call.to_charge()
    for _ in range(2):
        call.declined(ev.DeclineClass.ANOTHER_CARD)
        call.another_go()
    call.declined(ev.DeclineClass.ANOTHER_CARD)
    call.to_the_end()
    assert len(call.of(ef.SubmitCharge)) == 3
    assert call.result is Result.DECLINED


def test_two_security_code_failures_cost_the_card(call: Driver) -> None:
    call.to_charge()
    call.declined(ev.DeclineClass.REENTER_SECURITY_CODE)
    call.listen()
    call.field("738")
    call.key("1")
    call.declined(ev.DeclineClass.REENTER_SECURITY_CODE)
    assert call.dialogue.capture is CaptureState.PAN
    assert Key.DECLINED_ANOTHER_CARD in call.said


def test_the_sessions_gateway_attempts_run_out() -> None:
    call = Driver(session=snapshot(gateway_attempts_left=1))
    call.to_charge()
    call.declined(ev.DeclineClass.REENTER_EXPIRY)
    call.to_the_end()
    assert call.result is Result.DECLINED


def test_the_security_code_does_not_outlive_its_authorization(call: Driver) -> None:
    call.to_charge()
    call.declined(ev.DeclineClass.REENTER_EXPIRY)
    assert call.charge is not None
    with call.charge.card.disclose() as fields:
        assert fields.security_code is None


def test_a_gateway_that_is_down(call: Driver) -> None:
    call.to_charge()
    call.send(ev.GatewayUnavailable(1))
    assert Key.NOT_CHARGED_UNAVAILABLE in call.said
    call.to_the_end()
    assert call.result is Result.GATEWAY_UNAVAILABLE
    assert call.outcomes == [Outcome.NOT_SENT]
    assert call.dialogue.finished


def test_a_slow_gateway(call: Driver) -> None:
    call.to_charge()
    call.listen()
    call.wait(10)
    assert call.said[-1] is Key.STILL_WAITING
    call.listen()
    call.approved()
    call.to_the_end()
    assert call.result is Result.PAID


def test_a_gateway_that_never_answers(call: Driver) -> None:
    call.to_charge()
    assert call.charge is not None
    card = call.charge.card
    call.listen()
    call.wait(25)
    assert card.wiped
    with pytest.raises(CardWipedError), card.disclose():
        pass
    assert Key.NOT_CONFIRMED in call.said
    call.to_the_end()
    assert call.result is Result.UNCONFIRMED
    assert not call.dialogue.finished
    call.approved()
    assert call.dialogue.finished
    assert call.outcomes == [Outcome.APPROVED]


def test_an_unknown_outcome_is_being_confirmed(call: Driver) -> None:
    call.to_charge()
    call.send(ev.ChargeUnknown(1))
    assert call.said[-1] is Key.CONFIRMING
    assert not call.dialogue.card_held
    call.listen()
    call.wait(20)
    call.approved()
    call.to_the_end()
    assert call.result is Result.PAID
    assert call.outcomes == [Outcome.UNKNOWN, Outcome.APPROVED]


def test_an_unknown_outcome_that_stays_unknown(call: Driver) -> None:
    call.to_charge()
    call.send(ev.ChargeUnknown(1))
    call.listen()
    call.wait(25)
    assert Key.NOT_CONFIRMED in call.said
    call.to_the_end()
    assert call.result is Result.UNCONFIRMED
    assert not call.dialogue.finished
    assert not call.timers
    call.declined(ev.DeclineClass.STOP)
    assert call.dialogue.finished
    assert len(call.of(ef.SubmitCharge)) == 1


def test_a_decline_after_unknown_asks_for_the_whole_card(call: Driver) -> None:
    call.to_charge()
    call.send(ev.ChargeUnknown(1))
    call.declined(ev.DeclineClass.REENTER_EXPIRY)
    assert call.dialogue.capture is CaptureState.PAN
    call.another_go()
    assert len(call.of(ef.SubmitCharge)) == 2


def test_answers_to_an_earlier_attempt_are_ignored(call: Driver) -> None:
    call.to_charge()
    call.declined(ev.DeclineClass.ANOTHER_CARD)
    call.another_go()
    call.send(ev.ChargeApproved(1))
    assert call.dialogue.payment is PaymentState.AUTHORIZING


# Hang-up at every step.

STEPS = [
    "connect",
    "to_identification",
    "to_claim",
    "to_masking",
    "to_pan",
    "to_expiry",
    "to_security_code",
    "to_confirmation",
]


@pytest.mark.parametrize("step", STEPS)
def test_hang_up_before_the_charge(call: Driver, step: str) -> None:
    getattr(call, step)()
    call.keys("4")
    call.send(ev.CustomerHungUp())
    assert call.result is Result.CUSTOMER_HUNG_UP
    assert call.dialogue.finished
    assert not call.dialogue.card_held
    assert not call.timers
    assert bool(call.of(ef.ReleaseSession)) == (call.claim is not None and step != "to_claim")
    assert not call.of(ef.HangUp)


def test_hang_up_before_the_answer() -> None:
    call = Driver()
    call.send(ev.CustomerHungUp())
    assert call.dialogue.finished


def test_hang_up_while_authorizing_and_a_late_answer(call: Driver) -> None:
    call.to_charge()
    assert call.charge is not None
    call.send(ev.CustomerHungUp())
    assert call.result is Result.PAYMENT_PENDING
    assert not call.dialogue.finished
    assert not call.charge.card.wiped
    call.wait(3)
    call.approved()
    assert call.charge.card.wiped
    assert call.dialogue.finished
    assert call.outcomes == [Outcome.APPROVED]
    assert not call.timers


def test_hang_up_while_authorizing_and_no_answer(call: Driver) -> None:
    call.to_charge()
    assert call.charge is not None
    call.send(ev.CustomerHungUp())
    call.wait(25)
    assert call.charge.card.wiped
    assert not call.dialogue.finished
    call.send(ev.ChargeUnknown(1))
    call.declined(ev.DeclineClass.REENTER_PAN)
    assert call.dialogue.finished
    assert call.outcomes == [Outcome.UNKNOWN, Outcome.DECLINED]


def test_hang_up_during_the_farewell(call: Driver) -> None:
    call.to_charge()
    call.approved()
    call.send(ev.CustomerHungUp())
    assert call.result is Result.PAID
    assert call.dialogue.finished


# The end of key entry (invariant 1).


def test_the_mask_lifts_three_seconds_after_the_last_key(call: Driver) -> None:
    call.to_charge()
    call.approved()
    call.key("1")
    assert call.of(ef.PublishProgress)[-1].still_pressing
    call.finish_prompt()
    call.listen()
    for _ in range(4):
        call.wait(2.9)
        call.key("1")
        assert call.dialogue.mask is MaskState.ON
    call.wait(3.1)
    call.listen()
    assert call.of(ef.LiftMask)
    assert call.of(ef.HangUp)
    assert Key.KEY_ENTRY_OVER in call.said[-4:]


def test_a_mask_never_lifts_if_the_customer_could_not_be_told(call: Driver) -> None:
    call.to_charge()
    call.approved()
    while not call.of(ef.HangUp):
        call.next_timer()
    assert not call.of(ef.LiftMask)


def test_a_telling_that_was_cut_is_no_telling(call: Driver) -> None:
    call.to_charge()
    call.approved()
    for _ in range(3):
        assert call.said[-1] is Key.KEY_ENTRY_OVER
        call.finish_prompt(interrupted=True)
    call.wait(89)
    assert call.dialogue.mask is MaskState.ON
    call.wait(2)
    assert call.of(ef.HangUp)
    assert not call.of(ef.LiftMask)


def test_a_mask_that_comes_on_after_the_end_is_lifted_by_the_same_rule(call: Driver) -> None:
    call.to_masking()
    call.send(ev.OperatorTookBack())
    call.finish_prompt()
    call.wait(3.1)
    call.key("5")
    call.mask_applied()
    assert not call.of(ef.LiftMask)
    call.to_the_end()
    assert len(call.of(ef.LiftMask)) == 1


def test_keys_without_end_do_not_hold_the_call(call: Driver) -> None:
    call.to_pan()
    call.keys("*#")
    call.listen()
    for _ in range(100):
        call.wait(1)
        if call.of(ef.HangUp):
            break
        call.key("5")
        call.listen()
    assert call.of(ef.HangUp)
    assert not call.of(ef.LiftMask)


# The operator and the merchant.


@pytest.mark.parametrize("step", STEPS[1:])
def test_take_back_before_the_charge(call: Driver, step: str) -> None:
    getattr(call, step)()
    call.keys("44")
    call.send(ev.OperatorTookBack())
    assert not call.dialogue.card_held
    call.to_the_end()
    assert call.result is Result.TAKEN_BACK


def test_take_back_while_charging(call: Driver) -> None:
    call.to_charge()
    call.send(ev.OperatorTookBack())
    assert Key.PAYMENT_CONTINUES in call.said
    call.listen()
    call.approved()
    call.to_the_end()
    assert call.result is Result.PAYMENT_PENDING
    assert call.outcomes == [Outcome.APPROVED]


def test_reset_of_a_field(call: Driver) -> None:
    call.to_expiry()
    call.keys("12")
    call.send(ev.OperatorResetField())
    assert call.said[-2:] == [Key.FIELD_RESET, Key.EXPIRY_PROMPT]
    call.listen()
    call.field("0928")
    assert call.dialogue.capture is CaptureState.SECURITY_CODE


def test_the_merchant_cancels(call: Driver) -> None:
    call.to_security_code()
    call.send(ev.SessionCancelled())
    call.to_the_end()
    assert call.result is Result.SESSION_CANCELLED


def test_a_charge_is_not_cancelled(call: Driver) -> None:
    call.to_charge()
    call.send(ev.SessionCancelled())
    call.approved()
    call.to_the_end()
    assert call.result is Result.PAID


# The media worker.


@pytest.mark.parametrize(
    ("step", "state"),
    [
        ("to_pan", CaptureState.PAN),
        ("to_expiry", CaptureState.EXPIRY),
        ("to_security_code", CaptureState.SECURITY_CODE),
        ("to_confirmation", CaptureState.CONFIRM),
        ("to_charge", CaptureState.SUBMITTED),
    ],
)
def test_a_worker_dies_and_the_field_is_asked_again_behind_a_new_mask(
    call: Driver, step: str, state: CaptureState
) -> None:
    getattr(call, step)()
    if state in (CaptureState.PAN, CaptureState.EXPIRY):
        call.keys("12")
    call.send(ev.MediaLost())
    assert call.dialogue.capture is CaptureState.SUSPENDED
    assert call.dialogue.mask is MaskState.OFF
    call.playing = None
    call.send(ev.MediaRestored())
    assert call.dialogue.capture is CaptureState.SUSPENDED
    call.mask_applied()
    assert call.dialogue.capture is state
    if state is not CaptureState.SUBMITTED:
        assert Key.LINE_RESTORED in call.said
    call.listen()
    for digits in (VISA, "0928", "737")[{"to_pan": 0, "to_expiry": 1, "to_security_code": 2}.get(step, 3) :]:
        call.field(digits)
    if state is not CaptureState.SUBMITTED:
        call.key("1")
    call.approved()
    call.to_the_end()
    assert call.result is Result.PAID


@pytest.mark.parametrize("step", [*STEPS[1:], "to_charge"])
def test_a_worker_that_does_not_come_back(call: Driver, step: str) -> None:
    getattr(call, step)()
    call.send(ev.MediaLost())
    call.playing = None
    call.wait(10)
    assert call.of(ef.HangUp)
    # The unanswered claim runs out before the worker does.
    expected = {"to_charge": Result.PAYMENT_PENDING, "to_claim": Result.SERVICE_UNAVAILABLE}
    assert call.result is expected.get(step, Result.MEDIA_LOST)


def test_a_worker_dies_while_identifying(call: Driver) -> None:
    call.to_identification()
    call.keys("123")
    call.send(ev.MediaLost())
    call.playing = None
    call.send(ev.MediaRestored())
    assert call.said[-2:] == [Key.LINE_RESTORED, Key.IDENTIFICATION_PROMPT]


def test_a_claim_answered_while_there_is_no_worker(call: Driver) -> None:
    call.to_claim()
    call.send(ev.MediaLost())
    call.claimed()
    assert call.playing is None
    call.send(ev.MediaRestored())
    assert call.said[-1] is Key.SHOP_AND_AMOUNT


def test_a_decline_while_there_is_no_worker(call: Driver) -> None:
    call.to_charge()
    call.send(ev.MediaLost())
    call.declined(ev.DeclineClass.ANOTHER_CARD)
    assert call.dialogue.capture is CaptureState.SUSPENDED
    call.send(ev.MediaRestored())
    call.mask_applied()
    assert call.dialogue.capture is CaptureState.PAN
    assert call.said[-2:] == [Key.DECLINED_ANOTHER_CARD, Key.PAN_PROMPT]


def test_a_worker_dies_during_the_farewell(call: Driver) -> None:
    call.to_charge()
    call.approved()
    call.send(ev.MediaLost())
    call.playing = None
    call.send(ev.MediaRestored())
    assert call.said[-1] is Key.KEY_ENTRY_OVER
    call.mask_applied()
    assert call.said.count(Key.KEY_ENTRY_OVER) == 2
    call.to_the_end()
    assert call.of(ef.LiftMask)


# Time.


def test_the_longest_call(call: Driver) -> None:
    call.to_pan()
    while call.now < 899:
        call.keys("41*", gap=1)
        call.listen()
    call.wait(5)
    assert Key.CALL_TOO_LONG in call.said
    call.to_the_end()
    assert call.result is Result.CALL_TOO_LONG


def test_a_stale_timer_is_ignored(call: Driver) -> None:
    call.to_identification()
    starts = [effect for effect in call.of(ef.StartTimer) if effect.name is ef.TimerName.KEYS]
    call.key("1")
    before = len(call.effects)
    call.send(ev.TimerFired(starts[0].name, starts[0].generation))
    assert len(call.effects) == before


def test_progress_shows_groups_and_never_digits(call: Driver) -> None:
    call.to_pan()
    call.keys("411")
    assert call.of(ef.PublishProgress)[-1].pan_groups == 0
    assert call.of(ef.PublishProgress)[-1].brand is None
    call.keys("1")
    progress = call.of(ef.PublishProgress)[-1]
    assert (progress.pan_groups, progress.brand, progress.pan_complete) == (1, Brand.VISA, False)
    call.field(VISA[4:])
    progress = call.of(ef.PublishProgress)[-1]
    assert (progress.pan_complete, progress.field) == (True, ef.FieldName.EXPIRY)
    call.keys("1")
    assert call.of(ef.PublishProgress)[-1].expiry is ef.FieldProgress.STARTED


def test_amounts_are_minor_units(call: Driver) -> None:
    call.to_masking()
    announcement = call.of(ef.Play)[-1]
    assert Amount(12300, "JPY") in announcement.phrases[0].variables
    assert call.dialogue.talk is TalkState.MASKING


def test_keys_never_show_in_a_repr() -> None:
    assert repr(ev.KeyPressed(7)) == "KeyPressed()"
