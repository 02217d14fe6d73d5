"""SIPp: an independent SIP and RTP peer. As a paying customer it keys by a timetable, hearing nothing; a socket of
ours may listen in its place. As an echo it returns all that it hears."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from bench.harness import Switch, free_port
from bench.telephone.customer import VISA
from media.dsp import g711
from media.dsp.tones import dtmf_tone
from media.protocol import KEY_CHARACTERS, Codec, KeyWay
from tests.e2e.rtp_ear import RTPEar, rtp_ear

#: Seconds before each entry, and what is keyed; long enough for the prompts that cannot be interrupted.
TIMETABLE = (
    (2.0, "{number}"),
    (13.0, VISA.number),
    (3.0, VISA.expiry),
    (3.0, VISA.security_code),
    (13.0, "1"),
)
#: Length of a hold, and of the quiet after it.
HOLD_S = 1.0

#: Our own ear listens beyond SIPp's ports.
EAR_OFFSET = 6

#: SIPp's play_dtmf sends payload type 96, whatever the description says.
INVITE = """
  <send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:{caller}@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
{to}
Call-ID: [call_id]
CSeq: {number} INVITE
Contact: <sip:{caller}@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 53655765 235368763{number} IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio {port} RTP/AVP {payload_type} 96
a=rtpmap:{payload_type} {codec}/8000
a=rtpmap:96 telephone-event/8000
a=fmtp:96 0-15
a={direction}
]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="200" rtd="true"/>
  <send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:{caller}@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: {number} ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
"""

SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1"?>
<scenario name="customer">
{invite}
{media}
  <recv request="BYE" timeout="120000"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"""

#: Answers one call after another; SIPp returns the RTP that comes to `[media_port]` to where it came from.
ECHO_SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1"?>
<scenario name="echo">
  <recv request="INVITE" rrs="true"/>
  <send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]SIPp[call_number]
[last_Call-ID:]
[last_CSeq:]
[last_Record-Route:]
Contact: <sip:echo@[local_ip]:[local_port]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 53655765 2353687637 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP {payload_type} 101
a=rtpmap:{payload_type} {codec}/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
]]></send>
  <recv request="ACK"/>
  <recv request="BYE" timeout="60000"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"""


class SIPpCustomer:
    """One call of SIPp that pays.

    With telephone-event SIPp sends from a raw socket, whose port it does not listen on: `ear` does, and has heard
    the whole call when `run` returns. In band it streams from a socket of its own, and what it hears is lost.
    `held`: it puts the call on hold in the middle of the card number, by telephone-event only.
    """

    def __init__(
        self,
        switch: Switch,
        identification_number: str,
        way: KeyWay,
        codec: Codec = Codec.PCMU,
        *,
        held: bool = False,
    ) -> None:
        self.ear: RTPEar | None = None
        self._codec = codec
        self._held = held
        self.call_id = f"sipp-{os.urandom(6).hex()}"
        self._switch = switch
        self._entries = [(wait, keys.format(number=identification_number)) for wait, keys in TIMETABLE]
        self._way = way

    async def run(self) -> None:
        """Plays the call; fails with SIPp's own words."""
        with tempfile.TemporaryDirectory(prefix="sipp-") as name:
            directory = Path(name)
            scenario = directory / "customer.xml"
            inband = self._way is KeyWay.INBAND
            rtp_port = _free_rtp_port()
            scenario.write_text(
                SCENARIO.format(
                    invite=self._invite(1), media=self._stream(directory) if inband else self._events()
                ),
                "latin-1",
            )
            async with contextlib.AsyncExitStack() as open_ear:
                if not inband:
                    self.ear = await open_ear.enter_async_context(rtp_ear(rtp_port + EAR_OFFSET))
                await self._play(directory, scenario, rtp_port)

    async def _play(self, directory: Path, scenario: Path, rtp_port: int) -> None:
        process = await asyncio.create_subprocess_exec(
            "sipp",
            f"127.0.0.1:{self._switch.sip_port}",
            *("-sf", str(scenario), "-s", "0312345003", "-i", "127.0.0.1", "-m", "1", "-nostdin"),
            # Two SIPps at once must not both stream from its default port.
            *("-mp", str(rtp_port)),
            *("-cid_str", self.call_id, "-timeout", "140", "-trace_err"),
            cwd=directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        errors = "".join(path.read_text("latin-1") for path in directory.glob("*errors.log"))
        assert process.returncode == 0, errors + re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", out.decode())[-1500:]

    def _invite(self, number: int, direction: str = "sendrecv") -> str:
        return INVITE.format(
            number=number,
            to="To: <sip:[service]@[remote_ip]:[remote_port]>" if number == 1 else "[last_To:]",
            caller=self._switch.caller,
            port="[rtpstream_audio_port]" if self._way is KeyWay.INBAND else f"[media_port+{EAR_OFFSET}]",
            payload_type=self._codec.value,
            codec=self._codec.name,
            direction=direction,
        )

    def _events(self) -> str:
        steps = []
        for wait, keys in self._entries:
            steps.append(_pause(wait))
            if self._held and len(keys) == len(VISA.number):
                steps.append(_press(keys[:8]))
                steps += [self._invite(2, "sendonly"), _pause(HOLD_S), self._invite(3), _pause(HOLD_S)]
                steps.append(_press(keys[8:]))
            else:
                steps.append(_press(keys))
        return "\n".join(steps)

    def _stream(self, directory: Path) -> str:
        parts = []
        for wait, keys in self._entries:
            parts.append(np.zeros(int(wait * 8000), np.int16))
            for key in keys:
                parts.append(dtmf_tone(KEY_CHARACTERS.index(key), 90, -12.0))
                parts.append(np.zeros(90 * 8, np.int16))
        parts.append(np.zeros(40 * 8000, np.int16))
        samples = np.concatenate(parts)[None, :]
        coded = np.zeros(samples.shape, np.uint8)
        alaw = np.arange(1 if self._codec is Codec.PCMA else 0)
        g711.encode(samples, alaw, coded)
        (directory / "keys.g711").write_bytes(coded.tobytes())
        described = f"{self._codec.value},{self._codec.name}/8000"
        return f'  <nop><action><exec rtp_stream="keys.g711,1,{described}"/></action></nop>'


def _pause(seconds: float) -> str:
    return f'  <pause milliseconds="{int(seconds * 1000)}"/>'


def _press(keys: str) -> str:
    # play_dtmf goes on in the background: what comes next must not run into it.
    return f'  <nop><action><exec play_dtmf="{keys}"/></action></nop>\n{_pause(len(keys) * 0.45)}'


@contextlib.asynccontextmanager
async def sipp_echo(codec: Codec) -> AsyncIterator[str]:
    """A SIPp that answers calls with `codec` and echoes; gives the URI to call."""
    with tempfile.TemporaryDirectory(prefix="sipp-") as name:
        scenario = Path(name) / "echo.xml"
        scenario.write_text(ECHO_SCENARIO.format(payload_type=codec.value, codec=codec.name), "latin-1")
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *("sipp", "-sf", str(scenario), "-i", "127.0.0.1", "-p", str(port), "-nostdin"),
            *("-rtp_echo", "-mp", str(_free_rtp_port())),
            cwd=name,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield f"sip:echo@127.0.0.1:{port}"
        finally:
            process.kill()
            await process.wait()


def _free_rtp_port() -> int:
    """SIPp takes four ports from here on, and our ear one; outside the kernel's own range nobody is given one of
    them meanwhile."""
    for port in random.sample(range(16_000, 24_000, 10), 100):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for offset in range(EAR_OFFSET + 1):
                probe = probes.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                probe.bind(("127.0.0.1", port + offset))
            return port
    raise RuntimeError("no free UDP ports in a row")
