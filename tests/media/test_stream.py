"""The receive timeline: what is played when packets come late, twice, in other sizes, or anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.dsp import g711
from media.rtp.packet import header
from media.rtp.stream import STRANGE_PACKETS
from tests.media.streams import DEPTH_MS, Bench, packet, ramp


def expect(bench: Bench, samples: int, lead_frames: int = DEPTH_MS // 20) -> None:
    audio = bench.audio()[lead_frames * 160 :][:samples]
    assert np.array_equal(audio, g711.DECODE[0][ramp(samples)])


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_any_ptime(ptime_ms: int) -> None:
    bench, size = Bench(), ptime_ms * 8
    sent = 0
    for tick in range(40):
        packets = []
        while sent * ptime_ms <= tick * 20:
            packets.append(packet(sent, sent * size, size))
            sent += 1
        bench.step(*packets)
    expect(bench, 35 * 160)
    assert bench.streams.lost(0) == 0
    assert all(bench.valid[2:])


@given(st.permutations(range(4)), st.integers(0, 2**32 - 1), st.integers(0, 65535))
@settings(deadline=None, max_examples=50)
def test_order_duplicates_and_wrapping_do_not_matter(order: list[int], origin: int, sequence: int) -> None:
    bench = Bench()
    made = [packet((sequence + n) & 0xFFFF, (origin + n * 160), origin=origin) for n in range(4)]
    bench.step(made[0])
    bench.step(*[made[n] for n in order], *[made[n] for n in reversed(order)])
    for _ in range(5):
        bench.step()
    expect(bench, 4 * 160)


@given(st.sets(st.integers(1, 20)), st.integers(1, 7))
@settings(deadline=None, max_examples=40)
def test_holes_stay_where_they_are(lost: set[int], shift: int) -> None:
    """Packets off the ring's grid: what arrives is played in its place, what does not is not valid."""
    bench = Bench()
    bench.step(packet(0, 0, 160))
    start = 160 + shift * 8
    for n in range(1, 25):
        packets = [] if n in lost else [packet(n, start + (n - 1) * 160)]
        bench.step(*packets)
    for _ in range(3):
        bench.step()
    audio = bench.audio()[320:]
    for n in range(1, 25):
        if n not in lost:
            at = start + (n - 1) * 160
            got = audio[at : at + 160]
            assert np.array_equal(got, g711.DECODE[0][ramp(160, at)][: len(got)])
    assert bench.streams.lost(0) == len([n for n in lost if n < 25])


def test_loss_fades_to_silence() -> None:
    bench = Bench()
    bench.step(packet(0, 0))
    bench.step()
    loud = np.abs(bench.step()).max()
    levels = [np.abs(bench.step()).max() for _ in range(6)]
    assert loud > levels[0] > levels[1] > 0
    assert levels[-1] == 0


def test_silence_suppression_keeps_its_length() -> None:
    bench = Bench()
    bench.step(packet(0, 0))
    for _ in range(9):
        bench.step()
    bench.step(packet(1, 1600))
    for _ in range(3):
        bench.step()
    assert np.array_equal(bench.played[12], g711.DECODE[0][ramp(160, 1600)])


def test_new_ssrc_is_taken_at_its_second_packet() -> None:
    bench = Bench()
    for n in range(5):
        bench.step(packet(n, n * 160))
    bench.step(packet(900, 777_777, ssrc=2))
    assert bench.streams.ssrc[0] == 1
    bench.step(packet(901, 777_937, ssrc=2))
    assert bench.streams.ssrc[0] == 2
    assert bench.streams.resyncs[0] == 1
    for n in range(2, 6):
        bench.step(packet(900 + n, 777_777 + n * 160, ssrc=2))
    assert bench.valid[-1]


def test_a_single_stray_ssrc_changes_nothing() -> None:
    bench = Bench()
    for n in range(10):
        extra = [packet(7, 5, ssrc=99 + n)] if n % 2 else []
        bench.step(packet(n, n * 160), *extra)
    expect(bench, 8 * 160)


@pytest.mark.parametrize("jump", [1_000_000, -1_000_000, 3000, -3000, 2**31])
def test_timestamp_jump_resynchronises_within_three_packets(jump: int) -> None:
    bench = Bench()
    for n in range(5):
        bench.step(packet(n, n * 160))
    for n in range(5, 12):
        bench.step(packet(n, n * 160 + jump))
    assert bench.streams.resyncs[0] == 1
    assert bench.valid[-1]
    assert STRANGE_PACKETS == 3


def test_burst_after_a_stall_is_played_whole_and_deepens_the_buffer() -> None:
    bench = Bench()
    for n in range(5):
        bench.step(packet(n, n * 160))
    for _ in range(6):
        bench.step()
    bench.step(*[packet(n, n * 160) for n in range(5, 12)])
    for n in range(12, 18):
        bench.step(packet(n, n * 160))
    assert bench.streams.resyncs[0] == 0
    assert bench.streams.late[0] == 0
    real = np.concatenate([frame for frame, valid in zip(bench.played, bench.valid, strict=True) if valid])
    assert np.array_equal(real, g711.DECODE[0][ramp(len(real))])
    assert len(real) == 12 * 160, "six ticks of nothing: two of them had been waited for"


def test_longer_stall_is_late_and_no_jump() -> None:
    bench = Bench()
    for n in range(5):
        bench.step(packet(n, n * 160))
    for _ in range(20):
        bench.step()
    bench.step(*[packet(n, n * 160) for n in range(5, 26)])
    for n in range(26, 32):
        bench.step(packet(n, n * 160))
    assert bench.streams.resyncs[0] == 0
    assert bench.streams.late[0] > 0
    assert bench.streams.lost(0) == 0
    assert bench.valid[-1]


def test_other_payload_types_are_refused_and_comfort_noise_is_not() -> None:
    bench = Bench()
    bench.step(header(18, 0, 0, 1) + bytes(20), header(13, 1, 0, 1) + b"\x40", b"\x80")
    assert bench.streams.refused[0] == 2
    assert bench.streams.received[0] == 1


def test_flood_is_bounded() -> None:
    bench = Bench()
    flood = [packet(n, n * 777_777, ssrc=n * 7919) for n in range(2000)]
    bench.step(*flood)
    assert bench.streams.refused[0] >= 1000


@given(
    st.lists(
        st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 500), st.integers(0, 2)),
        max_size=30,
    )
)
@settings(deadline=None, max_examples=80)
def test_any_headers_do_no_harm(headers: list[tuple[int, int, int, int]]) -> None:
    bench = Bench()
    for sequence, timestamp, size, ssrc in headers:
        bench.step(header(0, sequence, timestamp, ssrc) + bytes(size))


def test_clear_overwrites_audio() -> None:
    bench = Bench()
    bench.step(packet(0, 0), packet(1, 160))
    assert bench.streams.ring.codes.any()
    bench.streams.clear(0)
    assert not bench.streams.ring.codes.any()
    assert not bench.streams.ring.present.any()


def test_growing_keeps_what_waits() -> None:
    bench = Bench()
    bench.step(packet(0, 0), packet(1, 160))
    bench.streams.grow(7)
    for _ in range(5):
        bench.step()
    expect(bench, 320)


def test_new_stream_begins_where_the_old_one_ends() -> None:
    """Of a change of SSRC only the packet is lost that was needed to believe it."""
    bench = Bench()
    for n in range(5):
        bench.step(packet(n, n * 160))
    for n in range(5):
        bench.step(packet(900 + n, 777_760 + n * 160, ssrc=2))
    assert bench.valid[2:] == [True] * 5 + [False] + [True] * 2
    assert np.array_equal(np.concatenate(bench.played[2:7]), g711.DECODE[0][ramp(800)])
    assert np.array_equal(np.concatenate(bench.played[8:]), g711.DECODE[0][ramp(320, 777_920)])


def test_packets_of_a_jump_do_not_deepen_the_buffer() -> None:
    bench = Bench()
    for jump in range(6):
        for n in range(10):
            bench.step(packet(jump * 10 + n, n * 160 - jump * 100_000 & 0xFFFFFFFF))
    assert bench.streams.resyncs[0] == 5
    assert bench.streams.depth.wait[0] <= 320
