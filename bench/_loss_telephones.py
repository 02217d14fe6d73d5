"""The telephones of `bench worker_loss`: a process of its own that talks, keys, and keeps all that it hears.

Leg `2n` is customer `n`, leg `2n + 1` the operator. Everyone speaks without a pause, in frames that are never
silent; customers in a capture press keys as well, one in band and the next by telephone-event, without end.
"""

from __future__ import annotations

import socket
import time
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from media.arrays import Int16, UInt8
from media.dsp import g711, tones
from media.hardening import raise_priority
from media.protocol import FRAME_SAMPLES, TICK_MS
from media.rtp.packet import HEADER_BYTES, HEADER_OFFSET
from media.rtp.sockets import MMsgReceiver

EVENT_TYPE: Final = 101
KEY_LEVEL_DBM0: Final = -10.0
#: A key and the pause after it, in ticks.
_KEY_TICKS: Final = 5
_CYCLE_TICKS: Final = 10
_END_PACKETS: Final = 3
_TICK_S: Final = TICK_MS / 1000
_BANK_FRAMES: Final = 509
_PAYLOAD: Final = HEADER_OFFSET + HEADER_BYTES
_KEYS: Final = (1, 5, 9, 3, 0, 10, 7, 11, 2, 8)


def _speech() -> UInt8:
    """Frames that are loud enough to be told from comfort noise, each unlike every other, µ-law."""
    rng = np.random.default_rng(11)
    samples = np.convolve(
        rng.standard_normal(_BANK_FRAMES * FRAME_SAMPLES), np.exp(-np.arange(12) / 3), mode="same"
    )
    levels = np.repeat(rng.uniform(1500, 4000, _BANK_FRAMES), FRAME_SAMPLES)
    pcm = (samples * levels).clip(-32000, 32000).astype(np.int16)
    return np.asarray(g711.ENCODE[0][pcm.view(np.uint16)].reshape(_BANK_FRAMES, FRAME_SAMPLES))


def _tone(key: int) -> UInt8:
    pcm: Int16 = tones.dtmf_tone(key, _KEY_TICKS * TICK_MS, KEY_LEVEL_DBM0)
    return np.asarray(g711.ENCODE[0][pcm.view(np.uint16)].reshape(_KEY_TICKS, FRAME_SAMPLES))


class Telephones:
    """All telephones.

    Args:
        sockets: one of each leg.
        captures: so many customers, the first ones, key.
    """

    def __init__(self, sockets: list[socket.socket], captures: int) -> None:
        self._sockets = sockets
        self._captures = captures
        self._receiver = MMsgReceiver(sockets)
        self._speech = _speech()
        self._tones = {key: _tone(key) for key in _KEYS}
        self._peers: list[tuple[str, int]] = []
        rng = np.random.default_rng()
        self._ssrc = [int(number) for number in rng.integers(0, 1 << 32, len(sockets))]
        self._sequence = [0] * len(sockets)
        self._timestamp = 0
        self._heard: list[dict[str, Any]] = []
        self._tick = 0

    def run(self, control: Connection) -> None:
        """Until told to stop; then sends what was heard."""
        due = time.monotonic()
        while True:
            due += _TICK_S
            time.sleep(max(0.0, due - time.monotonic()))
            if control.poll():
                order = control.recv()
                if order == "stop":
                    control.send(self._report())
                    return
                self._peers = order
            if self._peers:
                self._send()
            self._receive()
            self._tick += 1

    def _send(self) -> None:
        self._timestamp = (self._timestamp + FRAME_SAMPLES) & 0xFFFFFFFF
        step, pressed = self._tick % _CYCLE_TICKS, self._tick // _CYCLE_TICKS
        key, inband = _KEYS[pressed % len(_KEYS)], pressed % 2 == 0
        for leg in range(len(self._sockets)):
            keying = leg % 2 == 0 and leg // 2 < self._captures
            frame = self._speech[(leg * 7 + self._tick) % _BANK_FRAMES]
            if keying and inband and step < _KEY_TICKS:
                frame = self._tones[key][step]
            if keying and not inband and step < _KEY_TICKS + _END_PACKETS:
                self._send_event(leg, key, step)
            self._send_packet(leg, 0, self._timestamp, frame.tobytes())

    def _send_event(self, leg: int, key: int, step: int) -> None:
        """RFC 4733 §2.5.1: one timestamp, a growing duration, the end three times."""
        duration = min(step + 1, _KEY_TICKS) * FRAME_SAMPLES
        end = step >= _KEY_TICKS
        start = (self._timestamp - step * FRAME_SAMPLES) & 0xFFFFFFFF
        payload = bytes([key, end << 7 | 10]) + duration.to_bytes(2, "big")
        self._send_packet(leg, EVENT_TYPE | (step == 0) << 7, start, payload)

    def _send_packet(self, leg: int, second: int, timestamp: int, payload: bytes) -> None:
        self._sequence[leg] = sequence = (self._sequence[leg] + 1) & 0xFFFF
        header = bytes([0x80, second]) + sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        try:
            self._sockets[leg].sendto(
                header + self._ssrc[leg].to_bytes(4, "big") + payload, socket.MSG_DONTWAIT, self._peers[leg]
            )
        except OSError:
            return  # nobody holds the worker's sockets for a moment, or a full buffer: a lost packet

    def _receive(self) -> None:
        count = self._receiver.receive()
        if not count:
            return
        batch = self._receiver.batch
        header = batch.slots[:count, HEADER_OFFSET:_PAYLOAD]
        self._heard.append(
            {
                "time": np.full(count, time.monotonic()),
                "leg": batch.sockets[:count].astype(np.int64),
                "type": header[:, 1] & 0x7F,
                "sequence": header[:, 2:4].copy().view(">u2")[:, 0].astype(np.int64),
                "ssrc": header[:, 8:12].copy().view(">u4")[:, 0].astype(np.int64),
                "audio": batch.slots[:count, _PAYLOAD : _PAYLOAD + FRAME_SAMPLES].copy(),
            }
        )

    def _report(self) -> dict[str, Any]:
        return {name: np.concatenate([some[name] for some in self._heard]) for name in self._heard[0]}


def run_telephones(sockets: list[socket.socket], captures: int, control: Connection) -> None:
    """The process."""
    raise_priority()
    Telephones(sockets, captures).run(control)
