"""baresip as a telephone: an independent SIP, RTP and SRTP stack that speaks, keys, holds and records what it hears.

One process a call, in a directory of its own: configuration, the audio that it speaks, the recording. Its control
socket takes commands and tells events; its recording is followed while it grows, so that a `Customer` can listen.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.harness import free_port
from bench.telephone.ears import Ears
from bench.telephone.recording import write_wav
from media.dsp.tones import dtmf_tone
from media.protocol import KEY_CHARACTERS, Codec, KeyWay

FRAME: Final = 160
#: baresip ends a call when its audio source does: every file ends in this much silence.
TAIL_S: Final = 120
#: baresip hangs up when it has heard nothing for so long: the switch must send while nobody speaks.
RTP_TIMEOUT_S: Final = 8
#: Ports that it takes at random; nobody else in the tests takes from here, nor does the kernel.
RTP_PORTS: Final = "24000-31998"
#: Packets of one telephone-event key, one each packet time: nine and three for the end.
EVENT_PACKETS: Final = 12
#: How often its recording is looked at.
LOOK_S: Final = 0.05
#: What libsndfile writes before the samples.
_WAV_HEADER: Final = 44

#: `net_interface` takes an address, too: baresip finds no loopback interface by itself.
CONFIGURATION: Final = """
poll_method epoll
sip_listen {address}:{sip_port}
net_interface 127.0.0.1
ctrl_tcp_listen 127.0.0.1:{control_port}
rtp_ports {rtp_ports}
rtp_timeout {rtp_timeout}
rtcp_mux {rtcp_mux}
audio_source aufile,{audio}
audio_player aubridge,nobody
audio_alert aubridge,nobody
snd_path {recordings}
statmode_default off
module_path /usr/lib/baresip/modules
module g711.so
module sndfile.so
module aufile.so
module aubridge.so
module srtp.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
"""


class MediaEncryption(enum.Enum):
    """Of an account, in baresip's words."""

    OFF = ""
    #: Offers RTP/AVP with keys, and goes on in clear if the answer has none.
    OPTIONAL = "srtp"
    #: Offers RTP/SAVP and accepts nothing else.
    MANDATORY = "srtp-mand"


class Baresip:
    """A running baresip and its call. Made by `baresip`. Takes the place of a `PhoneCall` for a `Customer`."""

    def __init__(self, directory: Path, ptime_ms: int) -> None:
        self.ears = Ears()
        self.call_id = ""
        self.uri = ""
        """What is dialled to reach it."""
        self._directory = directory
        self._ptime_ms = ptime_ms
        self._recordings = directory / "heard"
        self._heard: list[NDArray[np.int16]] = []
        self._events: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._files = 0
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def heard(self) -> NDArray[np.int16]:
        """What the call has heard up to now, shape (samples,)."""
        return np.concatenate(self._heard) if self._heard else np.zeros(0, np.int16)

    def log(self) -> str:
        """Everything that it has printed."""
        return (self._directory / "output").read_text("utf-8", "replace")

    async def say(self, samples: NDArray[np.int16]) -> None:
        """Speaks, and returns when it has."""
        self.command("ausrc", f"aufile,{self._spoken(samples)}")
        await asyncio.sleep(len(samples) / 8000)  # the time that it takes to say it

    async def dial(self, uri: str) -> None:
        """Calls and waits for the answer."""
        self.command("dial", uri)
        established = await self.event("CALL_ESTABLISHED")
        self.call_id = str(established["id"])

    async def answered_or_refused(self, timeout_s: float = 20) -> str:
        """Waits for "answered", or for the refusal's status and reason."""

        def final() -> dict[str, Any] | None:
            kinds = ("CALL_ESTABLISHED", "CALL_CLOSED")
            return next((event for event in self._events if event["type"] in kinds), None)

        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: final() is not None)
            event = final()
        assert event is not None
        return "answered" if event["type"] == "CALL_ESTABLISHED" else str(event["param"])

    def command(self, name: str, parameters: str = "") -> None:
        """Gives a command of baresip's menu."""
        assert self._writer is not None
        text = json.dumps({"command": name, "params": parameters}).encode()
        self._writer.write(b"%d:%s," % (len(text), text))

    async def event(self, kind: str, *, times: int = 1, timeout_s: float = 20) -> dict[str, Any]:
        """Waits for an event, for its n-th occurrence of this call."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self._events if event["type"] == kind]

        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= times)
            return found()[times - 1]

    async def hold(self) -> None:
        """Puts the call on hold and waits for the answer."""
        await self._reinvite("hold")

    async def resume(self) -> None:
        """Takes the call off hold and waits for the answer. From now on it plays, but records no more:
        baresip 1.0.0 loses the recorder when it stops listening."""
        await self._reinvite("resume")

    async def key(self, characters: str, way: KeyWay) -> None:
        """Presses keys: as telephone-event, or as tones of the audio that it plays."""
        if way is KeyWay.INBAND:
            self.command("ausrc", f"aufile,{self._tones(characters)}")
            await asyncio.sleep(0.18 * len(characters))  # the pace of a finger, not a wait
            return
        assert way is KeyWay.RFC4733
        self.command("sndcode", characters)
        await asyncio.sleep(EVENT_PACKETS * self._ptime_ms / 1000 * len(characters))  # as above

    async def ended(self, timeout_s: float = 60) -> str:
        """Waits for the end of the call; baresip's reason for it."""
        closed = await self.event("CALL_CLOSED", timeout_s=timeout_s)
        return str(closed["param"])

    async def _reinvite(self, command: str) -> None:
        # Each answer that baresip reads is an event; the first was that to its INVITE.
        answers = sum(event["type"] == "CALL_REMOTE_SDP" for event in self._events)
        self.command(command)
        await self.event("CALL_REMOTE_SDP", times=answers + 1)

    def _tones(self, characters: str) -> Path:
        parts = [np.zeros(FRAME, np.int16)]
        for character in characters:
            parts.append(dtmf_tone(KEY_CHARACTERS.index(character), 90, -12.0))
            parts.append(np.zeros(90 * 8, np.int16))
        return self._spoken(np.concatenate(parts))

    def _spoken(self, samples: NDArray[np.int16]) -> Path:
        self._files += 1
        path = self._directory / f"said{self._files}.wav"
        write_wav(path, np.concatenate([samples, np.zeros(TAIL_S * 8000, np.int16)]))
        return path

    # -- its process -------------------------------------------------------------------------------------

    async def attach(self, control_port: int, process: asyncio.subprocess.Process) -> None:
        """Connects to the control socket of a process that is starting."""
        async with asyncio.timeout(20):
            while self._writer is None:
                assert process.returncode is None, self.log()
                with contextlib.suppress(ConnectionError):
                    reader, self._writer = await asyncio.open_connection("127.0.0.1", control_port)
                    continue
                await asyncio.sleep(0.05)
        self._tasks = [
            asyncio.create_task(self._follow_events(reader)),
            asyncio.create_task(self._follow_audio()),
        ]

    async def detach(self) -> None:
        """Lets go of the control socket and the recording."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()

    async def _follow_events(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                length = await reader.readuntil(b":")
                message = json.loads((await reader.readexactly(int(length[:-1]) + 1))[:-1])
            except asyncio.IncompleteReadError:
                return
            if message.get("event"):
                async with self._changed:
                    self._events.append(message)
                    self._changed.notify_all()

    async def _follow_audio(self) -> None:
        """Feeds what was recorded since the last look."""
        while not (files := list(self._recordings.glob("*-dec.wav"))):
            await asyncio.sleep(LOOK_S)
        with files[0].open("rb") as file:
            file.seek(_WAV_HEADER)
            waiting = b""
            while True:
                waiting += file.read()
                whole = len(waiting) // (2 * FRAME) * (2 * FRAME)
                for frame in np.frombuffer(waiting[:whole], "<i2").astype(np.int16).reshape(-1, FRAME):
                    self._heard.append(frame)
                    await self.ears.feed(frame)
                waiting = waiting[whole:]
                if any(event["type"] == "CALL_CLOSED" for event in self._events):
                    await self.ears.close()
                    return
                await asyncio.sleep(LOOK_S)


@contextlib.asynccontextmanager
async def baresip(
    directory: Path,
    *,
    caller: str,
    codec: Codec = Codec.PCMU,
    ptime_ms: int = 20,
    rtcp_mux: bool = False,
    encryption: MediaEncryption = MediaEncryption.OFF,
    address: str = "127.0.0.1",
    answers: bool = False,
) -> AsyncIterator[Baresip]:
    """A baresip on ports of its own.

    Args:
        directory: empty; everything that it reads and writes is there.
        caller: user part of its address.
        codec: the only one that it offers.
        ptime_ms: of what it sends.
        rtcp_mux: offer RFC 5761.
        encryption: of its media.
        address: where its SIP comes from, by which the switch knows its trunk; RTP stays on 127.0.0.1.
        answers: takes calls, at once.
    """
    (directory / "heard").mkdir()
    write_wav(directory / "quiet.wav", np.zeros(TAIL_S * 8000, np.int16))
    sip_port, control_port = free_port(), free_port()
    (directory / "config").write_text(
        CONFIGURATION.format(
            address=address,
            sip_port=sip_port,
            control_port=control_port,
            rtp_ports=RTP_PORTS,
            rtp_timeout=RTP_TIMEOUT_S,
            rtcp_mux="yes" if rtcp_mux else "no",
            audio=directory / "quiet.wav",
            recordings=directory / "heard",
        )
    )
    account = (
        f"<sip:{caller}@{address}:{sip_port}>;regint=0;audio_codecs={codec.name.lower()};ptime={ptime_ms}"
    )
    if encryption.value:
        account += f";mediaenc={encryption.value}"
    if answers:
        account += ";answermode=auto"
    (directory / "accounts").write_text(account + "\n")
    with (directory / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *("baresip", "-s", "-f", str(directory)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    peer = Baresip(directory, ptime_ms)
    peer.uri = f"sip:{caller}@{address}:{sip_port}"
    try:
        await peer.attach(control_port, process)
        yield peer
    except BaseException:
        print(peer.log()[-6000:])
        raise
    finally:
        await peer.detach()
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
