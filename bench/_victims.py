"""Two telephones that count: every frame that one says is unlike every other, so the other knows what it missed."""

from __future__ import annotations

import dataclasses
import socket
import struct
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

    def account(self, other: Victim) -> dict[str, Any]:
        """What became of the other one's frames.

        Returns:
            `said` and `heard`; `lost`, frames that never came; `altered`, frames heard between them that nobody said;
            `repeated`; `sequence_gaps` of the packets that came. The last frames before the end do not count, nor
            what was heard before the first one.
        """
        known = {other.frame(count): count for count in range(other.said)}
        counts = [known.get(packet[_HEADER_BYTES:], -1) for packet in self.heard]
        begin = next((at for at, count in enumerate(counts) if count >= 0), len(counts))
        last = other.said - _MARGIN_FRAMES
        end = max((at for at, count in enumerate(counts) if 0 <= count < last), default=begin - 1) + 1
        found = [count for count in counts[begin:end] if count >= 0]
        sequence = np.array([int.from_bytes(packet[2:4], "big") for packet in self.heard], np.uint16)
        return {
            "said": other.said,
            "heard": len(set(found)),
            "lost": len(set(range(last)) - set(found)),
            "altered": (end - begin) - len(found),
            "repeated": len(found) - len(set(found)),
            "sequence_gaps": int((np.diff(sequence) != 1).sum()),
        }
