"""The jitter buffer's depth: it follows the network, and no key pays for it."""

from __future__ import annotations

import numpy as np
import pytest

from media.arrays import Int16
from media.dsp import g711, tones
from media.keys import TOLERANCE_SAMPLES
from media.rtp.depth import Depth, Look, tonal
from tests.media.network import Network, Played, carry
from tests.media.streams import Bench, packet, ramp

KEYS = 20


def keyed(legs: int, tone_ms: int = 100, pause_ms: int = 100) -> tuple[Int16, list[list[int]], np.ndarray]:
    """Random keys, each leg's own, and where they start."""
    rng = np.random.default_rng(7)
    step = (tone_ms + pause_ms) * 8
    keys = rng.integers(0, 16, (legs, KEYS))
    keys[0] = 5
    starts = rng.integers(800, 1600, legs)[:, None] + np.arange(KEYS) * step
    audio = np.zeros((legs, 7200 + KEYS * step // 480 * 480), np.int16)
    for leg in range(legs):
        for key, start in zip(keys[leg], starts[leg], strict=True):
            tone = tones.dtmf_tone(int(key), tone_ms, -10, phase=rng.uniform(0, 6))
            audio[leg, start : start + len(tone)] = tone
    return audio, keys.tolist(), starts


def speech(legs: int, seconds: int) -> Int16:
    """Noise with pauses of 400 ms."""
    rng = np.random.default_rng(8)
    loud = np.arange(seconds * 8000) // 160 % 100 < 80
    return np.rint(rng.normal(0, 3000, (legs, seconds * 8000)) * loud).astype(np.int16)


def assert_real_audio_is_what_was_sent(played: Played, audio: Int16) -> None:
    source = g711.DECODE[0][g711.ENCODE[0][audio.view(np.uint16)]]
    for leg in range(len(audio)):
        at = played.timestamps[:, leg]
        real = played.valid[:, leg] & (at >= 0) & (at < source.shape[1] - 160)
        assert real.any()
        assert np.array_equal(played.pcm[real, leg], source[leg][at[real][:, None] + np.arange(160)])


@pytest.mark.parametrize(
    "network",
    [
        Network(),
        Network(jitter_ms=60),
        Network(jitter_ms=60, in_order=True),
        Network(jitter_ms=150),
        Network(loss=0.05),
        Network(loss=0.05, jitter_ms=60),
        Network(loss=0.05, jitter_ms=60, duplicates=0.05, seed=3),
        Network(loss=0.05, jitter_ms=60, ptime_ms=10),
        Network(loss=0.02, jitter_ms=60, ptime_ms=30),
        Network(jitter_ms=60, ptime_ms=60),
    ],
    ids=repr,
)
def test_no_key_is_lost_split_or_doubled(network: Network) -> None:
    audio, keys, starts = keyed(12)
    played = carry(audio, network, depth_ms=20)
    assert [[key for key, _ in leg] for leg in played.keys] == keys
    for leg, wanted in zip(played.keys, starts, strict=True):
        for (_, start), at in zip(leg, wanted, strict=True):
            # A key's first frames may be lost; otherwise its start is known well enough.
            assert abs(start - at) <= (TOLERANCE_SAMPLES if network.loss == 0 else 800)
    assert_real_audio_is_what_was_sent(played, audio)
    assert [played.streams.lost(leg) for leg in range(12)] == played.lost.tolist()
    assert played.streams.resyncs.sum() == 0


def test_start_of_a_key_is_known_even_where_its_beginning_was_lost() -> None:
    """What is lost before a key is said along with it, so that the event of the same press is found."""
    audio, _, starts = keyed(20)
    played = carry(audio, Network(loss=0.15, jitter_ms=40, seed=5))
    for leg in range(20):
        for (_, start), hole in zip(played.keys[leg], played.holes[leg], strict=True):
            nearest = starts[leg][np.abs(starts[leg] - start).argmin()]
            assert start - hole - TOLERANCE_SAMPLES <= nearest <= start + TOLERANCE_SAMPLES


def test_clock_drift_is_absorbed() -> None:
    """Two minutes of clocks 200 ppm off: where nobody hears it, or at a soft place when there is no silence."""
    seconds = 130
    rng = np.random.default_rng(9)
    swell = 0.4 + 0.6 * np.abs(np.sin(np.arange(seconds * 8000) / 8000 * 4))
    endless = np.rint(rng.normal(0, 3000, (2, seconds * 8000)) * swell).astype(np.int16)
    audio = np.concatenate((speech(4, seconds), endless))
    clock_ppm = (200.0, -200.0, 200.0, -200.0, 200.0, -200.0)
    played = carry(audio, Network(clock_ppm=clock_ppm, jitter_ms=(0, 0, 20, 20, 0, 0)))
    assert_real_audio_is_what_was_sent(played, audio)
    streams = played.streams
    assert streams.late.sum() == streams.resyncs.sum() == 0
    within = slice(20, 49 * seconds)
    steps = np.diff(played.timestamps[within], axis=0)
    assert set(np.unique(steps)) <= {0, 160, 320}
    changed = ~played.valid[within]
    for leg in range(6):
        assert streams.depth.clock_ppm(leg) == pytest.approx(clock_ppm[leg], abs=90)
        assert 19 <= streams.depth.wait[leg] / 8 <= 80
    assert ((steps == 320).sum(axis=0)[[0, 2, 4]] >= 1).all()
    assert (steps == 0).any(), "a slow clock's frames"
    assert not played.pcm[within][:, :4][changed[:, :4]].any(), "what is no one's audio is silent"
    loudness = np.abs(played.pcm[within].astype(int)).mean(axis=2)
    for leg in (4, 5):
        assert changed[:, leg].any()
        assert loudness[changed[:, leg], leg].max() < np.median(loudness[:, leg])


def test_depth_follows_the_network_down_slowly() -> None:
    audio = speech(1, 40)
    deep = carry(audio, Network(), depth_ms=200)
    steps = np.diff(deep.timestamps[5:, 0])
    drops = np.flatnonzero(steps == 320)
    assert len(drops) >= 5
    assert drops[0] > 400, "ten seconds of proof come first"
    assert np.diff(drops).min() >= 100
    assert deep.streams.depth.wait[0] < 0.6 * 1600


def test_a_longer_way_costs_no_audio() -> None:
    bench = Bench()
    for n in range(100):
        # From the twentieth on everything takes 80 ms longer.
        delay = 0 if n < 20 else 4
        bench.pending.setdefault(n + delay, []).append(packet(n, n * 160))
    bench.run(110)
    assert bench.streams.late[0] == 0
    real = np.concatenate([frame for frame, valid in zip(bench.played, bench.valid, strict=True) if valid])
    assert np.array_equal(real, g711.DECODE[0][ramp(len(real))])
    assert len(real) == 100 * 160


def test_depth_stays_within_its_bounds() -> None:
    played = carry(speech(2, 12), Network(jitter_ms=400))
    assert (played.streams.depth.wait <= 1600 + 300).all()
    for depth_ms, expected in ((0, 20), (1000, 200), (50, 40)):
        bench = Bench(depth_ms=depth_ms)
        bench.step(packet(0, 0))
        bench.step(packet(1, 160))
        assert bench.streams.depth.wait[0] == expected * 8


def look_at(frames: Int16) -> Look:
    """Legs in the middle of such frames, `(legs, 3, 160)`."""
    legs = len(frames)
    yes, no = np.ones(legs, np.bool_), np.zeros(legs, np.bool_)
    return Look(np.arange(legs), frames[:, 0], frames[:, 1], frames[:, 2], yes, no, no)


def wishing(legs: int, want: int) -> Depth:
    depth = Depth(legs)
    depth.start(np.arange(legs), np.full(legs, 320, np.float32))
    depth.want[:] = want
    return depth


@pytest.mark.parametrize("want", [1, -1])
def test_never_inside_a_tone(want: int) -> None:
    """However long a wish has waited, and though nothing softer was heard meanwhile."""
    audio = np.stack([tones.dtmf_tone(key, 14_000, level) for key in range(16) for level in (-34, -25, -9)])
    frames = audio.reshape(len(audio), -1, 160)
    depth = wishing(len(audio), want)
    for at in range(frames.shape[1] - 3):
        depth.listen(np.arange(len(audio)), frames[:, at])
        add, drop = depth.decide(look_at(frames[:, at : at + 3]))
        assert not add.any() and not drop.any()


def test_a_pause_between_keys_is_not_cut_short() -> None:
    """Pauses of 60 ms, one after another: a frame less in any of them would leave 40 ms, then 20, then one key."""
    one = np.concatenate((tones.dtmf_tone(5, 60), tones.silence(60)))
    frames = np.tile(one, 40).reshape(1, -1, 160)
    depth = wishing(1, -1)
    for at in range(frames.shape[1] - 3):
        depth.listen(np.array([0]), frames[:, at])
        assert not depth.decide(look_at(frames[:, at : at + 3]))[1].any()


def test_speech_is_not_taken_for_a_tone() -> None:
    rng = np.random.default_rng(1)
    assert tonal(rng.normal(0, 3000, (200, 160)).astype(np.int16)).mean() < 0.05
    assert tonal(tones.dtmf_tone(7, 20)[None]).all()


def test_many_wishes_are_looked_at_in_turn() -> None:
    depth = Depth(1000)
    depth.want[:] = 1
    seen = np.concatenate([depth.wishes(tick, 1000) for tick in range(4)])
    assert len(seen) <= 4 * 256
    assert len(np.unique(seen)) == 1000
