"""The confirmation and everything that the gateway may answer."""

import pytest

from sipivr.card import Brand, CardWipedError
from sipivr.dialogue import effects as ef
from sipivr.dialogue import events as ev
from sipivr.dialogue.effects import Outcome, Result
from sipivr.dialogue.phrases import Last4, Phrase
from sipivr.dialogue.phrases import PhraseKey as Key
from sipivr.dialogue.states import CaptureState, PaymentState

from .driver import (
    MASTERCARD,
    VISA,
    VISA_2,
    Driver,
    snapshot,
)

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
