"""Random sequences of events against the rules of `sipivr.dialogue.states`.

The machine below is a shell without manners: keys at any time, answers late, doubled, stale or never, workers
that die. `go_on` does what a good shell and a good customer would do next, so that the walk gets far. At the
end of each walk only timers are left to run: they alone must lead out of whatever state it ended in.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sipivr import card, card_digits
from sipivr.card import Brand
from sipivr.dialogue import Ending
from sipivr.dialogue import effects as ef
from sipivr.dialogue import events as ev
from sipivr.dialogue.effects import Effect, Outcome
from sipivr.dialogue.phrases import CATALOGUE, Last4, PhraseKey, ShopName
from sipivr.dialogue.states import (
    CAPTURE_OPEN,
    CaptureState,
    CustomerLegState,
    MaskState,
    OperatorLegState,
    PaymentState,
    TalkState,
)

from .driver import (
    AMEX,
    DINERS,
    IDENTIFICATION,
    KEYS,
    MASTERCARD,
    VISA,
    Driver,
    check_rules,
    digests_of,
    snapshot,
)

#: What was met, over all walks; printed by `python -m pytest -s`.
MET: Counter[str] = Counter()

OUTCOMES = ["approved", "declined", "unknown", "unavailable"]
ANSWERS = [None, None, *ev.DeclineClass, Outcome.APPROVED, Outcome.UNKNOWN, Outcome.NOT_SENT]

AFTER_THE_CALL = (ef.RecordOutcome, ef.CardWiped, ef.StopTimer, ef.ReleaseSession, ef.PublishProgress)


class Walk(RuleBasedStateMachine):
    """One call of one random customer, shell, gateway and operator."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.buffers: list[bytearray] = []
        for module in (card, card_digits):
            self.patch.setattr(module, "new_buffer", self._new_buffer, raising=False)
        self.mask_acknowledged = False
        self.told_at: float | None = None
        self.telling: int | None = None
        self.last_key_at = -100.0
        self.outcomes: dict[int, Outcome] = {}
        self.last_playlist = 0
        self.media_up = True
        self.returned = self.told_once = False

    def _new_buffer(self, size: int) -> bytearray:
        self.buffers.append(bytearray(size))
        return self.buffers[-1]

    def teardown(self) -> None:
        """Every state has a way out by timers alone."""
        if hasattr(self, "call"):
            MET[f"ended in {self.call.dialogue.talk}/{self.call.dialogue.capture}"] += 1
            # No media, no keys, no answers any more: not even `PlayFinished`.
            for _ in range(500):
                if not self.call.next_timer():
                    break
            assert not self.call.timers
            if self.call.dialogue.customer is not CustomerLegState.RINGING:
                assert self.call.dialogue.talk is TalkState.OVER
                left = self.call.of(ef.HangUp) or self.call.of(ef.HandBack)
                assert left or self.call.dialogue.customer is CustomerLegState.GONE
            assert not any(any(buffer) for buffer in self.buffers)
            MET["walks"] += 1
        self.patch.undo()

    @initialize(
        code=st.booleans(),
        last4=st.booleans(),
        amount=st.booleans(),
        test_line=st.booleans(),
        attempts=st.integers(1, 5),
        brands=st.sampled_from([frozenset(Brand), frozenset(Brand), frozenset({Brand.VISA, Brand.JCB})]),
        lengths=st.sampled_from([(8,), (8,), (8, 10)]),
        ending=st.sampled_from(Ending),
        claimed=st.booleans(),
        steps=st.sampled_from([0, 3, 12, 18, 24, 30, 36, 36]),
        pan=st.sampled_from([VISA, AMEX]),
        answer=st.sampled_from(ANSWERS),
    )
    def begin(
        self,
        code: bool,
        last4: bool,
        amount: bool,
        test_line: bool,
        attempts: int,
        brands: frozenset[Brand],
        lengths: tuple[int, ...],
        ending: Ending,
        claimed: bool,
        steps: int,
        pan: str,
        answer: ev.DeclineClass | Outcome | None,
    ) -> None:
        session = snapshot(
            security_code_required=code,
            speak_last4=last4,
            speak_amount=amount,
            gateway_attempts_left=attempts,
            accepted_brands=brands,
            test_pan_digests=digests_of(VISA, AMEX) if test_line else None,
        )
        self.call = Driver(session=session, ending=ending, lengths=lengths, claimed=claimed)
        self.call.seen = self.check
        for _ in range(steps):
            if self.call.dialogue.talk is not TalkState.OVER:
                self._step(pan, answer)

    # The rules, after every single event.

    def check(self, call: Driver, event: ev.Event, effects: tuple[Effect, ...]) -> None:
        MET["events"] += 1
        MET[type(event).__name__] += 1
        MET[f"capture {call.dialogue.capture}"] += 1
        MET[f"payment {call.dialogue.payment}"] += 1
        self._follow_mask(call, event)
        check_rules(call)
        for effect in effects:
            self._check_effect(call, effect)
        dialogue = call.dialogue
        if dialogue.capture in CAPTURE_OPEN:
            assert self.mask_acknowledged
        if isinstance(event, ev.MaskFailed) and not self.mask_acknowledged:
            assert dialogue.capture not in CAPTURE_OPEN
        if not dialogue.card_held and dialogue.talk is not TalkState.IDENTIFYING:
            assert not any(any(buffer) for buffer in self.buffers)
        if dialogue.finished:
            assert not dialogue.card_held
        if isinstance(event, ev.CustomerHungUp) and dialogue.payment is PaymentState.AUTHORIZING:
            assert not dialogue.finished

    def _follow_mask(self, call: Driver, event: ev.Event) -> None:
        match event:
            case ev.KeyPressed():
                self.last_key_at = call.now
            case ev.MaskApplied(request) if call.mask is not None and request == call.mask.request:
                self.mask_acknowledged = self.media_up
            case ev.MaskFailed(request) if request is None or (
                call.mask is not None and request == call.mask.request
            ):
                self.mask_acknowledged = False
            case ev.MediaLost():
                self.mask_acknowledged = self.media_up = False
                self.told_at = self.telling = None
            case ev.MediaRestored():
                self.media_up = True
            case ev.PlayFinished(playlist, interrupted) if playlist == self.telling:
                if not interrupted and self.told_at is None:
                    self.told_at = call.now
                    self.told_once = True

    def _check_effect(self, call: Driver, effect: Effect) -> None:
        talk = call.dialogue.talk
        if self.returned:
            assert isinstance(effect, AFTER_THE_CALL), effect
        if call.dialogue.customer is CustomerLegState.GONE:
            assert isinstance(effect, (*AFTER_THE_CALL, ef.RecordResult, ef.PublishCapture)), effect
        match effect:
            case ef.StartTimer(_, generation, seconds):
                assert seconds > 0
                assert generation > 0
            case ef.Play():
                self._check_play(effect)
            case ef.PublishCapture(CaptureState.PAN):
                assert self.mask_acknowledged
            case ef.LiftMask():
                assert self.mask_acknowledged
                assert talk in (TalkState.CLOSING, TalkState.OVER)
                assert self.told_at is not None
                assert call.now - max(self.told_at, self.last_key_at) >= 2.99
                self.mask_acknowledged = False
            case ef.SubmitCharge(attempt):
                assert attempt == len(call.of(ef.SubmitCharge))
                assert all(self.outcomes.get(each) is Outcome.DECLINED for each in range(1, attempt))
                assert attempt <= call.session.gateway_attempts_left
                MET["charges"] += 1
            case ef.RecordOutcome(attempt, outcome):
                assert self.outcomes.get(attempt) in (None, Outcome.UNKNOWN)
                self.outcomes[attempt] = outcome
            case ef.RecordResult(result):
                assert len(call.of(ef.RecordResult)) == 1
                MET[f"result {result}"] += 1
            case ef.HangUp():
                assert len(call.of(ef.HangUp)) == 1
                assert len(call.of(ef.RecordResult)) == 1
            case ef.HandBack():
                self._check_hand_back(call)
            case ef.ReleaseSession():
                assert not call.of(ef.SubmitCharge)
        if not isinstance(effect, ef.SubmitCharge):
            assert "Card" not in repr(effect).replace("CardWiped", "")
        shown = repr(effect)
        for secret in (VISA, MASTERCARD, AMEX, DINERS, IDENTIFICATION):
            assert secret not in shown

    def _check_hand_back(self, call: Driver) -> None:
        """Only to an operator who is there, told, and with nothing masked any more."""
        assert call.dialogue.operator is OperatorLegState.CONNECTED
        assert len(call.of(ef.RecordResult)) == 1
        assert not call.of(ef.HangUp)
        if call.of(ef.ApplyMask):
            # A mask that was on has been lifted by its own rule; one that never came on was told of all the same.
            assert call.of(ef.LiftMask) or self.told_once
            assert not self.mask_acknowledged
        self.returned = True
        MET["handed back"] += 1

    def _check_play(self, play: ef.Play) -> None:
        assert play.phrases
        assert play.playlist == self.last_playlist + 1
        self.last_playlist = play.playlist
        assert play.language
        for phrase in play.phrases:
            assert tuple(type(each) for each in phrase.variables) == CATALOGUE[phrase.key].variables
            for variable in phrase.variables:
                if isinstance(variable, Last4):
                    assert len(variable.digits) == 4
                elif not isinstance(variable, ShopName):
                    assert not any(secret in repr(variable) for secret in (VISA, MASTERCARD, AMEX, DINERS))
        if any(phrase.key is PhraseKey.KEY_ENTRY_OVER for phrase in play.phrases):
            assert not play.barge_in
            self.telling = play.playlist

    # What may happen.

    @rule(key=st.sampled_from(KEYS))
    def key(self, key: str) -> None:
        self.call.key(key)

    @rule(
        text=st.sampled_from(
            [VISA, VISA, MASTERCARD, AMEX, DINERS, "4111111111111112", IDENTIFICATION, "0928", "1325", "737"]
        ),
        gap=st.sampled_from([0.0, 0.1, 0.7, 9.0]),
        cut=st.integers(0, 19),
        end=st.sampled_from(["", "", "#", "*", "*#"]),
    )
    def keys(self, text: str, gap: float, cut: int, end: str) -> None:
        self.call.keys(text[: cut or None] + end, gap)

    @precondition(lambda self: self.call.playing is not None)
    @rule(interrupted=st.booleans())
    def prompt_ends(self, interrupted: bool) -> None:
        self.call.finish_prompt(interrupted=interrupted)

    @rule(playlist=st.integers(0, 30), interrupted=st.booleans())
    def stale_prompt_ends(self, playlist: int, interrupted: bool) -> None:
        current = self.call.playing
        if current is None or current.playlist != playlist:
            self.call.send(ev.PlayFinished(playlist, interrupted))

    @rule()
    def timer(self) -> None:
        self.call.next_timer()

    @rule(seconds=st.sampled_from([0.2, 0.6, 3.0, 12.0, 40.0]))
    def time(self, seconds: float) -> None:
        self.call.wait(seconds)

    @rule(name=st.sampled_from(ef.TimerName), generation=st.integers(0, 40))
    def stale_timer(self, name: ef.TimerName, generation: int) -> None:
        running = self.call.timers.get(name)
        if running is None or running[0] != generation:
            before = len(self.call.effects)
            self.call.send(ev.TimerFired(name, generation))
            assert len(self.call.effects) == before

    @precondition(lambda self: self.call.claim is not None)
    @rule(stale=st.booleans(), reason=st.sampled_from([None, *ev.RefusalReason]))
    def claim_answered(self, stale: bool, reason: ev.RefusalReason | None) -> None:
        assert self.call.claim is not None
        request = self.call.claim.request - stale
        answered = self.call.dialogue.talk not in (TalkState.CLAIMING, TalkState.IDENTIFYING)
        if reason is not None:
            self.call.send(ev.SessionRefused(request, reason))
        elif not answered:
            # A store hands a session out once.
            self.call.send(ev.SessionClaimed(request, self.call.session))

    @precondition(lambda self: self.call.mask is not None)
    @rule(stale=st.booleans(), failed=st.sampled_from([False, False, True]))
    def mask_answered(self, stale: bool, failed: bool) -> None:
        assert self.call.mask is not None
        request = self.call.mask.request - stale
        if not failed and self.call.dialogue.mask is MaskState.APPLYING:
            self.call.send(ev.MaskApplied(request))
        elif failed:
            self.call.send(ev.MaskFailed(request))

    @precondition(lambda self: self.call.dialogue.talk is TalkState.CLOSING and self.media_up)
    @rule(gap=st.sampled_from([0.5, 2.9, 3.1]), cut=st.integers(0, 3), keys=st.integers(1, 3))
    def press_on(self, gap: float, cut: int, keys: int) -> None:
        """The farewell is cut, keys are pressed all the same."""
        for _ in range(cut):
            if self.call.playing is not None:
                self.call.finish_prompt(interrupted=True)
        self.call.listen()
        for _ in range(keys):
            self.call.key("5")
            self.call.wait(gap)

    @precondition(lambda self: self.call.dialogue.talk is TalkState.CHARGING)
    @rule(decline=st.sampled_from(ev.DeclineClass), restored=st.booleans())
    def worker_dies_while_charging(self, decline: ev.DeclineClass, restored: bool) -> None:
        self.mishap(worse=False)
        self.call.declined(decline)
        if restored:
            self.call.send(ev.MediaRestored())

    @precondition(lambda self: self.call.dialogue.payment is PaymentState.AUTHORIZING)
    @rule()
    def customer_leaves_while_authorizing(self) -> None:
        assert self.call.charge is not None
        unread = not self.call.charge.card.wiped
        self.call.send(ev.CustomerHungUp())
        # The adapter may still have to read the card; `outcome_s` bounds it.
        assert self.call.charge.card.wiped != unread

    @rule(worse=st.sampled_from([False, False, False, False, True]))
    def mishap(self, worse: bool) -> None:
        if worse:
            self.call.send(ev.MaskFailed())
        else:
            self.call.playing = None
            self.call.send(ev.MediaLost())

    @rule()
    def media_restored(self) -> None:
        self.call.send(ev.MediaRestored())

    @precondition(lambda self: self.call.charge is not None)
    @rule(older=st.sampled_from([False, False, False, True]), what=st.sampled_from(OUTCOMES),
          decline=st.sampled_from(ev.DeclineClass))  # fmt: skip
    def gateway(self, older: bool, what: str, decline: ev.DeclineClass) -> None:
        assert self.call.charge is not None
        attempt = self.call.charge.attempt - older
        match what:
            case "approved":
                self.call.send(ev.ChargeApproved(attempt))
            case "declined":
                self.call.send(ev.ChargeDeclined(attempt, decline))
            case "unknown":
                self.call.send(ev.ChargeUnknown(attempt))
            case _:
                self.call.send(ev.GatewayUnavailable(attempt))

    @rule(
        event=st.sampled_from(
            [
                *[ev.OperatorConnected(), ev.OperatorHungUp(), ev.OperatorResetField()] * 4,
                ev.OperatorTookBack(),
                ev.SessionCancelled(),
                ev.CustomerHungUp(),
            ]
        )
    )
    def outside(self, event: ev.Event) -> None:
        self.call.send(event)

    @precondition(lambda self: self.call.dialogue.talk is not TalkState.OVER)
    @rule(
        steps=st.integers(1, 12),
        pan=st.sampled_from([VISA, AMEX]),
        answer=st.sampled_from(ANSWERS),
    )
    def go_on(self, steps: int, pan: str, answer: ev.DeclineClass | Outcome | None) -> None:
        """What a good shell, a good customer and some gateway would do."""
        for _ in range(steps):
            self._step(pan, answer)

    def _step(self, pan: str, answer: ev.DeclineClass | Outcome | None) -> None:
        call, dialogue = self.call, self.call.dialogue
        if not self.media_up:
            call.send(ev.MediaRestored())
        elif dialogue.customer is CustomerLegState.RINGING:
            call.connect()
        elif dialogue.mask is MaskState.APPLYING:
            call.mask_applied()
        elif call.playing is not None and not call.playing.repeat:
            call.finish_prompt()
        elif dialogue.talk is TalkState.CLAIMING:
            call.claimed()
        elif dialogue.talk is TalkState.IDENTIFYING:
            call.field(IDENTIFICATION + "#")
        elif dialogue.talk is TalkState.CAPTURING:
            brand = dialogue._core.card.brand
            code = "1234" if brand is Brand.AMERICAN_EXPRESS else "737"
            fields = {
                CaptureState.PAN: pan,
                CaptureState.EXPIRY: "0928",
                CaptureState.SECURITY_CODE: code,
                CaptureState.CONFIRM: "1",
            }
            call.keys(fields.get(dialogue.capture, ""))
            call.wait(0.6)
        elif dialogue.talk is TalkState.CHARGING and isinstance(answer, ev.DeclineClass):
            call.declined(answer)
        elif dialogue.talk is TalkState.CHARGING and answer is Outcome.APPROVED:
            call.approved()
        elif dialogue.talk is TalkState.CHARGING and call.charge is not None and answer is not None:
            kind = ev.ChargeUnknown if answer is Outcome.UNKNOWN else ev.GatewayUnavailable
            call.send(kind(call.charge.attempt))
        elif dialogue.talk is TalkState.CLOSING:
            call.next_timer()


Walk.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestWalk(Walk.TestCase):  # type: ignore[misc,name-defined]
    """Runs the walks."""

    @classmethod
    def teardown_class(cls) -> None:
        for what, times in sorted(MET.items()):
            print(f"{times:8d} {what}")


def test_the_walks_got_everywhere() -> None:
    """A walk that never leaves the greeting proves nothing."""
    if not MET:
        pytest.skip("the walks were not run")
    assert MET["events"] > 5_000
    for state in CaptureState:
        assert MET[f"capture {state}"], state
    for payment in (PaymentState.AUTHORIZING, PaymentState.APPROVED, PaymentState.DECLINED):
        assert MET[f"payment {payment}"], payment
    assert MET["charges"] > 20
    assert MET["handed back"]
