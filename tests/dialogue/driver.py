"""A shell for tests: carries effects out in its head, with a clock that only moves when it is told to."""

import hashlib
from collections.abc import Callable
from datetime import date
from typing import Any

from sipivr.card import Brand
from sipivr.dialogue import Dialogue, DialogueParams, Ending, SessionSnapshot
from sipivr.dialogue import effects as ef
from sipivr.dialogue import events as ev
from sipivr.dialogue.effects import Effect, TimerName
from sipivr.dialogue.phrases import PhraseKey
from sipivr.dialogue.states import CAPTURE_OPEN, CaptureState, MaskState, PaymentState, TalkState

VISA = "4111111111111111"
VISA_2 = "4012888888881881"
MASTERCARD = "5555555555554444"
AMEX = "378282246310005"
DINERS = "36227206271667"
IDENTIFICATION = "12345678"
KEYS = "0123456789*#ABCD"


def digests_of(*numbers: str) -> frozenset[str]:
    """What a snapshot knows of the simulator's cards."""
    return frozenset(hashlib.sha256(number.encode()).hexdigest() for number in numbers)


def snapshot(**changes: Any) -> SessionSnapshot:
    values: dict[str, Any] = {
        "session_id": "ps_1",
        "shop_name": "Shop",
        "amount": 12300,
        "currency": "JPY",
        "language": "ja",
        "accepted_brands": frozenset(Brand),
        "today": date(2026, 11, 23),
    }
    return SessionSnapshot(**(values | changes))


class Driver:
    """One call.

    Attributes:
        effects: all effects so far.
        said: keys of all phrases so far.
    """

    def __init__(
        self,
        *,
        session: SessionSnapshot | None = None,
        ending: Ending = Ending.TRANSFER_RETURN,
        lengths: tuple[int, ...] = (8,),
        params: DialogueParams | None = None,
        claimed: bool = False,
    ) -> None:
        self.session = session or snapshot()
        self.dialogue = Dialogue(
            language="en",
            identification_lengths=lengths,
            ending=ending,
            params=params,
            session=self.session if claimed else None,
        )
        self.now = 0.0
        self.effects: list[Effect] = []
        self.said: list[PhraseKey] = []
        self.timers: dict[TimerName, tuple[int, float]] = {}
        self.playing: ef.Play | None = None
        self.last_play: ef.Play | None = None
        self.claim: ef.ClaimSession | None = None
        self.mask: ef.ApplyMask | None = None
        self.charge: ef.SubmitCharge | None = None
        self.seen: Callable[[Driver, ev.Event, tuple[Effect, ...]], None] | None = None

    def send(self, event: ev.Event) -> tuple[Effect, ...]:
        effects = self.dialogue.handle(event)
        for effect in effects:
            self._carry_out(effect)
        if self.seen is not None:
            self.seen(self, event, effects)
        return effects

    def _carry_out(self, effect: Effect) -> None:
        self.effects.append(effect)
        match effect:
            case ef.StartTimer(name, generation, seconds):
                self.timers[name] = (generation, self.now + seconds)
            case ef.StopTimer(name, generation):
                assert self.timers.pop(name)[0] == generation
            case ef.Play():
                self.playing = self.last_play = effect
                self.said += [phrase.key for phrase in effect.phrases]
            case ef.StopPlaying():
                self.playing = None
            case ef.ClaimSession():
                self.claim = effect
            case ef.ApplyMask():
                self.mask = effect
            case ef.SubmitCharge():
                self.charge = effect

    # What happens outside.

    def connect(self) -> None:
        self.send(ev.CustomerConnected())

    def finish_prompt(self, *, interrupted: bool = False) -> None:
        playing, self.playing = self.playing, None
        assert playing is not None
        self.send(ev.PlayFinished(playing.playlist, interrupted))

    def key(self, character: str) -> None:
        """A key as a media worker reports it: first the key, then the playlist that it cut."""
        cut = self.playing if self.playing is not None and self.playing.barge_in else None
        self.send(ev.KeyPressed(KEYS.index(character)))
        if cut is not None:
            if self.playing is cut:
                self.playing = None
            self.send(ev.PlayFinished(cut.playlist, interrupted=True))

    def keys(self, characters: str, gap: float = 0.3) -> None:
        for character in characters:
            self.key(character)
            self.wait(gap)

    def listen(self) -> None:
        """Lets everything that is being said end, except a repeated tone."""
        while self.playing is not None and not self.playing.repeat:
            self.finish_prompt()

    def wait(self, seconds: float) -> None:
        """Lets time pass; prompts do not end by it."""
        until = self.now + seconds
        while self.timers:
            name, (generation, due) = min(self.timers.items(), key=lambda item: item[1][1])
            if due > until:
                break
            self.now = due
            del self.timers[name]
            self.send(ev.TimerFired(name, generation))
        self.now = until

    def next_timer(self) -> bool:
        """The first timer to run out does; false if none runs."""
        if not self.timers:
            return False
        self.wait(min(due for _, due in self.timers.values()) - self.now)
        return True

    # Stretches of the road.

    def to_identification(self) -> None:
        self.connect()
        self.listen()

    def to_claim(self) -> None:
        self.to_identification()
        self.keys(IDENTIFICATION)
        self.wait(0.6)
        assert self.dialogue.talk is TalkState.CLAIMING

    def claimed(self) -> None:
        assert self.claim is not None
        self.send(ev.SessionClaimed(self.claim.request, self.session))

    def refused(self, reason: ev.RefusalReason) -> None:
        assert self.claim is not None
        self.send(ev.SessionRefused(self.claim.request, reason))

    def mask_applied(self) -> None:
        assert self.mask is not None
        self.send(ev.MaskApplied(self.mask.request))

    def to_masking(self) -> None:
        if self.dialogue.claimed:
            self.connect()
        else:
            self.to_claim()
            self.claimed()
        self.listen()
        assert self.dialogue.talk is TalkState.MASKING

    def to_pan(self) -> None:
        self.to_masking()
        self.mask_applied()
        self.listen()
        assert self.dialogue.capture is CaptureState.PAN

    def field(self, digits: str) -> None:
        self.keys(digits)
        self.wait(0.6)
        self.listen()

    def to_expiry(self, pan: str = VISA) -> None:
        self.to_pan()
        self.field(pan)
        assert self.dialogue.capture is CaptureState.EXPIRY

    def to_security_code(self, pan: str = VISA) -> None:
        self.to_expiry(pan)
        self.field("0928")
        assert self.dialogue.capture is CaptureState.SECURITY_CODE

    def to_confirmation(self, pan: str = VISA) -> None:
        self.to_security_code(pan)
        self.field("1234" if pan == AMEX else "737")
        assert self.dialogue.capture is CaptureState.CONFIRM

    def to_charge(self, pan: str = VISA) -> None:
        self.to_confirmation(pan)
        self.key("1")
        assert self.dialogue.payment is PaymentState.AUTHORIZING

    def another_go(self, pan: str = VISA_2) -> None:
        """Another card up to the next charge."""
        self.listen()
        self.field(pan)
        self.field("0928")
        self.field("737")
        self.key("1")

    def approved(self) -> None:
        assert self.charge is not None
        self.send(ev.ChargeApproved(self.charge.attempt))

    def declined(self, decline: ev.DeclineClass) -> None:
        assert self.charge is not None
        self.send(ev.ChargeDeclined(self.charge.attempt, decline))

    def to_the_end(self) -> None:
        """Listens and waits until we hang up or hand back, then the leg is gone."""
        for _ in range(50):
            if self.of(ef.HangUp) or self.of(ef.HandBack):
                break
            if self.playing is not None and not self.playing.repeat:
                self.finish_prompt()
            else:
                assert self.next_timer()
        self.send(ev.CustomerHungUp())
        assert self.dialogue.talk is TalkState.OVER

    # What was seen.

    def of(self, kind: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def result(self) -> ef.Result:
        (record,) = self.of(ef.RecordResult)
        result = record.result
        assert isinstance(result, ef.Result)
        return result

    @property
    def outcomes(self) -> list[ef.Outcome]:
        return [record.outcome for record in self.of(ef.RecordOutcome)]

    def said_since(self, mark: int) -> list[PhraseKey]:
        return self.said[mark:]


def check_rules(driver: Driver) -> None:
    """The rules of `states` that can be seen in any single state."""
    dialogue = driver.dialogue
    if dialogue.capture in CAPTURE_OPEN:
        assert dialogue.mask is MaskState.ON
    if dialogue.card_held:
        assert (
            dialogue.capture in CAPTURE_OPEN | {CaptureState.SUSPENDED}
            or dialogue.payment is PaymentState.AUTHORIZING
        )
    if dialogue.talk is TalkState.OVER:
        assert dialogue.capture in (CaptureState.DONE, CaptureState.ABORTED)
        assert dialogue.mask is MaskState.OFF
        if dialogue.payment is not PaymentState.AUTHORIZING:
            assert not driver.timers
    elif dialogue.talk is not TalkState.WAITING:
        assert driver.timers
