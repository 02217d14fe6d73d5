"""The test's side of ``edge_host``: starts it, orders it about, and sends it bytes over sockets."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PATIENCE_S = 10.0
# How long silence must last to count as silence. PJSIP answers within a millisecond.
SILENCE_S = 0.3

# What edge_host answers with.
SDP = (
    "v=0\r\no=- {version} {version} IN IP4 192.0.2.7\r\ns=sipivr\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n"
    "m=audio 40404 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
    "a=sendrecv\r\n"
)
CRYPTO = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR\r\n"
REFUSAL = "A reason that is far too long to live inside the string object itself"

_branches = count(1)


class EdgeHost:
    """A running ``tests.ua.edge_host``."""

    def __init__(self) -> None:
        # PYTHONWARNINGS, or pytest's -W error would reach SWIG's own deprecations.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ua.edge_host"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ports = self._read()
        self.udp = ("127.0.0.1", ports["UDP"])
        self.tcp = ("127.0.0.1", ports["TCP"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            _, stderr = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, stderr = self.process.communicate()
        if error is None:
            assert self.process.returncode == 0, stderr

    def _read(self) -> Any:
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"edge_host ended: {self.process.stderr.read()}")
        return json.loads(line)

    def order(self, op: str, **details: Any) -> Any:
        """Send one order and return what it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"op": op, **details}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def decide(self, kind: str, **details: Any) -> None:
        """Set the verdict for the requests that follow."""
        self.order("verdict", verdict={"kind": kind, **details})

    def seen(self) -> list[dict[str, Any]]:
        """What the handlers saw since the last time, bytes decoded."""
        seen: list[dict[str, Any]] = self.order("seen")
        for entry in seen:
            for value in entry.values():
                if isinstance(value, dict) and "raw" in value:
                    value["raw"] = base64.b64decode(value["raw"])
        return seen

    def requests(self) -> list[dict[str, Any]]:
        """The requests among ``seen()``."""
        return [entry["request"] for entry in self.seen() if "request" in entry]

    def counters(self) -> dict[str, int]:
        """The edge's counters."""
        counters: dict[str, int] = self.order("counters")
        return counters

    def wait_for(self, **expected: int) -> dict[str, int]:
        """Wait until the counters have these values."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            counters = self.counters()
            if all(counters[name] == value for name, value in expected.items()):
                return counters
            assert time.monotonic() < deadline, (expected, counters)


class Peer:
    """A UDP socket that speaks SIP by hand."""

    def __init__(self, host: EdgeHost, address: str = "127.0.0.1") -> None:
        self.host = host
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.address, self.port = self.socket.getsockname()

    def send(self, message: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendto(message, self.host.udp)

    def receive(self, timeout_s: float = PATIENCE_S) -> bytes:
        """Return the next datagram."""
        self.socket.settimeout(timeout_s)
        return self.socket.recv(65_535)

    def hears_nothing(self) -> bool:
        """Tell whether silence lasts."""
        try:
            self.receive(SILENCE_S)
        except TimeoutError:
            return True
        return False

    def receive_final(self) -> bytes:
        """Return the next response that is not provisional."""
        while True:
            message = self.receive()
            if not message.startswith(b"SIP/2.0 1"):
                return message

    def request(
        self,
        method: str,
        *,
        call_id: str | None = None,
        to_tag: str = "",
        from_tag: str = "t1",
        cseq: int = 1,
        headers: str = "",
        body: bytes = b"",
        via: str = "",
        branch: str | None = None,
        transport: str = "UDP",
    ) -> bytes:
        """Build a request; the lines are the test's to spoil."""
        number = next(_branches)
        branch = branch or f"z9hG4bK{number}"
        head = (
            f"{method} sip:switch@127.0.0.1 SIP/2.0\r\n"
            f"Via: SIP/2.0/{transport} {self.address}:{self.port};branch={branch};rport{via}\r\n"
            "Max-Forwards: 70\r\n"
            f"From: <sip:peer@{self.address}>;tag={from_tag}\r\n"
            f"To: <sip:switch@127.0.0.1>{';tag=' + to_tag if to_tag else ''}\r\n"
            f"Call-ID: {call_id or f'call-{number}'}\r\n"
            f"CSeq: {cseq} {method}\r\n"
            f"Contact: <sip:peer@{self.address}:{self.port}>\r\n"
            f"{headers}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


@contextmanager
def peer_of(host: EdgeHost, address: str = "127.0.0.1") -> Iterator[Peer]:
    """A peer for as long as the block."""
    peer = Peer(host, address)
    try:
        yield peer
    finally:
        peer.close()
