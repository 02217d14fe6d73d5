"""A socket that takes one RTP stream and reads it by the letter of RFC 3550, with nothing of our media engine."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.dsp.g711 import DECODE
from media.protocol import Codec

_HEADER: Final = struct.Struct(">BBHII")


@dataclass(frozen=True, slots=True)
class HeardStream:
    """What arrived, in the order of its sequence numbers.

    Attributes:
        samples: decoded, shape (samples,), gaps closed.
        payload_types, ssrcs, packet_ms: each that occurred.
        breaks: samples before which sequence number or timestamp did not go on from the packet before.
    """

    samples: NDArray[np.int16]
    payload_types: set[int]
    ssrcs: set[int]
    packet_ms: set[int]
    breaks: tuple[int, ...]


class RTPEar(asyncio.DatagramProtocol):
    """Keeps what comes. Made by `rtp_ear`."""

    def __init__(self) -> None:
        self._packets: list[bytes] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        # RTCP on the same port (RFC 5761 §4): its packet types lie where RTP's marker and payload type do.
        if not 192 <= data[1] <= 223:
            self._packets.append(data)

    def stream(self, codec: Codec) -> HeardStream:
        """The stream up to now. Sequence numbers are taken as they came: loopback keeps order."""
        table = DECODE[1 if codec is Codec.PCMA else 0]
        parts: list[NDArray[np.int16]] = []
        types, ssrcs, lengths = set(), set(), set()
        breaks: list[int] = []
        length, expected = 0, None
        for packet in self._packets:
            first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(packet)
            assert first == 0x80, "no padding, extension or contributing source is expected of us"
            payload = packet[_HEADER.size :]
            types.add(second & 0x7F)
            ssrcs.add(ssrc)
            lengths.add(len(payload) // 8)
            if expected not in (None, (sequence, timestamp)):
                breaks.append(length)
            length += len(payload)
            expected = ((sequence + 1) & 0xFFFF, (timestamp + len(payload)) & 0xFFFFFFFF)
            parts.append(table[np.frombuffer(payload, np.uint8)])
        samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        return HeardStream(samples, types, ssrcs, lengths, tuple(breaks))


@contextlib.asynccontextmanager
async def rtp_ear(port: int) -> AsyncIterator[RTPEar]:
    """An ear on a loopback port."""
    loop = asyncio.get_running_loop()
    transport, ear = await loop.create_datagram_endpoint(RTPEar, local_addr=("127.0.0.1", port))
    try:
        yield ear
    finally:
        transport.close()
