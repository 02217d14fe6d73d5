"""The RTCP sockets beside the RTP ports: few packets, so one question to the kernel for all of them.

Reports come a thousand times more rarely than audio. What is ready is asked for once (epoll where there is
one); only sockets that hold something are read, packet by packet, with the time at which the kernel got it:
a round trip is measured in ms, a tick has 20.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from media.protocol import TICK_MS
from media.rtp.rtcp import LONGEST

#: Packets taken from one socket, and from all, at once. 64 legs send 13 a second; beyond it is a flood, whose
#: rest stays in that socket's buffer and is dropped there by the kernel.
MOST_PER_SOCKET: Final = 256
MOST_AT_ONCE: Final = 512

_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("@ll")
_ANCILLARY_BYTES: Final = 64
#: Where the kernel does not say: on average a packet has waited half a tick.
UNKNOWN_AGE_NS: Final = TICK_MS * 1_000_000 // 2
_LONGEST_AGE_NS: Final = 1_000_000_000
_MOST_DRAINED: Final = 100


class Arrival(NamedTuple):
    """One datagram: number of its socket, source, and how long ago it came."""

    socket: int
    datagram: bytes
    address: str
    port: int
    age_ns: int


class ReportReader:
    """Reads the RTCP sockets. They stay the caller's.

    Args:
        sockets: bound UDP sockets, index by index those of the RTP ports; may be none.
    """

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._selector = selectors.DefaultSelector()
        self._turn = 0
        for index, sock in enumerate(sockets):
            self._selector.register(sock, selectors.EVENT_READ, index)
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            except OSError:
                continue  # every age is then taken for half a tick
        self._any = bool(sockets)

    def receive(self) -> Iterator[Arrival]:
        """What has come since the last call, within bounds; starts with another socket each time."""
        if not self._any:
            return
        ready = self._selector.select(0)
        if not ready:
            return
        self._turn += 1
        turn = self._turn % len(ready)
        left = MOST_AT_ONCE
        for key, _ in ready[turn:] + ready[:turn]:
            sock, index = key.fileobj, key.data
            assert isinstance(sock, socket.socket)
            for _ in range(min(left, MOST_PER_SOCKET)):
                try:
                    datagram, ancillary, _, source = sock.recvmsg(
                        LONGEST + 1, _ANCILLARY_BYTES, socket.MSG_DONTWAIT
                    )
                except OSError:
                    break
                left -= 1
                yield Arrival(index, datagram, source[0], source[1], _age(ancillary))

    def drain(self) -> None:
        """Throws away what waits (it was meant for an earlier incarnation)."""
        for _ in range(_MOST_DRAINED):
            if not any(True for _ in self.receive()):
                return


def _age(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
            seconds, rest = _TIMESPEC.unpack(data)
            age_ns: int = time.time_ns() - seconds * 1_000_000_000 - rest
            return min(max(0, age_ns), _LONGEST_AGE_NS)  # the wall clock may have been set meanwhile
    return UNKNOWN_AGE_NS
