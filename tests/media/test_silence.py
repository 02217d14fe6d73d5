"""Silence that a peer does not send (RFC 3389, RFC 3551 §4.1) is silence, neither loss nor speech."""

from __future__ import annotations

import numpy as np
import pytest

from media.arrays import Index, UInt8
from media.dsp import tones
from media.dsp.g711 import AMPLITUDE_0_DBM0, DECODE, ENCODE
from media.rtp.packet import Columns, header, parse
from tests.media.network import Network, carry
from tests.media.streams import Bench, packet, ramp
from tests.media.test_packet import batch_of


def comfort_noise(sequence: int, timestamp: int, level: int = 60, ssrc: int = 1) -> bytes:
    return header(13, sequence, timestamp, ssrc) + bytes([level])


def one_packet(made: bytes) -> tuple[Index, Index, Columns, UInt8]:
    slots, lengths = batch_of([made])
    return np.zeros(1, np.intp), np.zeros(1, np.intp), parse(slots, lengths), slots


def level_dbm0(bench: Bench, first: int, last: int) -> float:
    audio = np.concatenate(bench.played[first:last]).astype(float)
    return float(20 * np.log10(np.sqrt(np.mean(audio**2)) / (AMPLITUDE_0_DBM0 / np.sqrt(2))))


def talk_then(bench: Bench, *after: bytes, ticks: int = 20) -> None:
    """Ten packets of speech, something else, and quiet."""
    for n in range(10):
        bench.step(packet(n, n * 160))
    bench.step(*after)
    for _ in range(ticks):
        bench.step()


@pytest.mark.parametrize("level", [40, 60, 75])
def test_comfort_noise_has_the_level_that_was_said(level: int) -> None:
    bench = Bench()
    bench.streams.comfort_noise[:] = True
    talk_then(bench, comfort_noise(10, 1600, level))
    # 0 dBov is 6.18 dB above 0 dBm0: a full square wave against a full sine, and that at +3.17 dBm0.
    assert level_dbm0(bench, 14, 30) == pytest.approx(6.18 - level, abs=1)
    assert all(bench.valid[2:]), "silence is known, not missing"
    assert bench.streams.playout.concealed[0] == 0
    assert bench.streams.refused[0] == 0


def test_comfort_noise_is_never_loud() -> None:
    bench = Bench()
    bench.streams.comfort_noise[:] = True
    talk_then(bench, comfort_noise(10, 1600, 0))
    assert level_dbm0(bench, 14, 30) < -20


def test_comfort_noise_that_was_not_negotiated_is_plain_silence() -> None:
    bench = Bench()
    talk_then(bench, comfort_noise(10, 1600, 40), comfort_noise(11, 1600)[:12])
    assert not np.concatenate(bench.played[13:]).any()
    assert all(bench.valid[2:])
    assert bench.streams.playout.concealed[0] == 0
    assert bench.streams.refused[0] == 0


def test_speech_ends_comfort_noise() -> None:
    bench = Bench()
    bench.streams.comfort_noise[:] = True
    talk_then(bench, comfort_noise(10, 1600), ticks=19)
    for n in range(10):
        bench.step(packet(11 + n, 4800 + n * 160))
    played = np.concatenate(bench.played[32:40])
    assert np.array_equal(played, DECODE[0][ramp(len(played), 4800)])
    assert all(bench.valid[2:])
    assert bench.streams.lost(0) == 0
    for _ in range(6):
        bench.step()
    assert bench.streams.playout.concealed[0] > 0, "what is missing now is missing"


def test_gap_without_loss_is_not_counted_as_concealed() -> None:
    bench = Bench()
    talk_then(bench, ticks=9)
    assert bench.streams.playout.concealed[0] > 0
    for n in range(5):
        bench.step(packet(10 + n, 3200 + n * 160))
    assert bench.streams.playout.concealed[0] == 0
    assert bench.streams.lost(0) == 0
    assert bench.streams.resyncs[0] == 0
    assert all(bench.valid[20:]), "the last 40 ms of the silence are known to be one"


def test_loss_is_counted_as_concealed() -> None:
    bench = Bench()
    for n in range(20):
        bench.step(*([] if n == 10 else [packet(n, n * 160)]))
    assert bench.streams.playout.concealed[0] == 1
    assert bench.valid.count(False) == 2 + 1


def test_same_key_twice_with_comfort_noise_between() -> None:
    """The pause is as real as if it had been sent: it ends the first press."""
    codes = ENCODE[0][tones.dtmf_tone(5, 100).view(np.uint16)].reshape(-1, 160)
    bench = Bench()
    bench.streams.comfort_noise[:] = True
    sequence = 0
    for press in range(3):
        start = press * 1600
        for n, frame in enumerate(codes):
            bench.step(header(0, sequence, start + n * 160, 1) + frame.tobytes())
            sequence += 1
        bench.step(comfort_noise(sequence, start + 800, 70))
        sequence += 1
        for _ in range(4):
            bench.step()
    for _ in range(4):
        bench.step()
    assert bench.keys == [5, 5, 5]


def test_a_tone_before_silence_is_not_made_longer() -> None:
    """Of 20 ms of a tone and a silence that is known, concealment makes no key."""
    codes = ENCODE[0][tones.dtmf_tone(5, 20).view(np.uint16)]
    bench = Bench()
    for n in range(3):
        bench.step(header(0, n, n * 160, 1) + b"\xff" * 160)
    bench.step(header(0, 3, 480, 1) + codes.tobytes())
    bench.step(comfort_noise(4, 640))
    for _ in range(10):
        bench.step()
    assert bench.keys == []


def test_silence_suppression_costs_no_key() -> None:
    rng = np.random.default_rng(3)
    audio = np.zeros((4, 8000 * 6), np.int16)
    for leg in range(4):
        for n in range(10):
            at = 800 + n * 4000 + int(rng.integers(0, 400))
            audio[leg, at : at + 800] = tones.dtmf_tone(n, 100)
    played = carry(audio, Network(jitter_ms=30, suppress=True))
    assert [[key for key, _ in leg] for leg in played.keys] == [list(range(10))] * 4
    assert [played.streams.lost(leg) for leg in range(4)] == [0] * 4
    assert played.streams.resyncs.sum() == 0


@pytest.mark.parametrize("together", [False, True])
def test_audio_lost_between_events_is_no_silence(together: bool) -> None:
    """The packets of a key come between those of audio: the gap in their numbers is the audio's."""
    bench = Bench()
    bench.streams.event_type[:] = 101
    for n in range(12):
        event = header(101, 2 * n + 1, 0, 1) + bytes((5, 10, 0, 160))
        audio = packet(2 * n, n * 160)
        if n == 6:
            bench.step(event)
        elif together:
            bench.step(audio, event)
        else:
            bench.step(audio)
            bench.streams.receive(bench.tick, *one_packet(event))
    for _ in range(2):
        bench.step()
    assert bench.valid[8] is False
    assert bench.streams.playout.concealed[0] == 1
    assert bench.streams.lost(0) == 1


def test_events_in_place_of_audio_are_no_loss() -> None:
    bench = Bench()
    bench.streams.event_type[:] = 101
    for n in range(14):
        event = header(101, n, 6 * 160, 1) + bytes((5, 10, 0, 160))
        bench.step(event if 6 <= n < 11 else packet(n, n * 160))
    for _ in range(2):
        bench.step()
    assert bench.streams.playout.concealed[0] == 0
    assert bench.streams.lost(0) == 0
