"""SIP by hand over UDP: what no decent peer would send."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

OFFER = """v=0
o=- 1 1 IN IP4 {address}
s=-
c=IN IP4 {address}
t=0 0
m=audio 40000 RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
"""


class RawPeer(asyncio.DatagramProtocol):
    """A UDP socket that sends anything and keeps what comes back. Made by `raw_peer`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.received: list[bytes] = []
        self.came = asyncio.Event()
        self._target = target
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.append(data)
        self.came.set()

    def error_received(self, exc: Exception) -> None:
        """ICMP port unreachable: as good as silence."""

    @property
    def address(self) -> tuple[str, int]:
        address: tuple[str, int] = self._transport.get_extra_info("sockname")
        return address

    def send(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        self._transport.sendto(data, to or self._target)

    def request(
        self,
        method: str,
        uri: str,
        *,
        caller: str = "anonymous",
        body: str = "",
        headers: tuple[str, ...] = (),
        content_type: str = "application/sdp",
    ) -> bytes:
        """A request of a new dialog."""
        host, port = self.address
        text = body.format(address=host).replace("\n", "\r\n")
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{os.urandom(6).hex()}",
            f"From: <sip:{caller}@{host}>;tag={os.urandom(4).hex()}",
            f"To: <{uri}>",
            f"Call-ID: raw-{os.urandom(6).hex()}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:{caller}@{host}:{port}>",
            "Max-Forwards: 70",
            *headers,
            *([f"Content-Type: {content_type}"] if body else []),
            f"Content-Length: {len(text.encode())}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()

    async def final(self, invite: bytes, timeout_s: float = 10) -> int:
        """Sends an INVITE and acknowledges its refusal; the status of the final answer."""
        self.send(invite)
        async with asyncio.timeout(timeout_s):
            while True:
                while self.received:
                    answer = self.received.pop(0)
                    status = int(answer.split(b" ", 2)[1])
                    if status >= 200:
                        self.send(_ack(invite, answer))
                        return status
                self.came.clear()
                await self.came.wait()

    def close(self) -> None:
        self._transport.close()


def _ack(invite: bytes, answer: bytes) -> bytes:
    head = invite.split(b"\r\n\r\n")[0].split(b"\r\n")
    to = re.search(rb"(?im)^(?:to|t)\s*:\s*(.*?)\r?$", answer)
    kept = [line for line in head[1:] if line.startswith((b"Via", b"From", b"Call-ID", b"Max-Forwards"))]
    lines = [head[0].replace(b"INVITE", b"ACK"), *kept, b"CSeq: 1 ACK", b"Content-Length: 0"]
    lines.append(b"To: " + (to[1] if to else b""))
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def raw_peer(target: tuple[str, int], address: str = "127.0.0.1") -> RawPeer:
    """A socket bound to `address`."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(lambda: RawPeer(target), local_addr=(address, 0))
    return protocol
