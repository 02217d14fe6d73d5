"""What networks and senders do to RTP, as schedules from a seed.

`packets_of` is the sender: it cuts a track into packets and may do what senders do (another ptime, a clock that
is wrong, silence suppression, a new SSRC, jumps). `Network.carry` is the way: it says which packets arrive
when. Neither sleeps nor sends.

Jitter of N ms means that a receiver's report would say N ms (RFC 3550 §6.4.1, the mean difference of two packets'
transit times): delays are drawn from a gamma distribution of shape 2, whose mean is 4/3 of N and of which one in a
thousand is above 6 times N. Each packet has a delay of its own, so packets overtake each other, unless `in_order`
says that they wait in a queue.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from bench._sounds import Track
from media.arrays import Bool, Float64, Index
from media.protocol import SAMPLE_RATE_HZ

EVENT_TYPE: Final = 101
AUDIO_TYPE: Final = 0
COMFORT_NOISE_TYPE: Final = 13
_MARKER: Final = 0x80
_VOLUME: Final = 10
_NOISE_LEVEL: Final = bytes((60,))
_CN_EVERY: Final = SAMPLE_RATE_HZ // 2
#: Steps of a sender's timestamp, taken in turn.
_TIMESTAMP_STEPS: Final = (1_000_000, -500_000, 4_000, -2_400)
_SEQUENCE_STEPS: Final = (1_000, -300, 20_000)
#: Nothing changes so close to a key: what is cut in two there is two keys to any receiver.
_CLEAR_OF_KEYS: Final = 150 * 8

PACKET: Final = np.dtype(
    [
        ("time", "f8"),  # seconds of the sender's start at which the packet is complete and goes out
        ("word", "u1"),  # marker and payload type
        ("sequence", "u2"),
        ("timestamp", "u4"),
        ("ssrc", "u4"),
        ("start", "i8"),  # of the payload in `Sent.data`
        ("size", "i4"),
        ("sample", "i8"),  # first sample of the track that it carries, or -1
    ]
)


@dataclasses.dataclass(frozen=True, slots=True)
class Sender:
    """How a leg sends."""

    ptimes_ms: tuple[int, ...] = (20,)
    """More than one: taken in turn, each for five seconds."""
    ppm: float = 0.0
    """How much too fast the clock is."""
    suppresses_silence: bool = False
    new_ssrc: bool = False
    jumps_sequence: bool = False
    jumps_timestamp: bool = False
    change_every_s: float = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """A leg's packets, in the order in which they are sent."""

    packets: np.ndarray[tuple[int], np.dtype[np.void]]
    data: bytes
    carried: Bool
    """Samples of the track that are in one of the packets."""
    rate_hz: float
    """Samples a second by a right clock."""


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """What happens on the way. Shares are of 1."""

    loss: float = 0.0
    burst: float = 1.0
    """Mean length of a burst of lost packets (Gilbert's model)."""
    jitter_ms: float = 0.0
    in_order: bool = False
    reorder: float = 0.0
    """Share of packets that come one to three packets too late."""
    duplicates: float = 0.0
    step_ms: float = 0.0
    """Every ten seconds the way becomes so much longer, or shorter again."""

    def carry(self, times: Float64, rng: np.random.Generator) -> tuple[Index, Float64]:
        """Which packets arrive, and when.

        Args:
            times: seconds at which each packet is sent.
            rng: what happens is drawn from.

        Returns:
            Packets in the order of arrival, some of them never, some twice; and their times.
        """
        count = len(times)
        delay = np.zeros(count)
        if self.jitter_ms:
            delay += rng.gamma(2.0, self.jitter_ms / 1.5, count) / 1000
        if self.reorder:
            delay += (rng.random(count) < self.reorder) * rng.uniform(0.025, 0.065, count)
        if self.step_ms:
            delay += (times // 10 % 2 == 1) * self.step_ms / 1000
        arrival = times + delay
        if self.in_order:
            arrival = np.maximum.accumulate(arrival)
        kept = np.flatnonzero(~self._lost(count, rng))
        arrived, at = kept, arrival[kept]
        if self.duplicates:
            twice = kept[rng.random(len(kept)) < self.duplicates]
            arrived = np.concatenate((arrived, twice))
            at = np.concatenate((at, arrival[twice] + rng.uniform(0, 0.03, len(twice))))
        order = np.argsort(at, kind="stable")
        return arrived[order], at[order]

    def _lost(self, count: int, rng: np.random.Generator) -> Bool:
        drawn = rng.random(count)
        if self.burst <= 1 or not self.loss:
            return np.asarray(drawn < self.loss)
        begins = self.loss / (self.burst * (1 - self.loss))
        lost = np.zeros(count, np.bool_)
        bad = False
        for at, chance in enumerate(drawn.tolist()):
            bad = chance >= 1 / self.burst if bad else chance < begins
            lost[at] = bad
        return lost


class _Sending:
    """The state of a sender while it cuts a track into packets."""

    def __init__(self, sender: Sender, rng: np.random.Generator) -> None:
        self.sender, self.rng = sender, rng
        self.ssrc = int(rng.integers(1 << 32))
        self.sequence = int(rng.integers(1 << 16))
        self.base = int(rng.integers(1 << 32))
        self.changes = 0
        self.rows: list[tuple[float, int, int, int, int, int, int, int]] = []
        self.payloads: list[bytes] = []
        self.length = 0

    def change(self) -> None:
        """Does what this sender does from time to time."""
        if self.sender.new_ssrc:
            self.ssrc = int(self.rng.integers(1 << 32))
            self.sequence = int(self.rng.integers(1 << 16))
            self.base = int(self.rng.integers(1 << 32))
        if self.sender.jumps_sequence:
            self.sequence += _SEQUENCE_STEPS[self.changes % len(_SEQUENCE_STEPS)]
        if self.sender.jumps_timestamp:
            self.base += _TIMESTAMP_STEPS[self.changes % len(_TIMESTAMP_STEPS)]
        self.changes += 1

    def send(self, time_s: float, word: int, position: int, payload: bytes, sample: int) -> None:
        """One packet; `position` is the sample that its timestamp names."""
        self.sequence = (self.sequence + 1) & 0xFFFF
        timestamp = (self.base + position) & 0xFFFFFFFF
        row = (time_s, word, self.sequence, timestamp, self.ssrc, self.length, len(payload), sample)
        self.rows.append(row)
        self.payloads.append(payload)
        self.length += len(payload)


def _changes(track: Track, sender: Sender, rng: np.random.Generator) -> list[int]:
    """Samples at which the sender changes something, clear of keys."""
    if not (sender.new_ssrc or sender.jumps_sequence or sender.jumps_timestamp):
        return []
    every = round(sender.change_every_s * SAMPLE_RATE_HZ)
    near = np.zeros(len(track.codes), np.bool_)
    for key in track.keys:
        near[max(0, key.start - _CLEAR_OF_KEYS // 2) : key.end + _CLEAR_OF_KEYS // 2] = True
    clear = np.flatnonzero(~near)
    wanted = np.arange(every + int(rng.integers(every // 2)), len(track.codes), every)
    found = np.searchsorted(clear, wanted)
    return [int(clear[at]) for at in found.tolist() if at < len(clear)]


def packets_of(
    track: Track,
    sender: Sender,
    rng: np.random.Generator,
    *,
    events: bool = False,
    audio_beside: bool = False,
) -> Sent:
    """Cuts a track into packets.

    Args:
        track: what is said.
        sender: how.
        rng: SSRCs and the like.
        events: keys go as telephone-event, its last packet three times (RFC 4733 §2.5.1.4).
        audio_beside: audio goes on meanwhile; with tones in the track, a gateway that keys both ways at once.
    """
    state = _Sending(sender, rng)
    rate_hz = SAMPLE_RATE_HZ * (1 + sender.ppm * 1e-6)
    codes = track.codes.tobytes()
    keys = list(track.keys[::-1]) if events else []
    changes = _changes(track, sender, rng)[::-1]
    carried = np.zeros(len(track.codes), np.bool_)
    at, began, told = 0, -1, -_CN_EVERY
    quiet = False
    while True:
        size = sender.ptimes_ms[at // (5 * SAMPLE_RATE_HZ) % len(sender.ptimes_ms)] * SAMPLE_RATE_HZ // 1000
        if at + size > len(codes):
            break
        time_s = (at + size) / rate_hz
        if changes and at >= changes[-1]:
            changes.pop()
            state.change()
        keyed = bool(keys) and at + size > keys[-1].start
        if keyed:
            key = keys[-1]
            first = began < 0
            began = max(key.start, at) if first else began
            length = key.end - key.start
            ended = at + size - began >= length
            word = EVENT_TYPE | (_MARKER if first else 0)
            duration = min(at + size - began, length).to_bytes(2, "big")
            payload = bytes((key.code, (0x80 if ended else 0) | _VOLUME)) + duration
            for _ in range(3 if ended else 1):
                state.send(time_s, word, began, payload, -1)
            if ended:
                keys.pop()
                began = -1
        if not keyed or audio_beside:
            silent = sender.suppresses_silence and not track.active[at : at + size].any()
            if not silent:
                word = AUDIO_TYPE | (_MARKER if quiet or not at else 0)
                state.send(time_s, word, at, codes[at : at + size], at)
                carried[at : at + size] = True
            elif not quiet or at - told >= _CN_EVERY:
                state.send(time_s, COMFORT_NOISE_TYPE, at, _NOISE_LEVEL, -1)
                told = at
            quiet = silent
        at += size
    return Sent(np.array(state.rows, PACKET), b"".join(state.payloads), carried, rate_hz)
