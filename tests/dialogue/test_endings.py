"""Hang-ups, the end of key entry, the operator, the merchant, the media worker, time."""

import pytest

from sipivr.card import Brand
from sipivr.dialogue import effects as ef
from sipivr.dialogue import events as ev
from sipivr.dialogue.effects import Outcome, Result
from sipivr.dialogue.phrases import Amount
from sipivr.dialogue.phrases import PhraseKey as Key
from sipivr.dialogue.states import CaptureState, MaskState, TalkState

from .driver import (
    VISA,
    Driver,
)

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
    call.finish_prompt()
    assert call.said[-2:] == [Key.LINE_RESTORED, Key.IDENTIFICATION_PROMPT]


def test_keys_meant_for_the_lost_field_do_not_begin_the_new_one(call: Driver) -> None:
    """A customer who keys on through the loss has noticed nothing of it."""
    call.to_pan()
    call.keys(VISA[:8])
    call.send(ev.MediaLost())
    call.playing = None
    call.send(ev.MediaRestored())
    call.mask_applied()
    call.keys(VISA[8:])
    assert not call.dialogue.card_held
    call.finish_prompt()
    call.field(VISA)
    assert call.dialogue.capture is CaptureState.EXPIRY


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
