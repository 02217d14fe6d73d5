"""SIPp on either side of an inline call: what PBXs and carriers do with SIP while a card is being keyed.

The customer speaks DTMF tones from the first to the last second, so that whatever passes can be read in the operator's
recording; the operator plays music of one tone, so that the customer's recording shows when it passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.harness import free_port
from media.arrays import Int16
from media.dsp import g711
from media.dsp.tones import dtmf_tone
from media.protocol import KEY_CHARACTERS

#: What the customer keys, over and over.
KEYED: Final = "4111111111111111"
#: The operator's music, Hz: no DTMF frequency.
MUSIC_HZ: Final = 440.0

_HEAD: Final = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<scenario name="inline">\n'
_TAIL: Final = "</scenario>\n"

_SDP: Final = """Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 53655765 {version} IN IP4 127.0.0.1
s=-
c=IN IP4 {address}
t=0 0
m=audio {port} RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a={direction}
"""
_NO_SDP: Final = "Content-Length: 0\n"


def sdp(
    direction: str = "sendrecv",
    *,
    version: int = 1,
    port: str = "[rtpstream_audio_port]",
    address: str = "127.0.0.1",
) -> str:
    """A description of the audio; `address`: where SIPp's RTP comes from, which is where its SIP does."""
    return _SDP.format(direction=direction, version=version, port=port, address=address)


def request(method: str, cseq: int, body: str = _NO_SDP, *, first: bool = False, extra: str = "") -> str:
    """A request of the caller's."""
    to = "To: <sip:[service]@[remote_ip]:[remote_port]>" if first else "[last_To:]"
    # In a dialog we are where we said: at our Contact.
    target = "sip:[service]@[remote_ip]:[remote_port]"
    return f"""  <send{"" if method in ("ACK", "PRACK") else ' retrans="500"'}><![CDATA[
{method} {target} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:0312340001@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
{to}
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:0312340001@[local_ip]:[local_port]>
Max-Forwards: 70
{extra}{body}]]></send>
"""


def response(status: str, body: str = _NO_SDP, extra: str = "") -> str:
    """The callee's answer to the last request."""
    return f"""  <send><![CDATA[
SIP/2.0 {status}
[last_Via:]
[last_From:]
[last_To:];tag=[pid]SIPp[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[service]@[local_ip]:[local_port]>
{extra}{body}]]></send>
"""


def receive(what: str, *, optional: bool = False, timeout_ms: int = 20_000, inside: str = "") -> str:
    """Waits for a request (`BYE`) or a response (`200`)."""
    kind = "response" if what.isdigit() else "request"
    attributes = ' optional="true"' if optional else f' timeout="{timeout_ms}"'
    return f'  <recv {kind}="{what}"{attributes}{"/>" if not inside else ">" + inside + "</recv>"}\n'


def pause(seconds: float) -> str:
    """Nothing for a while."""
    return f'  <pause milliseconds="{int(seconds * 1000)}"/>\n'


def stream(name: str, times: int = -1) -> str:
    """Plays a file of `directory`, for ever or so many times."""
    return f'  <nop><action><exec rtp_stream="{name},{times},0,PCMU/8000"/></action></nop>\n'


def reply(status: str) -> str:
    """The answer to the last request inside the dialog."""
    return f"""  <send><![CDATA[
SIP/2.0 {status}
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[service]@[local_ip]:[local_port]>
Content-Length: 0

]]></send>
"""


BYE: Final = receive("BYE", timeout_ms=60_000) + reply("200 OK")


def keys(keyed: str = KEYED) -> Int16:
    """The customer's tones."""
    parts = []
    for key in keyed:
        parts += [dtmf_tone(KEY_CHARACTERS.index(key), 90, -12.0), np.zeros(90 * 8, np.int16)]
    return np.concatenate(parts)


def music() -> Int16:
    """A second of the operator's tone."""
    return (6000 * np.sin(2 * np.pi * MUSIC_HZ * np.arange(8000) / 8000)).astype(np.int16)


@contextlib.asynccontextmanager
async def sipp(
    steps: Sequence[str],
    *,
    target: str | None = None,
    service: str = "desk",
    call_id: str | None = None,
    address: str = "127.0.0.1",
) -> AsyncIterator[tuple[asyncio.Task[str], int]]:
    """Plays a scenario once: to `target` (address:port), or waiting for a call; SIP comes from `address`.

    Yields:
        A task that ends with the scenario and gives SIPp's complaint ("" for none), and SIPp's SIP port.
    """
    with tempfile.TemporaryDirectory(prefix="sipp-") as name:
        directory = Path(name)
        (directory / "scenario.xml").write_text(_HEAD + "".join(steps) + _TAIL, "latin-1")
        for file, samples in (("keys.pcmu", keys()), ("music.pcmu", music()), ("star.pcmu", keys("*#"))):
            coded = np.zeros((1, len(samples)), np.uint8)
            g711.encode(samples[None, :], np.arange(0), coded)
            (directory / file).write_bytes(coded.tobytes())
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            "sipp",
            *([target] if target else []),
            *("-sf", "scenario.xml", "-s", service, "-i", address, "-p", str(port), "-m", "1"),
            *("-nostdin", "-timeout", "120", "-trace_err", "-mp", str(_rtp_port())),
            *(["-cid_str", call_id] if call_id else []),
            cwd=directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

        async def ended() -> str:
            out, _ = await process.communicate()
            if process.returncode == 0:
                return ""
            errors = "".join(path.read_text("latin-1") for path in directory.glob("*errors.log"))
            return errors or re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", out.decode("latin-1"))[-1500:]

        task = asyncio.create_task(ended())
        try:
            yield task, port
        finally:
            if process.returncode is None:
                process.kill()
            await task


def _rtp_port() -> int:
    """SIPp takes four ports from here on; outside the kernel's own range nobody is given one of them meanwhile."""
    for port in random.sample(range(8_000, 15_990, 10), 100):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for offset in range(6):
                probe = probes.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                probe.bind(("127.0.0.1", port + offset))
            return port
    raise RuntimeError("no free UDP ports in a row")
