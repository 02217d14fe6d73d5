"""The attack on the operator's audio, in small: it finds what is planted, and nothing where a mask is on.

`python -m bench leak --mode M` does it with 12,000 keys.
"""

from __future__ import annotations

import numpy as np
import pytest

from bench import _leak_attacks as attacks
from bench import _leak_speech as understanding
from bench import _leak_times as moments
from bench import _leak_words as words
from bench._dtmf_paths import straight
from bench._leak_material import CLASSES, Material, customers, operator_hears
from bench.leak import MODES
from media.arrays import Int16
from media.dsp import clamp
from media.protocol import FRAME_SAMPLES, MaskMode

KEYS = 800


@pytest.fixture(scope="module")
def material() -> Material:
    return customers(KEYS, 3)


def named(material: Material, audio: Int16, delay: int = 0) -> list[attacks.Classified]:
    table = attacks.features(audio, material.keys, delay)
    return attacks.classify(table, np.array([key.code for key in material.keys]), 1)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode is not MaskMode.DECOY])
def test_nothing_crosses_a_mask(material: Material, mode: MaskMode) -> None:
    audio = operator_hears(material, mode, 5)
    delay = clamp.DELAY * FRAME_SAMPLES if mode is MaskMode.CLAMP else 0
    assert attacks.decode(straight, audio, material.keys, 1).p >= 0.001
    assert attacks.remnants(audio, material.audio, material.keys, delay, attacks.anywhere) == 0
    for guess in named(material, audio, delay):
        assert guess.low <= 1 / CLASSES <= guess.high


def test_a_clamp_passes_the_talk(material: Material) -> None:
    """Or there would be nothing to prove."""
    audio = operator_hears(material, MaskMode.CLAMP, 5)
    delay = clamp.DELAY * FRAME_SAMPLES
    talk = slice(1_600, 8_000)
    there = audio[:, talk.start + delay : talk.stop + delay].astype(int) - material.audio[:, talk]
    passed = np.abs(there) <= np.abs(material.audio[:, talk].astype(int)) // 16 + 8
    assert passed.mean() > 0.7


def test_without_a_mask_every_key_is_named(material: Material) -> None:
    audio = operator_hears(material, MaskMode.OPEN, 5)
    decoded = attacks.decode(straight, audio, material.keys, 1)
    assert decoded.hits > 0.98 * KEYS and decoded.p < 0.001
    assert max(guess.accuracy for guess in named(material, audio)) > 0.97
    assert attacks.remnants(audio, material.audio, material.keys, 0, attacks.anywhere) > 0.95 * KEYS


def test_a_leak_far_below_the_noise_is_found(material: Material) -> None:
    """Keys 45 dB down in comfort noise: no ear and no decoder, but whoever knows when to listen."""
    audio = operator_hears(material, MaskMode.COMFORT_NOISE, 5, leak=10 ** (-45 / 20))
    assert max(guess.low for guess in named(material, audio)) > 1 / CLASSES + 0.05


def test_twenty_milliseconds_of_each_onset_are_found(material: Material) -> None:
    audio = operator_hears(material, MaskMode.COMFORT_NOISE, 5)
    for key in material.keys:
        audio[key.leg, key.start : key.start + 160] = material.audio[key.leg, key.start : key.start + 160]
    assert attacks.remnants(audio, material.audio, material.keys, 0, attacks.anywhere) > 0.95 * KEYS
    assert max(guess.low for guess in named(material, audio)) > 0.3


def test_a_decoy_is_read_by_no_decoder(material: Material) -> None:
    heard = operator_hears(material, MaskMode.DECOY, 5)
    assert attacks.decode(straight, heard, material.keys, 1).p >= 0.001
    # It is no seal: who knows the times of keys does better than chance, as docs/masks.md says.
    assert max(guess.accuracy for guess in named(material, heard)) > 1 / CLASSES


@pytest.fixture(scope="module")
def spoken() -> list[list[np.ndarray]]:
    return words.vocabulary(("en-us", "ja"))


def test_words_are_recognised_where_they_pass_and_not_behind_a_mask(spoken: list[list[np.ndarray]]) -> None:
    said = words.speakers(600, 3, spoken, keying=False)
    open_audio = operator_hears(said.material, MaskMode.OPEN, 4)
    assert max(one.accuracy for one in words.recognise(open_audio, said, 0, 1)) > 0.95
    keyed = words.speakers(600, 5, spoken, keying=True)
    for mode in (MaskMode.COMFORT_NOISE, MaskMode.SCRAMBLE):
        for guess in words.recognise(operator_hears(keyed.material, mode, 6), keyed, 0, 1):
            assert guess.low <= 1 / words.DIGITS <= guess.high


def test_a_classical_scrambler_is_undone_and_ours_is_not(spoken: list[list[np.ndarray]]) -> None:
    said = words.speakers(40, 3, spoken, keying=False)
    original = said.material.audio
    turned = understanding.classical(said)
    assert understanding.intelligibility(original, turned) < 0.5
    assert understanding.intelligibility(original, understanding.inverted(turned, 3_000)) > 0.7
    ours = operator_hears(said.material, MaskMode.SCRAMBLE, 6)
    for pivot in understanding.PIVOTS_HZ:
        assert understanding.intelligibility(original, understanding.inverted(ours, pivot)) < 0.45


def test_times_of_beeps_and_of_the_desk_do_not_tell_digits() -> None:
    rng = np.random.default_rng(3)
    digits, at = moments.rhythms(1_000, rng)
    assert moments.attack(digits, at.tolist(), 1).low > 0.1
    for times in (moments.beep_times(at, rng), moments.notice_times(digits, at, rng)):
        assert all(len(one) > 2 for one in times)
        guess = moments.attack(digits, times, 1)
        assert guess.low <= 0.1 <= guess.high
