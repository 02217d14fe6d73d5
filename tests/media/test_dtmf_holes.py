"""Short tones through lost frames: found once, with the right key, or rightly left alone."""

from __future__ import annotations

import numpy as np
import pytest

from bench import _dtmf_numbers
from bench._dtmf_paths import carried
from media.arrays import Bool, Int16
from media.dsp import dtmf_holes, tones

FRAMES = 40
AT = 10


def lines(
    tone_ms: float, holes: tuple[int, ...], *, key: int = 5, noise: float = 20
) -> tuple[Int16, Bool, list[int]]:
    """One leg for each start of a tone within a frame and each lost frame; and how many samples are left."""
    rng = np.random.default_rng(3)
    audio, lost, left = [], [], []
    for start in range(0, 160, 5):
        for hole in holes:
            leg, gone = np.zeros(FRAMES * 160), np.zeros(FRAMES, np.bool_)
            at = AT * 160 + start
            tone = tones.dtmf_tone(key, tone_ms, -12, rng.uniform(-8, 4), phase=rng.uniform(0, 6))
            leg[at : at + len(tone)] = tone
            gone[AT + hole] = True
            there = ~np.repeat(gone, 160)
            left.append(int(there[at : at + len(tone)].sum()))
            audio.append(leg + rng.normal(0, noise, len(leg)))
            lost.append(gone)
    return np.array(audio).astype(np.int16), np.array(lost), left


@pytest.mark.parametrize("key", range(16))
def test_a_short_key_survives_a_lost_frame_wherever_it_is(key: int) -> None:
    """50 ms less 20 leave 30 in one piece or two: more than the 23 ms that are no key (ITU-T Q.24)."""
    audio, lost, left = lines(50, (0, 1, 2, 3), key=key)
    found = carried(audio, lost).keys
    assert all(keys == [key] for keys, samples in zip(found, left, strict=True) if samples > 25 * 8)


def test_what_was_no_key_is_none_with_a_hole_beside_it() -> None:
    """(Of 20 ms that a hole of 20 follows nobody can tell whether they were 40; of 15 one can.)"""
    audio, lost, _ = lines(15, (0, 1, 2))
    assert not any(carried(audio, lost).keys)


def test_a_lost_frame_in_the_pause_joins_no_two_presses() -> None:
    step = (65 + 50) * 8
    audio, lost = np.zeros((32, FRAMES * 160)), np.zeros((32, FRAMES), np.bool_)
    for leg in range(32):
        at = AT * 160 + leg * 5
        for press in range(2):
            audio[leg, at + press * step :][: 65 * 8] = tones.dtmf_tone(8, 65, -10)
        # The frame that begins in the pause at least 10 ms behind the first tone.
        lost[leg, (at + 65 * 8 + 80 + 159) // 160] = True
    assert carried(audio.astype(np.int16), lost).keys == [[8, 8]] * 32


def test_a_voice_in_two_pieces_is_no_key() -> None:
    """Vowels whose formants lie near a key's tones, on a moving pitch, with every fourth frame lost."""
    time = np.arange(FRAMES * 160) / 8000
    audio = np.zeros((200, len(time)))
    for leg in range(200):
        pitch = 85 + leg + 15 * np.sin(2 * np.pi * 1.3 * time + leg)
        phase = 2 * np.pi * np.cumsum(pitch) / 8000
        first, second = 650 + leg % 7 * 50, 1150 + leg % 11 * 50
        for harmonic in range(1, 30):
            hz = harmonic * pitch
            weight = 1 / (1 + np.abs(hz - first) / 60) + 0.6 / (1 + np.abs(hz - second) / 80)
            audio[leg] += 2500 * weight * np.sin(harmonic * phase) * (hz < 3600)
        audio[leg] *= np.sin(2 * np.pi * (2 + leg % 5) * time) > -0.4
    lost = np.zeros((200, FRAMES), np.bool_)
    lost[:, 3::4] = True
    assert not any(carried(audio.clip(-32000, 32000).astype(np.int16), lost).keys)


def test_silence_and_nothing_are_no_key() -> None:
    found = dtmf_holes.bridge(
        np.zeros((3, dtmf_holes.BEFORE), np.int16), np.zeros((3, 160), np.int16), -34, (9.5, 5.5)
    )
    assert not found.at.size


@pytest.mark.parametrize("rhythm", _dtmf_numbers.RHYTHMS, ids=str)
def test_card_numbers_through_a_bad_line(rhythm: _dtmf_numbers.Rhythm) -> None:
    """Random level, twist and noise, both laws, 1 % of the frames lost; `bench dtmf` does it with 10,000."""
    result = _dtmf_numbers.run(rhythm, 1_000, seed=11)
    assert result["whole"] >= result["required"]
    assert result["wrong_luhn"] == 0
