"""SIPp as a paying customer: an independent SIP and RTP peer that keys by a timetable, hearing nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
import tempfile
from pathlib import Path

import numpy as np

from bench.harness import Switch
from media.dsp import g711
from media.dsp.tones import dtmf_tone
from media.protocol import KEY_CHARACTERS, KeyWay

#: Seconds before each entry, and what is keyed; long enough for the prompts that cannot be interrupted.
TIMETABLE = ((3.0, "{number}"), (24.0, "4111111111111111"), (4.0, "1230"), (4.0, "123"), (16.0, "1"))

#: SIPp's play_dtmf sends payload type 96, whatever the description says.
SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1"?>
<scenario name="customer">
  <send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:{caller}@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:{caller}@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 53655765 2353687637 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio {port} RTP/AVP 0 96
a=rtpmap:0 PCMU/8000
a=rtpmap:96 telephone-event/8000
a=fmtp:96 0-15
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
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
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


class SIPpCustomer:
    """One call of SIPp that pays."""

    def __init__(self, switch: Switch, identification_number: str, way: KeyWay) -> None:
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
                    caller=self._switch.caller,
                    port="[rtpstream_audio_port]" if inband else "[media_port]",
                    media=self._stream(directory) if inband else self._events(),
                ),
                "latin-1",
            )
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
            out, _ = await process.communicate()
            errors = "".join(path.read_text("latin-1") for path in directory.glob("*errors.log"))
            assert process.returncode == 0, (
                errors + re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", out.decode())[-1500:]
            )

    def _events(self) -> str:
        steps = []
        for wait, keys in self._entries:
            steps.append(f'  <pause milliseconds="{int(wait * 1000)}"/>')
            steps.append(f'  <nop><action><exec play_dtmf="{keys}"/></action></nop>')
            # play_dtmf goes on in the background: the next entry must not run into it.
            steps.append(f'  <pause milliseconds="{len(keys) * 450}"/>')
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
        g711.encode(samples, np.zeros(0, np.intp), coded)
        (directory / "keys.ulaw").write_bytes(coded.tobytes())
        return '  <nop><action><exec rtp_stream="keys.ulaw,1,0,PCMU/8000"/></action></nop>'


def _free_rtp_port() -> int:
    """SIPp takes four ports from here on; outside the kernel's own range nobody is given one of them meanwhile."""
    for port in random.sample(range(16_000, 24_000, 10), 100):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for offset in range(4):
                probe = probes.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                probe.bind(("127.0.0.1", port + offset))
            return port
    raise RuntimeError("no four free UDP ports in a row")
