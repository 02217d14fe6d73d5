"""One leg that is fed packets and played tick by tick."""

from __future__ import annotations

import numpy as np

from media.arrays import Int16
from media.dsp import dtmf
from media.rtp.packet import header, parse
from media.rtp.stream import Streams
from tests.media.test_packet import batch_of

NO_ROWS = np.zeros(0, np.intp)
DEPTH_MS = 40


class Bench:
    """One leg that is fed packets and played tick by tick."""

    def __init__(self, rows: int = 1, depth_ms: int = DEPTH_MS) -> None:
        self.streams = Streams(rows, depth_ms)
        self.streams.payload_type[:] = 0
        self.streams.listening[:] = True
        self.tick = 0
        self.pending: dict[int, list[bytes]] = {}
        """Packets by the tick in which they come, for `run`."""
        self.played: list[Int16] = []
        self.valid: list[bool] = []
        self.keys: list[int] = []
        self._detector = dtmf.DTMFState(rows)
        self._pcm = np.zeros((rows, 160), np.int16)
        self._previous = np.zeros((rows, 160), np.int16)

    def step(self, *packets: bytes) -> Int16:
        if packets:
            slots, lengths = batch_of(list(packets))
            columns = parse(slots, lengths)
            rows = np.zeros(len(packets), np.intp)
            self.streams.receive(self.tick, rows, np.arange(len(packets)), columns, slots)
        previous, self._pcm = self._pcm, self._previous
        self._previous = previous
        first, second = self.streams.play(self.tick, 1, NO_ROWS, self._pcm, previous)
        for press in dtmf.detect(self._detector, dtmf.DTMFParams(), self._pcm[:1], (first, second)):
            self.keys.append(press.key)
        self.tick += 1
        self.played.append(self._pcm[0].copy())
        self.valid.append(bool(first[0] and second[0]))
        return self._pcm[0]

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.step(*self.pending.pop(self.tick, []))

    def audio(self) -> Int16:
        return np.concatenate(self.played)


def ramp(samples: int, start: int = 0) -> np.ndarray:
    """Codes that differ from sample to sample and never stand for zero."""
    return ((np.arange(start, start + samples) * 37) % 113).astype(np.uint8)


def packet(sequence: int, timestamp: int, samples: int = 160, ssrc: int = 1, origin: int = 0) -> bytes:
    return header(0, sequence, timestamp, ssrc) + ramp(samples, timestamp - origin).tobytes()
