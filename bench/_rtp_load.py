"""The other end of `bench engine`: an RTP generator, and the kernel floor.

Both are children of the bench, forked with the sockets open. Leg `n` talks between the worker's socket
`n // LEGS_PER_PORT` and the generator's socket `n % LEGS_PER_PORT`, so that every leg has its own address.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from media.arrays import Index, Int16, UInt8
from media.dsp import g711, tones
from media.hardening import raise_priority
from media.protocol import FRAME_SAMPLES, TICK_MS, Remote
from media.rtp.packet import HEADER_BYTES, HEADER_OFFSET
from media.rtp.sockets import MMsgReceiver, MMsgSender

LEGS_PER_PORT: Final = 64
#: One leg of so many keys in band.
KEYING_EVERY: Final = 8
KEYS: Final = (1, 5, 9, 13, 0, 10, 3, 7, 11, 15)
TICKS_PER_KEY: Final = 10
_TICK_S: Final = TICK_MS / 1000
_BANK_FRAMES: Final = 509
_PAYLOAD: Final = HEADER_OFFSET + HEADER_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Which sockets the legs use."""

    legs: int
    worker: list[socket.socket]
    generator: list[socket.socket]

    def addresses(self, leg: int) -> tuple[tuple[str, int], tuple[str, int]]:
        """The worker's address and the generator's address of a leg."""
        return (
            self.worker[leg // LEGS_PER_PORT].getsockname(),
            self.generator[leg % LEGS_PER_PORT].getsockname(),
        )


def _speech_bank(rng: np.random.Generator) -> UInt8:
    """Frames of noise with the slope and the bursts of speech, µ-law, each unlike every other."""
    samples = rng.standard_normal(_BANK_FRAMES * FRAME_SAMPLES)
    samples = np.convolve(samples, np.exp(-np.arange(12) / 3), mode="same")
    bursts = np.repeat(rng.uniform(300, 4000, _BANK_FRAMES), FRAME_SAMPLES)
    pcm = (samples * bursts).clip(-32000, 32000).astype(np.int16)
    codes = g711.ENCODE[0][pcm.view(np.uint16)]
    codes[codes == 0x7F] = 0xFF  # negative zero comes back as positive zero
    return np.asarray(codes.reshape(_BANK_FRAMES, FRAME_SAMPLES))


def _key_bank() -> UInt8:
    pcm: Int16 = tones.key_sequence(list(KEYS), 100, 100)
    return np.asarray(g711.ENCODE[0][pcm.view(np.uint16)].reshape(-1, FRAME_SAMPLES))


class Generator:
    """Sends and takes the packets of all legs, on a schedule of its own."""

    def __init__(self, layout: Layout, control: Connection) -> None:
        self._layout, self._control = layout, control
        rng = np.random.default_rng(7)
        self._speech, self._keys = _speech_bank(rng), _key_bank()
        legs = layout.legs
        self._packets: UInt8 = np.zeros((legs, 176), np.uint8)
        self._packets[:, 0] = 0x80
        self._sequence = np.zeros(legs, np.uint16)
        self._timestamp = rng.integers(0, 1 << 32, legs, np.uint32)
        self._packets.view(">u4")[:, 2] = rng.integers(0, 1 << 32, legs, np.uint32)
        self._sender = MMsgSender(layout.generator, self._packets, HEADER_BYTES + FRAME_SAMPLES)
        numbers = np.arange(legs)
        self._orders: list[Index] = [
            np.flatnonzero(numbers % LEGS_PER_PORT == at) for at in range(len(layout.generator))
        ]
        self._receiver = MMsgReceiver(layout.generator)
        ports = np.zeros(65536, np.int64)
        for leg in range(legs):
            worker, _ = layout.addresses(leg)
            ports[worker[1]] = leg // LEGS_PER_PORT
            self._sender.set_destination(leg, Remote(*worker))
        self._ports = ports
        self._keying = np.flatnonzero(numbers % KEYING_EVERY == 0)
        self._numbers = numbers
        self._mode = "steady"
        self._since = 0
        self._tick = 0
        self.sent = self.received = self.late = 0
        self._matches = np.zeros(legs, np.int64)
        self._foreign = np.zeros(legs, np.int64)
        self._peak = np.zeros(legs, np.int64)
        self._known = {frame.tobytes() for bank in (self._speech, self._keys) for frame in bank}
        self._known.discard(b"\xff" * FRAME_SAMPLES)

    def run(self) -> None:
        """Until told to stop."""
        deadline = time.monotonic()
        while True:
            deadline += _TICK_S
            time.sleep(max(0.0, deadline - time.monotonic()))
            self.late += time.monotonic() - deadline > 0.01
            if self._control.poll() and not self._obey(self._control.recv()):
                return
            self._timestamp += np.uint32(FRAME_SAMPLES)
            if self._mode != "quiet":
                self._send()
            self._receive()
            self._tick += 1

    def _obey(self, order: str) -> bool:
        if order == "report":
            self._control.send(
                {
                    "sent": self.sent,
                    "received": self.received,
                    "late": self.late,
                    "ticks": self._tick,
                    "cpu_s": time.process_time(),
                    "matches": self._matches,
                    "foreign": self._foreign,
                    "peak": self._peak,
                }
            )
        elif order == "stop":
            return False
        else:
            self._mode, self._since = order, self._tick
        return True

    def _send(self) -> None:
        bank = self._speech
        frames = bank[(self._numbers * 7 + self._tick) % len(bank)]
        step = self._tick - self._since
        if self._mode == "check" and step >= len(self._keys):
            frames[self._keying] = 0xFF
        else:
            frames[self._keying] = self._keys[step % len(self._keys)]
        self._packets[:, HEADER_BYTES : HEADER_BYTES + FRAME_SAMPLES] = frames
        self._sequence += np.uint16(1)
        self._packets.view(np.uint16)[:, 1] = self._sequence.byteswap()
        self._packets.view(np.uint32)[:, 1] = self._timestamp.byteswap()
        for at, rows in enumerate(self._orders):
            self.sent += self._sender.send(at, rows)

    def _receive(self) -> None:
        count = self._receiver.receive()
        self.received += count
        if self._mode != "check" or self._tick - self._since < 10 or not count:
            return
        batch = self._receiver.batch
        ports = batch.names.view(">u2")[:count, 1]
        legs = self._ports[ports] * LEGS_PER_PORT + batch.sockets[:count].astype(np.int64)
        payload = batch.slots[:count, _PAYLOAD : _PAYLOAD + FRAME_SAMPLES]
        peaks = np.abs(g711.DECODE[0][payload].astype(np.int64)).max(axis=1)
        np.maximum.at(self._peak, legs, peaks)
        for at, leg in enumerate(legs.tolist()):
            known = payload[at].tobytes() in self._known
            self._matches[leg] += known
            self._foreign[leg] += not known


def run_generator(layout: Layout, control: Connection, cpu: int | None) -> None:
    """The generator's process."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    raise_priority()
    Generator(layout, control).run()


def run_floor(layout: Layout, control: Connection, cpu: int | None, seconds: float) -> None:
    """The kernel's share: the worker's sockets, packets and batches, with nothing done to them."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    raise_priority()
    legs = layout.legs
    packets: UInt8 = np.zeros((legs, 176), np.uint8)
    packets[:, 0] = 0x80
    sender = MMsgSender(layout.worker, packets, HEADER_BYTES + FRAME_SAMPLES)
    receiver = MMsgReceiver(layout.worker)
    for leg in range(legs):
        sender.set_destination(leg, Remote(*layout.addresses(leg)[1]))
    numbers = np.arange(legs)
    orders = [np.flatnonzero(numbers // LEGS_PER_PORT == at) for at in range(len(layout.worker))]
    while receiver.receive():
        pass
    cost_ns = ticks = received = 0
    deadline = time.monotonic()
    end = deadline + seconds
    while deadline < end:
        deadline += _TICK_S
        time.sleep(max(0.0, deadline - time.monotonic()))
        started = time.thread_time_ns()
        received += receiver.receive()
        for at, rows in enumerate(orders):
            sender.send(at, rows)
        cost_ns += time.thread_time_ns() - started
        ticks += 1
    result: dict[str, Any] = {"us_per_tick": cost_ns / ticks / 1000, "received": received, "ticks": ticks}
    control.send(result)
