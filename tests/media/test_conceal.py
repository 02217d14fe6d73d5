"""Concealment: what is made up resembles what was said, and fades."""

from __future__ import annotations

import numpy as np
import pytest

from media.arrays import Int16
from media.dsp import conceal


def voiced(pitch_hz: float, samples: int = 4000, seed: int = 0) -> Int16:
    """A vowel: harmonics under two formants, its pitch and level moving as a voice's do."""
    time = np.arange(samples) / 8000
    pitch = pitch_hz * (1 + 0.04 * np.sin(2 * np.pi * 3 * time + seed))
    phase = 2 * np.pi * np.cumsum(pitch) / 8000
    sound = np.zeros(samples)
    for harmonic in range(1, int(3400 / pitch_hz)):
        hz = harmonic * pitch_hz
        weight = np.exp(-(((hz - 600) / 400) ** 2)) + 0.4 * np.exp(-(((hz - 1800) / 500) ** 2))
        sound += weight * np.sin(harmonic * phase + harmonic)
    return np.rint(sound * (1 + 0.4 * np.sin(2 * np.pi * 4 * time + seed)) * 4000).astype(np.int16)


def signal_to_noise_db(true: Int16, made: Int16) -> float:
    error = true.astype(float) - made
    return float(10 * np.log10(np.mean(true.astype(float) ** 2) / np.mean(error**2)))


@pytest.mark.parametrize("pitch_hz", [60, 85, 120, 180, 240])
def test_period_is_the_pitch_or_a_multiple(pitch_hz: int) -> None:
    time = np.arange(conceal.HISTORY)
    pulses = np.where(time % round(8000 / pitch_hz) < 3, 9000, 50).astype(np.int16)
    period = int(conceal.periods(pulses[None])[0])
    assert min(period % round(8000 / pitch_hz), -period % round(8000 / pitch_hz)) <= 1


def test_no_period_in_nothing() -> None:
    assert conceal.periods(np.zeros((3, conceal.HISTORY), np.int16)).tolist() == [conceal.LONGEST_PERIOD] * 3


def test_better_than_the_last_frame_at_half_its_level() -> None:
    gains = []
    for pitch_hz in (85, 120, 180, 240):
        for seed in range(12):
            sound = voiced(pitch_hz, seed=seed)
            at = 800 + 211 * seed
            history, true = sound[at - conceal.HISTORY : at][None], sound[at : at + 160]
            period = conceal.periods(history)
            made = conceal.extend(history, period, np.zeros(1, np.int32))
            conceal.join(made, sound[at + 160 : at + 320][None], period)
            half = history[0, 160:] >> 1
            gains.append(signal_to_noise_db(true, made[0]) - signal_to_noise_db(true, half))
    assert np.median(gains) > 3


def test_fades_to_silence_in_three_frames() -> None:
    history = voiced(120, conceal.HISTORY)[None]
    period = conceal.periods(history)
    levels = []
    for run in range(5):
        frame = conceal.extend(history, period, np.array([run], np.int32))
        history = np.concatenate((history[:, 160:], frame), axis=1)
        levels.append(float(np.abs(frame).mean()))
    assert levels[0] > levels[1] > levels[2] > 0
    assert levels[3] == levels[4] == 0


def test_the_end_meets_what_follows() -> None:
    steady = np.rint(8000 * np.sin(2 * np.pi * np.arange(800) / 80)).astype(np.int16)
    shifted = steady[37 : 37 + 160]
    frames = steady[:160].copy()[None]
    conceal.join(frames, shifted[None], np.array([80], np.int32))
    step = abs(int(frames[0, -1]) - int(shifted[0]))
    assert step <= np.abs(np.diff(steady.astype(int))).max() + 1
    assert np.array_equal(frames[0, :120], steady[:120])


def test_any_audio_does_no_harm() -> None:
    rng = np.random.default_rng(0)
    history = rng.integers(-32768, 32768, (200, conceal.HISTORY)).astype(np.int16)
    history[::3] = -32768
    period = conceal.periods(history)
    assert ((period >= conceal.SHORTEST_PERIOD) & (period <= conceal.LONGEST_PERIOD)).all()
    made = conceal.extend(history, period, rng.integers(0, 9, 200).astype(np.int32))
    conceal.join(made, history[:, :160], period)
