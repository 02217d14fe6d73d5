"""Random walks of both legs of an inline call, through the shell: masks, charges, wiping and the end.

The dialogue has walks of its own (`tests/dialogue/test_stateful.py`). Here the real call joins it to two legs, whose
ends, worker, store and gateway do anything in any order; what the operator hears is looked at after every step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from media.protocol import AnyEvent, KeyPressed, KeyWay, LegFault, MaskMode, PlayFinished
from sipivr.calls.charging import ChargeApproved, ChargeDeclined, ChargeImpossible, ChargeUnknown
from sipivr.calls.inline import CaptureRefused
from sipivr.calls.side import Side
from sipivr.dialogue.phrases import PhraseKey
from sipivr.dialogue.states import CAPTURE_OPEN
from sipivr.gateway.port import Category
from sipivr.ua.sdp import Direction
from tests.calls.inline_stage import AGREED, NUMBER, SIP, Leg, Stage, Worker

MET: Counter[str] = Counter()
MASK = MaskMode.COMFORT_NOISE
CARD = "4111111111111111" + "1230" + "123" + "1"


class Walk(RuleBasedStateMachine):
    """One inline call."""

    def __init__(self) -> None:
        super().__init__()
        self.attached = False
        self.capturing = False
        self.told_at: float | None = None
        self.last_key_at = -100.0
        self.settled = False
        self.carried: MaskMode | None = None

    @initialize(relay=st.booleans(), heard=st.booleans(), answered=st.booleans())
    def begin(self, relay: bool, heard: bool, answered: bool) -> None:
        rules = type(NUMBER.rules)(
            destinations=NUMBER.rules.destinations, operator_heard=heard, relay_keys=relay
        )
        self.stage = Stage(replace(NUMBER, rules=rules))
        self.relay = relay
        self.stage.worker.changed = self._changed
        self.stage.loop.settle()
        if answered:
            self.operator_answers()
            self.customer_is_up()

    # What is looked at.

    def _changed(self, source: int, destination: int, mask: MaskMode) -> None:
        """The worker was told what a leg hears of another."""
        if source != self.stage.customer.media.number:  # type: ignore[union-attr]
            return
        MET[f"path {mask}"] += 1
        if mask is MaskMode.OPEN:
            assert self.relay and not self.attached, "keys pass"
        before, self.carried = self.carried, mask
        lifted = mask is MaskMode.CLAMP and before is not MaskMode.CLAMP
        if lifted and self.capturing and self._asked_for_card():
            self._look_for_quiet()
            assert self.settled, f"the mask lifts: told {self.told_at}, last key {self.last_key_at}"

    def _look_for_quiet(self) -> None:
        """Key entry is over once the customer was told and three seconds passed without a key."""
        if self.told_at is not None:
            self.settled |= self.stage.loop.now - max(self.told_at, self.last_key_at) >= 2.99

    def _asked_for_card(self) -> bool:
        """Whether the running dialogue ever asked for the mask: before that no key can have been the card's."""
        return bool(self.stage.dialogues) and self.stage.dialogues[-1]._core.mask_request is not None

    def check(self) -> None:
        """After every step."""
        MET["steps"] += 1
        stage, call = self.stage, self.stage.call
        stage.loop.settle()
        self._look_for_quiet()
        self.capturing = call.conversation is not None
        self.attached |= self.capturing
        assert not stage.rooms.faults, stage.rooms.faults
        assert not call.broken
        both = self._both()
        for dialogue in stage.dialogues:
            if dialogue.capture in CAPTURE_OPEN and both is not None and not self._worker.closed:
                MET[f"capture {dialogue.capture}"] += 1
                assert self._worker.paths.get(both) in (MASK, MaskMode.SILENCE)
            if dialogue.finished:
                assert not dialogue.card_held

    def _both(self) -> tuple[int, int] | None:
        operator = self.stage.call.operator
        if operator is None or operator.ended or self.stage.customer.ended:
            return None
        return cast(Any, self.stage.customer.media).number, cast(Any, operator.media).number

    def _event(self, side: Side, event: AnyEvent) -> None:
        self.stage.do(lambda: side.on_media_event(event))

    def _die(self) -> None:
        self._worker.die()
        for side in self.stage.call.sides:
            side.on_media_lost()

    @property
    def _worker(self) -> Worker:
        return cast(Worker, self.stage.worker)

    @property
    def _ear(self) -> Leg:
        return cast(Leg, self.stage.customer.media)

    # What may happen.

    @precondition(lambda self: self._ringing() is not None)
    @rule()
    def operator_answers(self) -> None:
        side = self._ringing()
        if side is not None:
            side.agreed = AGREED
            answering = side
            self.stage.do(lambda: answering.answered(None))
        self.check()

    @precondition(lambda self: self._ringing() is not None)
    @rule(status=st.sampled_from([486, 480, 503, 404]))
    def operator_does_not(self, status: int) -> None:
        side = self._ringing()
        assert side is not None
        self.stage.end(side, status=status)
        self.check()

    def _ringing(self) -> Side | None:
        side = self.stage.operator
        return side if side is not None and not side.ended and not side.up else None

    @precondition(lambda self: "answer" in cast(SIP, self.stage.customer.sip).asked)
    @rule()
    def customer_is_up(self) -> None:
        side = self.stage.customer
        if not side.ended and not side.up and "answer" in cast(SIP, side.sip).asked:
            self.stage.do(lambda: side.answered(None))
        self.check()

    @precondition(lambda self: self.stage.customer.up)
    @rule()
    def capture_begins(self) -> None:
        async def begin() -> None:
            try:
                await self.stage.call.capture("ps_x")
                MET["captures"] += 1
                self.told_at, self.settled = None, False
            except CaptureRefused:
                MET["captures refused"] += 1

        self.stage.loop.run_until_complete(begin())
        self.check()

    @rule(back=st.booleans())
    def operator_commands(self, back: bool) -> None:
        if back:
            self.stage.do(self.stage.call.take_back)
        else:
            self.stage.do(self.stage.call.reset_field)
        self.check()

    @precondition(lambda self: self.stage.call.operator is not None)
    @rule(digits=st.sampled_from(["*9123456", "*9123", "5", "#"]))
    def operator_keys(self, digits: str) -> None:
        operator = self.stage.call.operator
        assert operator is not None
        for digit in digits:
            if not operator.ended:
                self._event(operator, _key(operator, digit))
        self.check()

    @rule(text=st.sampled_from([CARD, CARD, CARD[:16], CARD[:4], "1", "#", "*", "*#"]))
    def customer_keys(self, text: str) -> None:
        for digit in text:
            if not self.stage.customer.up or self._worker.closed:
                break
            self._look_for_quiet()
            self.last_key_at = self.stage.loop.now
            self._event(self.stage.customer, _key(self.stage.customer, digit))
            self.stage.loop.pass_time(0.1)
        self.stage.loop.pass_time(0.7)
        self.check()

    @rule(times=st.integers(1, 4), interrupted=st.sampled_from([False, False, False, True]))
    def prompts_end(self, times: int, interrupted: bool) -> None:
        for _ in range(times):
            playing, self._ear.playing = self._ear.playing, None
            if playing is None or self.stage.customer.ended or self._worker.closed:
                break
            told = PhraseKey.KEY_ENTRY_OVER in self._ear.said[playing] and not interrupted
            if told and self.told_at is None:
                self.told_at = self.stage.loop.now
            ended = PlayFinished(leg=self._ear.number, playlist=playing, interrupted=interrupted)
            self._event(self.stage.customer, ended)
            self.check()

    @rule()
    def worker_acknowledges(self) -> None:
        self._worker.acknowledge()
        self.check()

    @rule(seconds=st.sampled_from([0.3, 3.1, 12.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.stage.loop.pass_time(seconds)
        self.check()

    @rule(held=st.booleans())
    def operator_holds(self, held: bool) -> None:
        operator = self.stage.call.operator
        if operator is not None and not operator.ended:
            operator.agreed = replace(AGREED, direction=Direction.RECVONLY if held else Direction.SENDRECV)
            self.stage.do(lambda: self.stage.call.side_changed(operator))
            both = self._both()
            if held and self.capturing and both is not None and not self._worker.closed:
                assert self._worker.paths[both[::-1]] is MaskMode.SILENCE
        self.check()

    @rule()
    def leg_fails(self) -> None:
        if not self.stage.customer.ended and not self._worker.closed and self.stage.customer.up:
            both = self._both()
            if both is not None:
                self._worker.paths[both] = MaskMode.SILENCE  # as the engine does
            self._event(self.stage.customer, LegFault(leg=self._ear.number, reason="test"))
        self.check()

    @rule(comes_back=st.sampled_from([True, True, True, False]))
    def worker_dies(self, comes_back: bool) -> None:
        if self._worker.closed or not self.stage.customer.up:
            return
        self._ear.playing = None
        self._look_for_quiet()
        self.told_at = None
        self.stage.do(self._die)
        self.check()
        if comes_back:
            former, self.stage.worker = self._worker, Worker(self.stage.loop)
            self.stage.worker.changed = former.changed
            self.stage.do(lambda: self.stage.call.worker_arrived(cast(Any, self.stage.worker)))
            for _ in range(3):
                self.stage.worker.acknowledge()
                self.stage.loop.settle()
        self.check()

    @precondition(lambda self: bool(self.stage.charges))
    @rule(
        what=st.sampled_from(["approved", "approved", "declined", "unknown", "impossible"]),
        category=st.sampled_from(Category),
    )
    def gateway_answers(self, what: str, category: Category) -> None:
        told, payment = self.stage.charges.pop(0), cast(Any, type("P", (), {"id": "pay_1"}))
        MET[f"charge {what}"] += 1
        results = {
            "approved": ChargeApproved(payment),
            "declined": ChargeDeclined(payment, category),
            "unknown": ChargeUnknown(payment),
            "impossible": ChargeImpossible("test"),
        }
        self.stage.do(lambda: told(results[what]))
        self.check()

    @rule(who=st.sampled_from(["customer", "operator", "operator", "nobody", "nobody", "nobody"]))
    def somebody_hangs_up(self, who: str) -> None:
        if who == "customer" and not self.stage.customer.ended:
            self.stage.end(self.stage.customer)
        operator = self.stage.call.operator
        if who == "operator" and operator is not None and not operator.ended:
            self.stage.end(operator)
        self.check()

    @rule()
    def what_we_end_ends(self) -> None:
        for side in self.stage.call.sides:
            if cast(SIP, side.sip).ending:
                self.stage.end(side, by_remote=False)
        self.check()

    @rule()
    def go_on(self) -> None:
        """What a good worker and a patient customer would do next."""
        for _ in range(4):
            self.worker_acknowledges()
            self.prompts_end(1, False)

    def teardown(self) -> None:
        """The customer leaves; whatever is left must come to its end by itself."""
        if not hasattr(self, "stage"):
            return
        stage = self.stage
        MET["walks"] += 1
        if stage.operator is not None and not stage.customer.ended and stage.call.operator is None:
            MET["left while ringing"] += 1
        stage.end(stage.customer)
        for side in stage.operators:
            if not side.ended:
                assert cast(SIP, side.sip).ending, "an operator is left on the line"
                stage.end(side, by_remote=False)
        while stage.charges:
            told = stage.charges.pop()
            stage.do(lambda: told(ChargeApproved(cast(Any, type("P", (), {"id": "pay_1"})))))  # noqa: B023
        stage.loop.pass_time(2_000)
        assert stage.over == 1
        assert not stage.rooms.faults
        assert not any(dialogue.card_held for dialogue in stage.dialogues)
        assert all(cast(Leg, side.media).removed for side in (stage.customer, *stage.operators))
        assert stage.loop.next_due() is None, "a timer is left behind"
        stage.close()


def _key(side: Side, digit: str) -> KeyPressed:
    code = "0123456789*#".index(digit)
    return KeyPressed(leg=cast(Any, side.media).number, key=code, way=KeyWay.RFC4733, timestamp=0)


Walk.TestCase.settings = settings(
    max_examples=150,
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
    """A walk that never reaches a capture proves nothing."""
    if not MET:
        pytest.skip("the walks were not run")
    assert MET["captures"] > 20
    assert MET[f"path {MASK}"] and MET[f"path {MaskMode.CLAMP}"] and MET[f"path {MaskMode.OPEN}"]
    assert MET["capture pan"]
