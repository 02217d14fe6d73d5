"""A telephone with many lines: dials and takes calls, speaks, keys, listens and records.

One asyncio loop owns everything: pjsua2 by `PJUserAgent`, RTP by a media `Engine` that ticks every 20 ms in
the same loop. Each call has an RTP port of its own, so the other side may share its ports as it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench.telephone.ears import Ears
from bench.telephone.recording import Recorder
from media.dsp.tones import dtmf_tone
from media.engine import Engine
from media.protocol import (
    KEY_CHARACTERS,
    AddLeg,
    AnyEvent,
    Codec,
    Connect,
    Direction,
    Disconnect,
    DTMFMode,
    KeyPressed,
    KeyWay,
    MaskMode,
    Play,
    PlayFinished,
    Refused,
    Remote,
    RemoveLeg,
    SendKey,
    StopPlaying,
    UnloadPrompt,
    UpdateLeg,
)
from sipivr.calls.srtp import media_keys
from sipivr.ua.edge import EdgeRefusal, EdgeTrunk
from sipivr.ua.endpoint import PJUserAgent
from sipivr.ua.ladder import LadderEntry
from sipivr.ua.negotiation import MediaTerms, NegotiatedAudio, Negotiator
from sipivr.ua.ports import IncomingInvite, SIPCause, SIPLeg
from sipivr.ua.sdp import Direction as SDPDirection
from sipivr.ua.sdp import SessionDescription
from sipivr.ua.settings import Listener, UASettings

log = logging.getLogger(__name__)

TICK_S = 0.020


class PhoneCall:
    """One call of the telephone, either way. Coroutines raise `ConnectionError` once the call has ended."""

    def __init__(self, phone: Telephone, sip: SIPLeg, media: int, port: int, negotiator: Negotiator) -> None:
        self.sip = sip
        self.ears = Ears()
        self.heard = Recorder()
        self.said = Recorder()
        self.keys_heard: list[str] = []
        self.caller = ""
        self.agreed: NegotiatedAudio | None = None
        self._phone = phone
        self._media = media
        self._port = port
        self._negotiator = negotiator
        self._up = asyncio.Event()
        self._over = asyncio.Event()
        self.on_key: Callable[[KeyPressed], None] | None = None
        self._playing: dict[int, asyncio.Event] = {}

    @property
    def media(self) -> int:
        """The leg's number in the engine."""
        return self._media

    @property
    def up(self) -> bool:
        """Answered and not yet ended."""
        return self._up.is_set() and not self._over.is_set()

    @property
    def cause(self) -> SIPCause | None:
        """How the call ended."""
        return self.sip.cause

    async def answered(self, timeout_s: float = 10.0) -> None:
        """Waits for the answer.

        Raises:
            ConnectionError: refused; the message is the SIP status.
            TimeoutError: neither answered nor refused.
        """
        waits = [asyncio.create_task(event.wait()) for event in (self._up, self._over)]
        try:
            done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not done:
            raise TimeoutError("the call was not answered")
        if not self._up.is_set():
            cause = self.sip.cause
            raise ConnectionError(f"{cause.status} {cause.reason}" if cause else "ended")

    async def ended(self, timeout_s: float = 60.0) -> SIPCause:
        """Waits for the end and says how it came."""
        async with asyncio.timeout(timeout_s):
            await self._over.wait()
        cause = self.sip.cause
        assert cause is not None
        return cause

    def hang_up(self) -> None:
        """Ends the call."""
        self.sip.hang_up()

    def send_datagram(self, datagram: bytes) -> None:
        """Sends anything from our RTP port to the other side's, beside the engine."""
        if self.agreed is None:
            raise ConnectionError("nothing has been agreed on")
        self._phone.send_datagram(self._port, datagram, self.agreed.remote_address, self.agreed.remote_port)

    async def say(self, samples: NDArray[np.int16]) -> None:
        """Plays samples (8 kHz) to the other side and waits until they are out."""
        if self._over.is_set():
            raise ConnectionError("the call has ended")
        number = self._phone.number()
        done = self._playing[number] = asyncio.Event()
        self._phone.engine.load_prompt(number, samples)
        try:
            self._phone.run(
                Play(seq=number, leg=self._media, playlist=number, prompts=(number,)), tolerate=False
            )
            await done.wait()
        finally:
            if self._playing.pop(number, None) is not None and self.agreed is not None:
                self._phone.run(StopPlaying(seq=number, leg=self._media))
            self._phone.run(UnloadPrompt(seq=number, prompt=number))
        if self._over.is_set():
            raise ConnectionError("the call has ended")

    async def key(
        self,
        characters: str,
        way: KeyWay = KeyWay.RFC4733,
        *,
        tone_ms: int = 100,
        pause_ms: int = 100,
        level_dbm0: float = -10.0,
    ) -> None:
        """Presses keys, one after the other, by one of the three ways."""
        for character in characters:
            code = KEY_CHARACTERS.index(character)
            if way is KeyWay.INBAND:
                tone = dtmf_tone(code, tone_ms, level_dbm0)
                await self.say(np.concatenate([tone, np.zeros(pause_ms * 8, np.int16)]))
                continue
            if self._over.is_set():
                raise ConnectionError("the call has ended")
            if way is KeyWay.INFO:
                body = f"Signal={character}\r\nDuration={tone_ms}\r\n"
                self.sip.send_info("application/dtmf-relay", body)
            else:
                self.press(code, tone_ms)
            await asyncio.sleep((tone_ms + pause_ms) / 1000)  # the pace of a finger, not a wait

    def press(self, code: int, duration_ms: int = 100) -> None:
        """Sends one key as telephone-event without waiting for its end."""
        self._phone.run(SendKey(seq=self._phone.number(), leg=self._media, key=code, duration_ms=duration_ms))

    def move_to(self, remote: Remote) -> None:
        """Says in a re-INVITE that our RTP is elsewhere; what comes of it shows in `agreed`."""
        self._negotiator.move(remote.address, remote.port)
        self.sip.reinvite(self._negotiator.offer())

    def reoffer(self, direction: Direction) -> None:
        """Holds (SENDONLY) or takes back (SENDRECV) by a re-INVITE; a new `agreed` says that it is answered."""
        self.sip.reinvite(self._negotiator.offer(SDPDirection(direction.value)))

    @property
    def local(self) -> Remote:
        """Where this call's RTP is, as its first offer said."""
        return Remote(*self._phone.address_of(self._port))

    # -- told by the telephone --------------------------------------------------------------------------

    def agree(self, agreed: NegotiatedAudio) -> None:
        """Brings the media leg to what was negotiated; one that is there goes on, SRTP contexts included."""
        known, self.agreed = self.agreed is not None, agreed
        values: dict[str, Any] = {
            "codec": Codec(agreed.codec.value),
            "remote": Remote(agreed.remote_address, agreed.remote_port),
            "event_payload_type": agreed.event_payload_type,
            "ptime_ms": agreed.ptime_ms,
            "direction": Direction(agreed.direction.value),
            "dtmf": DTMFMode.AUTO,
            "srtp": media_keys(agreed),
        }
        if known:
            self._phone.run(UpdateLeg(seq=0, leg=self._media, **values), tolerate=False)
        else:
            self._phone.run(AddLeg(seq=0, leg=self._media, socket=self._port, **values), tolerate=False)

    def on_up(self) -> None:
        """The call is answered."""
        self._up.set()

    async def on_frame(self) -> None:
        """One tick's audio."""
        heard = self._phone.engine.received_pcm(self._media)
        self.heard.add(heard)
        self.said.add(self._phone.engine.sent_pcm(self._media))
        await self.ears.feed(heard)

    def on_event(self, event: AnyEvent) -> None:
        """A key that we heard, or something that we have finished saying."""
        if isinstance(event, PlayFinished):
            done = self._playing.pop(event.playlist, None)
            if done is not None:
                done.set()
        elif isinstance(event, KeyPressed):
            self.keys_heard.append(KEY_CHARACTERS[event.key])
            if self.on_key is not None:
                self.on_key(event)

    async def on_over(self) -> None:
        """The SIP leg has ended."""
        if self.agreed is not None:
            self._phone.run(StopPlaying(seq=0, leg=self._media))
            self._phone.run(RemoveLeg(seq=0, leg=self._media))
            self.agreed = None
        self._over.set()
        await self.ears.close()
        for done in self._playing.values():
            done.set()


class Telephone:
    """Lines on one address.

    Args:
        address: local address for SIP and RTP.
        port: SIP port over UDP, 0 for a free one.
        lines: calls at once; each has an RTP port.
        terms: codecs, telephone-event and SRTP of our offers and answers.
        record: keep what is heard and said of every call.
        peers: networks that may call us.
    """

    #: Whether each call's ears and recorders are fed.
    listening = True

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        lines: int = 32,
        terms: MediaTerms | None = None,
        record: bool = True,
        peers: tuple[str, ...] = ("127.0.0.0/8", "::1/128"),
    ) -> None:
        self._peers = peers
        self._address = address
        self._terms = terms or MediaTerms()
        self._record = record
        self._numbers = itertools.count(1)
        self._sockets = [_rtp_socket(address) for _ in range(lines)]
        self._free = list(range(lines))
        self.engine = Engine(self._sockets)
        self._calls: dict[int, PhoneCall] = {}
        self._by_media: dict[int, PhoneCall] = {}
        self._incoming: asyncio.Queue[PhoneCall] = asyncio.Queue()
        self._closing: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._tick_done = asyncio.Event()
        self.late_ticks = 0
        self.faults: list[BaseException] = []
        listener = Listener(address=address, port=port)
        self.agent = PJUserAgent(UASettings(listeners=(listener,), user_agent="sipivr telephone"), self)

    async def __aenter__(self) -> Self:
        self.agent.edge.replace_trunks((EdgeTrunk("peers", tuple(map(ip_network, self._peers))),))
        await self.agent.start()
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in list(self._calls.values()):
            call.hang_up()
        for call in list(self._calls.values()):
            with contextlib.suppress(TimeoutError):
                await call.ended(5)
        await self.agent.stop()
        assert self._ticker is not None
        self._ticker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticker
        for rtp in self._sockets:
            rtp.close()

    @property
    def port(self) -> int:
        """Our SIP port."""
        return self.agent.listening[0][2]

    async def ticked(self) -> None:
        """Waits for the next tick's end: then `engine.received_pcm` is that tick's."""
        await self._tick_done.wait()

    @property
    def lines_free(self) -> int:
        """Lines that carry no call."""
        return len(self._free)

    @property
    def lines(self) -> int:
        """All lines."""
        return len(self._sockets)

    def address_of(self, line: int) -> tuple[str, int]:
        """RTP address of a line."""
        address: tuple[str, int] = self._sockets[line].getsockname()
        return address

    def number(self) -> int:
        """A number never used before in this telephone."""
        return next(self._numbers)

    async def dial(
        self,
        uri: str,
        *,
        caller: str,
        headers: Mapping[str, str] | None = None,
        terms: MediaTerms | None = None,
    ) -> PhoneCall:
        """Calls `uri`; `caller` becomes the user part of From. Returns as soon as the INVITE is out.

        `terms`: of this call alone, e.g. with SRTP.
        """
        port, negotiator = self._line(terms)
        try:
            sip = await self.agent.dial(
                uri,
                from_uri=f"sip:{caller}@{self._address}:{self.port}",
                sdp=negotiator.offer(),
                headers=headers,
            )
        except BaseException:
            self._free.append(port)
            raise
        return self._adopt(sip, port, negotiator)

    async def next_call(self, timeout_s: float = 10.0) -> PhoneCall:
        """The next incoming call, already answered."""
        async with asyncio.timeout(timeout_s):
            return await self._incoming.get()

    def connect(self, source: PhoneCall, destination: PhoneCall) -> None:
        """`destination` hears `source` from now on; several sources are mixed."""
        self.run(
            Connect(seq=0, source=source.media, destination=destination.media, mask=MaskMode.OPEN),
            tolerate=False,
        )

    def disconnect(self, source: PhoneCall, destination: PhoneCall) -> None:
        """`destination` no longer hears `source`."""
        self.run(Disconnect(seq=0, source=source.media, destination=destination.media))

    def run(self, command: object, *, tolerate: bool = True) -> None:
        """Executes one media command at once."""
        for event in self.engine.execute(command):  # type: ignore[arg-type]
            if isinstance(event, Refused):
                if not tolerate:
                    raise RuntimeError(event.reason)
                log.debug("media: %s", event.reason)
            else:
                self._media_event(event)

    def send_datagram(self, port: int, datagram: bytes, address: str, to_port: int) -> None:
        """Sends anything from one of our RTP ports."""
        self._sockets[port].sendto(datagram, (address, to_port))

    def _line(self, terms: MediaTerms | None = None) -> tuple[int, Negotiator]:
        if not self._free:
            raise RuntimeError("no free line on this telephone")
        port = self._free.pop()
        local = self._sockets[port].getsockname()[1]
        return port, Negotiator(self._address, local, terms or self._terms)

    def _adopt(self, sip: SIPLeg, port: int, negotiator: Negotiator) -> PhoneCall:
        call = PhoneCall(self, sip, self.number(), port, negotiator)
        self._calls[sip.number] = call
        self._by_media[call.media] = call
        return call

    async def _tick(self) -> None:
        due = time.monotonic()
        while True:
            for event in self.engine.tick():
                self._media_event(event)
            for call in list(self._by_media.values()) if self.listening else ():
                if call.agreed is not None:
                    await call.on_frame()
                    if not self._record:
                        call.heard.clear()
                        call.said.clear()
            done, self._tick_done = self._tick_done, asyncio.Event()
            done.set()
            due += TICK_S
            wait = due - time.monotonic()
            if wait < -TICK_S:
                self.late_ticks += 1
                due = time.monotonic()
            await asyncio.sleep(max(wait, 0))

    def _media_event(self, event: AnyEvent) -> None:
        call = self._by_media.get(getattr(event, "leg", -1))
        if call is not None:
            call.on_event(event)

    # -- UAHandler --------------------------------------------------------------------------------------

    def incoming(self, leg: SIPLeg, invite: IncomingInvite) -> None:
        """Answers at once, as a hands-free telephone does."""
        if invite.offer is None or not self._free:
            leg.refuse(486 if invite.offer else 488)
            return
        port, negotiator = self._line()
        call = self._adopt(leg, port, negotiator)
        reading = invite.reading
        call.caller = reading.from_.user if reading.from_ else ""
        sdp, agreed = negotiator.answer(invite.offer)
        call.agree(agreed)
        leg.answer(sdp)

    def ringing(self, leg: SIPLeg, status: int) -> None:
        """Nothing to do: who dials waits for the answer."""

    def early_media(self, leg: SIPLeg, status: int, sdp: SessionDescription) -> None:
        """Listens to what is played before the answer."""
        self._calls[leg.number].agree(self._calls[leg.number]._negotiator.accept(sdp))

    def answered(self, leg: SIPLeg, sdp: SessionDescription | None) -> None:
        """The call is up."""
        call = self._calls[leg.number]
        if leg.outgoing and sdp is not None:
            call.agree(call._negotiator.accept(sdp))
        call.on_up()
        if not leg.outgoing:
            self._incoming.put_nowait(call)

    def reoffered(self, leg: SIPLeg, offer: SessionDescription | None) -> SessionDescription:
        """Follows the other side."""
        call = self._calls[leg.number]
        if offer is None:
            return call._negotiator.offer()
        sdp, agreed = call._negotiator.answer(offer)
        call.agree(agreed)
        return sdp

    def reanswered(self, leg: SIPLeg, sdp: SessionDescription) -> None:
        """The other side has answered our re-INVITE."""
        call = self._calls[leg.number]
        call.agree(call._negotiator.accept(sdp))

    def transferred(self, leg: SIPLeg, status: int, *, final: bool) -> None:
        """See `UAHandler`."""

    def reoffer_failed(self, leg: SIPLeg, status: int) -> None:
        """The call goes on as it was."""

    def info_key(self, leg: SIPLeg, key: int, duration_ms: int) -> None:
        """Counts as heard."""
        self._calls[leg.number].keys_heard.append(KEY_CHARACTERS[key])

    def referred(self, leg: SIPLeg, refer_to: str) -> None:
        """A telephone of ours is not transferred."""

    def ended(self, leg: SIPLeg, cause: SIPCause) -> None:
        """Frees the line."""
        call = self._calls.pop(leg.number, None)
        if call is not None:
            self._by_media.pop(call.media, None)
            self._free.append(call._port)
            closing = asyncio.ensure_future(call.on_over())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def fault(self, leg: SIPLeg | None, error: BaseException) -> None:
        """Kept, so that a test can fail on it."""
        self.faults.append(error)

    def turned_away(self, refusal: EdgeRefusal) -> None:
        """Nothing to do."""

    def ladder(self, entry: LadderEntry) -> None:
        """Nothing to keep."""


def _rtp_socket(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    rtp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    rtp.bind((address, 0))
    return rtp
