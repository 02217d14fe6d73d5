"""An inline call whose surroundings are in a test's hand: SIP legs, a media worker, store, gateway and the clock.

The loop's clock stands still until the test moves it. The worker keeps what it was told: `paths` is what each leg hears
of another at this moment, as a worker that carries out everything in order would have it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from media.protocol import Connect, Disconnect, MaskMode, SetMask
from sipivr.calls.call import Call
from sipivr.calls.call_record import CallRecord
from sipivr.calls.charging import ChargeResult
from sipivr.calls.inline import InlineCall
from sipivr.calls.leg_record import LegRecord
from sipivr.calls.media_link import MediaRefused
from sipivr.calls.services import Services
from sipivr.calls.side import Side, SideOwner
from sipivr.dialogue import Dialogue, DialogueParams, Ending, SessionSnapshot
from sipivr.dialogue.phrases import Phrase, PhraseKey
from sipivr.store.number_rules import Destination, NumberRules
from sipivr.store.records import (
    Merchant,
    Mode,
    Number,
    NumberUse,
    PaymentSession,
    SessionStatus,
    Shop,
)
from sipivr.ua.negotiation import NegotiatedAudio
from sipivr.ua.ports import LegTimes, SIPCause
from sipivr.ua.sdp import Codec, Direction, SessionDescription

SDP = cast(SessionDescription, object())
MERCHANT = Merchant("mer_1", "Acme", Mode.LIVE, "en", True)
NUMBER = Number(
    "num_1",
    "mer_1",
    "+81312345678",
    NumberUse.INLINE,
    5,
    "en",
    True,
    NumberRules(
        destinations=(
            Destination(target="sip:1@192.0.2.1", trunk="trk_1"),
            Destination(target="sip:2@192.0.2.1", trunk="trk_1"),
        )
    ),
)
SHOP = Shop(
    "shop_1", "mer_1", "Shop", {}, "s", "con_1", ("visa", "mastercard", "jcb"), True, "CAPTURE", "JPY", True
)
SESSION = PaymentSession(
    "ps_1", "mer_1", "shop_1", "A1", 500, "JPY", "en", SessionStatus.CLAIMED, Mode.LIVE, {}, "prn_1", "", 1
)
AGREED = NegotiatedAudio(
    codec=Codec.PCMU,
    remote_address="192.0.2.1",
    remote_port=4000,
    event_payload_type=101,
    ptime_ms=20,
    direction=Direction.SENDRECV,
    remote_holds=False,
    rtcp_mux=False,
    remote_rtcp_port=4001,
)


class StandingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock moves only by `pass_time`."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Lets everything run that can without time passing."""
        for _ in range(20):
            self.call_soon(self.stop)
            self.run_forever()

    def pass_time(self, seconds: float) -> None:
        """Timers that run out meanwhile do so in their order."""
        until = self.now + seconds
        while (due := self.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.settle()
        self.now = until
        self.settle()

    def next_due(self) -> float | None:
        """When the next timer runs out."""
        timers: Sequence[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)


class Worker:
    """A media worker that does what it is told and says so when the test lets it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self.index = 0
        self.paths: dict[tuple[int, int], MaskMode] = {}
        self.pending: list[asyncio.Future[None]] = []
        self.changed: Callable[[int, int, MaskMode], None] = lambda *_: None
        self._loop = loop
        self._seq = 0

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def send(self, command: Connect | Disconnect | SetMask) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = self._loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self.closed:
            answer.set_exception(MediaRefused("gone"))
            return answer
        pair = command.source, command.destination
        if isinstance(command, Disconnect):
            self.paths.pop(pair, None)
        else:
            self.paths[pair] = command.mask
            self.changed(*pair, command.mask)
        self.pending.append(answer)
        return answer

    def acknowledge(self) -> None:
        for answer in self.pending:
            if not answer.done():
                answer.set_result(None)
        self.pending.clear()

    def die(self) -> None:
        self.closed = True
        self.paths.clear()
        for answer in self.pending:
            if not answer.done():
                answer.set_exception(MediaRefused("gone"))
        self.pending.clear()


class Leg:
    """A media leg: what plays to it, and whether it is there."""

    def __init__(self, number: int, worker: Worker, stage: Stage) -> None:
        self.number = number
        self._stage = stage
        self.worker = worker
        self.playing: int | None = None
        self.said: dict[int, tuple[PhraseKey, ...]] = {}
        self.removed = False

    @property
    def lost(self) -> bool:
        return self.worker.closed

    def play(self, playlist: int, prompts: Sequence[Path], *, barge_in: bool, repeat: bool) -> None:
        assert not self.removed
        self.said[playlist] = tuple(self._stage.to_say)
        self._stage.to_say.clear()
        self.playing = None if repeat else playlist

    def stop_playing(self) -> None:
        self.playing = None

    def play_finished(self, playlist: int) -> None:
        pass

    def new_keys_offer(self) -> None:
        return None

    def rejoin(self, worker: Worker) -> asyncio.Future[None]:
        self.worker = worker
        done: asyncio.Future[None] = self._stage.loop.create_future()
        done.set_result(None)
        return done

    def remove(self) -> None:
        self.removed = True


@dataclass
class SIP:
    """A SIP leg."""

    number: int
    call_id: str
    outgoing: bool
    times: LegTimes = field(default_factory=lambda: LegTimes(0.0))
    cause: SIPCause | None = None
    asked: list[str] = field(default_factory=list)

    def ring(self, sdp: object = None, status: int = 180) -> None:
        self.asked.append(f"ring {status}")

    def answer(self, sdp: object) -> None:
        self.asked.append("answer")

    def refuse(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.asked.append(f"refuse {status}")

    def hang_up(self, status: int = 0, headers: Mapping[str, str] | None = None) -> None:
        self.asked.append("hang up")

    @property
    def ending(self) -> bool:
        """We have asked for its end."""
        return any(word.startswith(("hang up", "refuse")) for word in self.asked)


class Rooms:
    """`Services` of a node with this one call."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.node = "n1"
        self.written: list[tuple[str, dict[str, Any]]] = []
        self.faults: list[BaseException] = []
        self.directory = self
        self.prompts = self
        self.charging = self
        self.progress = self
        self.ladders = self
        self.writer = self
        self.media = self
        self.rtp = self

    def count(self, name: str) -> None:
        assert name not in ("call_faults", "bridges_refused"), name

    def record(self, function: Callable[..., Any], **fields: Any) -> None:
        self.written.append((function.__name__, fields))

    def background(self, work: Awaitable[None]) -> None:
        asyncio.ensure_future(work, loop=self.stage.loop).add_done_callback(self._done)

    def _done(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.faults.append(cast(BaseException, task.exception()))

    # The writer.
    async def run(self, function: Callable[..., Any], **_: Any) -> Any:
        return replace(SESSION, id=f"ps_{len(self.written)}")

    # The directory.
    def shop(self, id: str) -> Shop:
        return SHOP

    def attempts(self, session: str) -> int:
        return 0

    def today(self) -> dt.date:
        return dt.date(2026, 11, 27)

    # Voices.
    def ready(self, language: str, phrase: Phrase) -> Path:
        self.stage.to_say.append(phrase.key)
        return Path("/x")

    async def render(self, language: str, phrase: Phrase) -> Path:
        return Path("/x")

    async def prepare_session(self, *_: Any) -> None:
        return None

    # Charging.
    def start(
        self, session: Any, shop: Any, call: str, card: Any, told: Callable[[ChargeResult], None]
    ) -> None:
        self.stage.charges.append(told)

    def listen(self, payment: str, told: Callable[[Any], None]) -> None:
        self.stage.charges.append(told)

    # Progress, ladders, media.
    def show(self, **_: Any) -> None:
        pass

    def forget(self, _: str) -> None:
        pass

    def take(self, *_: Any, **__: Any) -> tuple[()]:
        return ()

    def restored(self, worker: Worker, *, whole: bool) -> None:
        pass


class Dialler:
    """Hands the test a leg to play an operator's end with."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def ring(self, owner: SideOwner, destination: Destination, *, beside: Leg, **_: Any) -> Side:
        return self.stage.dial(owner, beside)


class Stage:
    """See the module."""

    def __init__(self, number: Number = NUMBER) -> None:
        self.loop = StandingLoop()
        asyncio.set_event_loop(self.loop)
        self.worker = Worker(self.loop)
        self.rooms = Rooms(self)
        self.operators: list[Side] = []
        self.to_say: list[PhraseKey] = []
        self.charges: list[Callable[[Any], None]] = []
        self.dialogues: list[Dialogue] = []
        self.over = 0
        self._legs = 0
        self.loop.run_until_complete(self._make(number))

    async def _make(self, number: Number) -> None:
        services = cast(Services, self.rooms)
        self.call = InlineCall(
            "call_1",
            number=number,
            merchant=MERCHANT,
            record=CallRecord("call_1", services),
            services=services,
            over=self._over,
        )
        self.call.route(
            dialler=cast(Any, Dialler(self)),
            dialogue=self._dialogue,
            caller=None,
            offered=True,
            longest_s=3600.0,
        )
        self.customer = self.call.customer = self._side("customer", self.call)
        self.customer.agreed = AGREED
        self.call.begin(SDP)

    def _dialogue(self, picture: SessionSnapshot, ending: Ending) -> Dialogue:
        made = Dialogue(language="en", ending=ending, params=DialogueParams(), session=picture)
        self.dialogues.append(made)
        return made

    def _over(self, call: Call) -> None:
        self.over += 1

    def _side(self, party: str, owner: SideOwner) -> Side:
        self._legs += 1
        sip = SIP(self._legs, f"id{self._legs}", party == "operator")
        services = cast(Services, self.rooms)
        record = LegRecord("call_1", f"leg_{self._legs}", cast(Any, sip), party, services)
        side = Side(party, trunk="trk_1", sip=cast(Any, sip), record=record, owner=owner, services=services)
        side.media = cast(Any, Leg(self._legs, self.worker, self))
        return side

    def dial(self, owner: SideOwner, beside: Leg) -> Side:
        """A leg to an operator."""
        side = self._side("operator", owner)
        self.operators.append(side)
        return side

    @property
    def operator(self) -> Side | None:
        """The one on the line, or the one that rings."""
        return self.operators[-1] if self.operators else None

    def do(self, function: Callable[[], object]) -> None:
        """Something happens to the call, in its loop."""

        async def happen() -> None:
            function()

        self.loop.run_until_complete(happen())
        self.loop.settle()

    def end(self, side: Side, *, status: int = 200, by_remote: bool = True) -> None:
        """The leg is over."""
        sip = cast(SIP, side.sip)
        if sip.cause is None:
            sip.cause = SIPCause(status, "", by_remote)
            cause = sip.cause
            self.do(lambda: side.sip_ended(cause))

    def close(self) -> None:
        """Nothing runs any longer."""
        asyncio.set_event_loop(None)
        self.loop.close()
