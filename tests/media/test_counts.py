"""Loss, duplicates and jitter as RFC 3550 appendix A counts them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media.streams import Bench, packet


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_counts_are_those_of_a_set_of_numbers(data: st.DataObject) -> None:
    """Whatever is lost, doubled or overtaken, in one tick or over several."""
    origin = data.draw(st.integers(0, 65535))
    sent = data.draw(st.lists(st.integers(0, 24), min_size=1, max_size=50))
    bench = Bench()
    at = 0
    while at < len(sent):
        some = sent[at : at + data.draw(st.integers(1, 4))]
        bench.step(*[packet((origin + n) & 0xFFFF, n * 160) for n in some])
        at += len(some)
    counts = bench.streams.counts
    distinct = len(set(sent))
    assert counts.duplicates[0] == len(sent) - distinct
    assert bench.streams.lost(0) == max(sent) - min(sent) + 1 - distinct
    assert bench.streams.received[0] == len(sent)
    reception = bench.streams.reception(0)
    assert reception is not None
    assert reception.expected == max(sent) - min(sent) + 1
    assert reception.received == len(sent), "RFC 3550 §6.4.1 counts duplicates as received"


def test_highest_sequence_is_extended() -> None:
    bench = Bench()
    for n in range(65_530, 65_545):
        bench.step(packet(n & 0xFFFF, n * 160))
    reception = bench.streams.reception(0)
    assert reception is not None
    assert reception.highest_sequence == 65_544
    assert bench.streams.lost(0) == 0


@pytest.mark.parametrize("jump", [5_000, -5_000, 32_768])
def test_sequence_jump_is_no_loss_and_no_gap(jump: int) -> None:
    bench = Bench()
    for n in range(10):
        bench.step(packet(n, n * 160))
    for n in range(10, 20):
        bench.step(packet((n + jump) & 0xFFFF, n * 160))
    assert bench.streams.lost(0) == 0
    assert bench.streams.resyncs[0] == 1
    assert all(bench.valid[2:])


def test_sequence_and_timestamp_jump_together_count_once() -> None:
    bench = Bench()
    for n in range(10):
        bench.step(packet(n, n * 160))
    for n in range(10, 20):
        bench.step(packet(n + 20_000, n * 160 + 1_000_000))
    assert bench.streams.lost(0) == 0
    assert bench.streams.resyncs[0] == 1
    assert bench.valid[-1]


def test_one_wild_number_is_not_believed() -> None:
    bench = Bench()
    for n in range(20):
        bench.step(packet(40_000 if n == 7 else n, n * 160))
    assert bench.streams.resyncs[0] == 0
    assert bench.streams.lost(0) == 1


def test_loss_before_a_new_stream_is_kept() -> None:
    bench = Bench()
    for n in (0, 1, 4):
        bench.step(packet(n, n * 160))
    for n in (100, 101, 103):
        bench.step(packet(n, n * 160 + 77_777, ssrc=5))
    assert bench.streams.lost(0) == 3


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 50, 60])
def test_steady_stream_has_no_jitter(ptime_ms: int) -> None:
    bench, sent = Bench(), 0
    for tick in range(100):
        packets = []
        while sent * ptime_ms <= tick * 20:
            packets.append(packet(sent, sent * ptime_ms * 8, ptime_ms * 8))
            sent += 1
        bench.step(*packets)
    assert bench.streams.jitter[0] == 0


def test_jitter_is_that_of_the_appendix() -> None:
    rng = np.random.default_rng(4)
    arrival = np.sort(np.arange(300) + rng.integers(0, 4, 300))
    bench = Bench()
    expected, before = 0.0, None
    for tick in range(int(arrival[-1]) + 1):
        numbers = np.flatnonzero(arrival == tick)
        bench.step(*[packet(int(n), int(n) * 160) for n in numbers])
        for n in numbers:
            transit = (tick - int(n)) * 160
            if before is not None:
                expected += (abs(transit - before) - expected) / 16
            before = transit
    assert bench.streams.jitter[0] == pytest.approx(expected, rel=1e-4)
