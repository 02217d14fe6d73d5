"""Two telephones that count: every frame that one says is unlike every other, so the other knows what it missed."""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import Set
from typing import Any, Final

import numpy as np

from media.protocol import FRAME_SAMPLES

#: Frames that are still on their way when the counting ends, and those in which a stream begins.
_MARGIN_FRAMES: Final = 15
_HEADER_BYTES: Final = 12


@dataclasses.dataclass(slots=True)
class Victim:
    """One of the two.

    Args:
        socket: its own.
        worker: where it sends to.
        number: which of the two it is; its frames are made from it and from `seed`.
        seed: of the run.
    """

    socket: socket.socket
    worker: tuple[str, int]
    number: int
    seed: int
    said: int = 0
    ssrc: int = 0
    sequence: int = 0
    timestamp: int = 0
    heard: list[bytes] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, self.number])
        self.ssrc = int(rng.integers(1 << 32))
        self.sequence = int(rng.integers(1 << 16))
        self.timestamp = int(rng.integers(1 << 32))

    def frame(self, count: int) -> bytes:
        """What it says as its frame number `count`."""
        rng = np.random.default_rng([self.seed, self.number, count])
        # Loud noise without the code that comes back as another one: no detector finds a key, no pause is in it.
        return rng.integers(0, 0x7F, FRAME_SAMPLES, np.uint8).tobytes()

    def next_header(self) -> bytes:
        """The header of the packet that it will send next: what an attacker who knows all would use."""
        return struct.pack("!BBHII", 0x80, 0, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc)

    def speak(self) -> None:
        """Sends the next frame."""
        self.socket.sendto(self.next_header() + self.frame(self.said), self.worker)
        self.said += 1
        self.sequence += 1
        self.timestamp += FRAME_SAMPLES

    def listen(self) -> None:
        """Takes what has come."""
        while True:
            try:
                packet, source = self.socket.recvfrom(2048)
            except BlockingIOError:
                return
            if source == self.worker and len(packet) == _HEADER_BYTES + FRAME_SAMPLES:
                self.heard.append(packet)

    def account(self, other: Victim, excused: Set[int]) -> dict[str, Any]:
        """What became of the other one's frames.

        Args:
            other: who said them.
            excused: frames that were said late, or about then.

        Returns:
            `said` and `heard`; `judged`, how many of those said are evidence; `lost`, frames that never came;
            `altered`, frames heard between them that nobody said; `repeated`; `sequence_gaps` of the packets that
            came; `excused`, how many of the lost and altered ones are not counted. The last frames before the
            end do not count, nor what was heard before the first one.
        """
        known = {other.frame(count): count for count in range(other.said)}
        counts = np.array([known.get(packet[_HEADER_BYTES:], -1) for packet in self.heard], np.int64)
        last = other.said - _MARGIN_FRAMES
        places = np.flatnonzero((counts >= 0) & (counts < last))
        heard = counts[places[0] : places[-1] + 1] if places.size else counts[:0]
        found = set(heard[heard >= 0].tolist())
        missing = set(range(last)) - found
        # A frame that nobody said stands where the last one before it was followed by another.
        newest = np.maximum.accumulate(heard)[heard < 0].tolist() if heard.size else []
        altered = [count for count in newest if count not in excused]
        lost = missing - excused
        sequence = np.array([int.from_bytes(packet[2:4], "big") for packet in self.heard], np.uint16)
        return {
            "said": other.said,
            "judged": len(set(range(last)) - excused),
            "heard": len(found),
            "lost": len(lost),
            "altered": len(altered),
            "repeated": int((heard >= 0).sum()) - len(found),
            "sequence_gaps": int((np.diff(sequence) != 1).sum()),
            "excused": len(missing) - len(lost) + len(newest) - len(altered),
        }
