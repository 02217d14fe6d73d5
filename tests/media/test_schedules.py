"""Invariants of the receive timeline over any schedule of packets."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.dsp import g711
from media.rtp.packet import header, parse
from media.rtp.ring import FULL, MOST_ASKEW
from media.rtp.stream import MOST_OF_A_LEG, STRANGE_PACKETS, Streams
from tests.media.network import NO_ROWS
from tests.media.streams import Bench, packet, ramp
from tests.media.test_packet import batch_of


@dataclasses.dataclass
class Sent:
    """One packet of a schedule."""

    samples: int
    delay: int
    lost: bool
    twice: bool


PACKETS = st.lists(
    st.builds(
        Sent,
        st.sampled_from([80, 160, 160, 160, 240, 320, 480]),
        st.sampled_from([0, 0, 0, 0, 1, 2]),
        st.sampled_from([False, False, False, False, True]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=5,
    max_size=40,
)


@settings(deadline=None, max_examples=80)
@given(PACKETS, st.integers(0, 2**32 - 1), st.integers(0, 65535))
def test_what_is_played_is_what_was_sent(schedule: list[Sent], origin: int, sequence: int) -> None:
    """Any ptime and changes of it, loss, reordering and duplicates, at a depth that covers them."""
    bench = Bench(depth_ms=160)
    schedule[0].lost, schedule[0].delay = False, 0
    at = 0
    for number, sent in enumerate(schedule):
        tick = -(-(at + sent.samples) // 160) + sent.delay
        made = header(0, (sequence + number) & 0xFFFF, (origin + at) & 0xFFFFFFFF, 1)
        made += ramp(sent.samples, at).tobytes()
        if not sent.lost:
            bench.pending.setdefault(tick, []).extend([made] * (1 + sent.twice))
        at += sent.samples
    bench.run(at // 160 + 14)
    start = -(-schedule[0].samples // 160) + 8
    played = np.concatenate(bench.played[start:])
    whole = g711.DECODE[0][ramp(at)]
    begin, arrived = 0, np.zeros(at, np.bool_)
    for sent in schedule:
        arrived[begin : begin + sent.samples] = not sent.lost
        begin += sent.samples
    assert np.array_equal(played[:at][arrived], whole[arrived])
    real = np.repeat(np.array(bench.valid[start:]), 160)[:at]
    assert not (real & ~arrived).any(), "nothing made up passes for real"
    streams = bench.streams
    newest = max(n for n, sent in enumerate(schedule) if not sent.lost)
    missing = sum(sent.lost for sent in schedule[:newest])
    assert streams.lost(0) == missing
    assert streams.counts.duplicates[0] == sum(sent.twice for sent in schedule if not sent.lost)
    assert streams.late[0] == streams.resyncs[0] == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([20, 40, 100]),
)
def test_real_audio_is_played_once_and_in_order(delays: list[tuple[int, bool]], depth_ms: int) -> None:
    """Whatever the delays, and however the depth follows them."""
    bench = Bench(depth_ms=depth_ms)
    for n, (delay, lost) in enumerate(delays):
        if not lost:
            bench.pending.setdefault(n + delay, []).append(packet(n, n * 160))
    at: list[int] = []
    for _ in range(len(delays) + 30):
        bench.run(1)
        if bench.valid[-1]:
            at.append(int(bench.streams.play_timestamp[0]) - 160)
            frame = g711.DECODE[0][ramp(160, at[-1] % 2**32)]
            assert np.array_equal(bench.played[-1], frame)
    if bench.streams.resyncs[0] == 0:
        assert all(later > earlier for earlier, later in itertools.pairwise(at))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(-(2**31), 2**31).filter(lambda jump: not -1500 < jump < 3000),
    st.sampled_from([10, 20, 40, 60]),
    st.sampled_from([0, 5_000, 20_000, 40_000, -300, -30_000]),
    st.booleans(),
)
def test_audio_is_back_within_three_packets_of_a_jump(
    jump: int, ptime_ms: int, numbers: int, new_ssrc: bool
) -> None:
    bench, size = Bench(), ptime_ms * 8
    for n in range(30):
        jumped = n >= 12
        tick = -(-(n + 1) * ptime_ms // 20)
        made = packet(
            (n + numbers * jumped) & 0xFFFF,
            (n * size + jump * jumped) & 0xFFFFFFFF,
            size,
            ssrc=1 + (new_ssrc and jumped),
        )
        bench.pending.setdefault(tick, []).append(made)
    bench.run(30 * ptime_ms // 20 + 8)
    assert bench.streams.resyncs[0] == 1
    first = -(-(12 + STRANGE_PACKETS) * ptime_ms // 20)
    depth = 4
    assert all(bench.valid[first + depth : 30 * ptime_ms // 20])
    assert bench.streams.lost(0) == 0


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.sampled_from([0, 0, 0, 8, 13, 101]),
                st.one_of(st.integers(0, 65535), st.integers(0, 9)),
                st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 3000)),
                st.sampled_from([0, 1, 7, 80, 159, 160, 240, 480, 560]),
                st.integers(0, 2),
            ),
            max_size=30,
        ),
        max_size=12,
    )
)
def test_no_exception_whatever_the_headers_say(ticks: list[list[tuple[int, ...]]]) -> None:
    """And the positions and presence of every leg stay what they have to be."""
    streams = Streams(3, 40)
    streams.payload_type[:] = 0
    streams.event_type[:] = 101
    streams.listening[:] = streams.comfort_noise[:] = True
    pcm, previous = np.zeros((3, 160), np.int16), np.zeros((3, 160), np.int16)
    for tick, packets in enumerate(ticks):
        if packets:
            made = [header(t, n, at, ssrc) + bytes([n & 0xFF]) * size for _, t, n, at, size, ssrc in packets]
            slots, lengths = batch_of(made)
            rows = np.array([p[0] for p in packets], np.intp)
            streams.receive(tick, rows, np.arange(len(rows)), parse(slots, lengths), slots)
        pcm, previous = previous, pcm
        first, second = streams.play(tick, 3, NO_ROWS, pcm, previous)
        assert first.shape == second.shape == (3,)
        assert ((streams.ring.head >= 0) & (streams.ring.head < len(streams.ring.codes))).all()
        assert (streams.ring.present <= FULL).all()
        assert (streams.playout.concealed >= 0).all()
        assert all(streams.lost(row) >= 0 for row in range(3))
        assert (streams.depth.wait < 3600).all()


class Pair:
    """A leg that is well and one that is hostile, in the same ticks."""

    def __init__(self) -> None:
        self.streams = Streams(2, 40)
        self.streams.payload_type[:] = 0
        self.streams.listening[:] = True
        self._pcm, self._previous = np.zeros((2, 2, 160), np.int16)
        self.tick = 0

    def step(self, hostile: list[bytes]) -> None:
        packets = [*hostile, packet(self.tick, self.tick * 160)]
        slots, lengths = batch_of(packets)
        rows = np.array([1] * len(hostile) + [0], np.intp)
        self.streams.receive(self.tick, rows, np.arange(len(rows)), parse(slots, lengths), slots)
        self._pcm, self._previous = self._previous, self._pcm
        first, second = self.streams.play(self.tick, 2, NO_ROWS, self._pcm, self._previous)
        if self.tick >= 2:
            assert first[0] and second[0]
            assert np.array_equal(self._pcm[0], g711.DECODE[0][ramp(160, (self.tick - 2) * 160)])
        self.tick += 1


@pytest.mark.parametrize("kind", ["ssrc", "flapping", "askew", "jumping", "replayed", "backwards"])
def test_a_hostile_peer_costs_its_own_leg(kind: str) -> None:
    rng = np.random.default_rng(6)
    pair = Pair()
    for tick in range(60):
        number = tick * 400
        hostile = {
            "ssrc": lambda n=number: [packet(i, i, ssrc=n + i) for i in range(400)],
            "flapping": lambda n=tick: [packet(n, n * 160, ssrc=2 + (n + i) // 2 % 2) for i in range(4)],
            "askew": lambda n=number: [packet((n + i) & 0xFFFF, n + 3 * i, 157) for i in range(400)],
            "jumping": lambda n=tick: [packet(n * 7919 & 0xFFFF, int(rng.integers(0, 2**32)))],
            "replayed": lambda n=tick: [packet(max(n - i, 0), max(n - i, 0) * 160) for i in range(300)],
            "backwards": lambda n=tick: [packet(n, (2**31 - n * 160 * 9) & 0xFFFFFFFF)],
        }[kind]()
        pair.step(hostile)
    streams = pair.streams
    assert streams.lost(0) == streams.refused[0] == streams.resyncs[0] == streams.late[0] == 0
    if kind in ("ssrc", "askew", "replayed"):
        assert streams.refused[1] >= 60 * (300 - MOST_OF_A_LEG)
    assert streams.resyncs[1] <= 60


def test_moving_bytes_askew_is_bounded_over_all_legs() -> None:
    legs = MOST_ASKEW + 44
    streams = Streams(legs, 40)
    streams.payload_type[:] = 0
    streams.listening[:] = True
    rows = np.arange(legs)
    for tick in range(2):
        slots, lengths = batch_of([packet(tick, tick * 157, 157)] * legs)
        streams.receive(tick, rows, rows, parse(slots, lengths), slots)
    assert (streams.refused > 0).sum() >= 44
    assert streams.refused.max() <= 2
