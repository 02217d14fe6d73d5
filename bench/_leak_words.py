"""Customers who say the digits while they key them, and the recogniser that listens at the operator's side.

The words are spoken by eSpeak NG in many voices, pitches and paces, English and Japanese; the attacker knows when each
begins, how late the mask's path is, and has thousands that are labelled. Bands on the mel scale of a second of audio
go to the classifiers that learn keys, too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from bench._dtmf_audio import through
from bench._dtmf_speech import at_8_khz, levelled
from bench._leak_attacks import Classified, classify
from bench._leak_material import Key, Material
from media.arrays import Float64, Int16
from media.dsp import tones
from media.protocol import FRAME_SAMPLES

DIGITS: Final = 10
_WORDS: Final = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "ja": ("ぜろ", "いち", "に", "さん", "よん", "ご", "ろく", "なな", "はち", "きゅう"),
}
VOICES: Final = (
    "en-us",
    "en-us+f2",
    "en-us+f4",
    "en-us+m3",
    "en-us+m7",
    "en-gb",
    "en-gb-x-rp",
    "ja",
    "ja+f2",
)
_PITCHES: Final = (20, 50, 85)
_PACES: Final = (140, 190)
_OF_A_CUSTOMER: Final = 20
#: Before the first word: what is on by then is silent again.
_LEAD: Final = 40_000
_SLOT: Final = 8_000
_LONGEST: Final = 4_800
_LARGEST: Final = 32_124
_BEFORE: Final = 800
_SPAN: Final = 8_800
_STEP: Final = 160
_MELS: Final = 18


class Spoken(NamedTuple):
    """What customers say and key."""

    material: Material
    digits: np.ndarray
    """Of each word, in order of customers and time."""
    legs: np.ndarray
    starts: np.ndarray
    """First sample of each word."""


def vocabulary(voices: Sequence[str] = VOICES) -> list[list[Float64]]:
    """For each digit its word in some voices, 8 kHz, its active part at 0 dBm0.

    Raises:
        RuntimeError: eSpeak NG is not installed.
    """
    words: list[list[Float64]] = [[] for _ in range(DIGITS)]
    for voice in voices:
        for pitch in _PITCHES:
            for pace in _PACES:
                for digit, word in enumerate(_WORDS[voice[:2]]):
                    words[digit].append(_spoken(voice, pitch, pace, word))
    return words


def _spoken(voice: str, pitch: int, pace: int, word: str) -> Float64:
    arguments = [
        "espeak-ng",
        "-v",
        voice,
        "-p",
        str(pitch),
        "-s",
        str(pace),
        "-b",
        "1",
        "--stdin",
        "--stdout",
    ]
    try:
        done = subprocess.run(arguments, input=word.encode(), capture_output=True, timeout=60, check=True)
    except OSError as error:
        raise RuntimeError("espeak-ng is not installed: apt-get install espeak-ng") from error
    samples = np.frombuffer(done.stdout[44 : len(done.stdout) // 2 * 2], "<i2").astype(np.float64)
    audio = at_8_khz(samples, 22_050)
    loud = np.flatnonzero(np.abs(audio) > 0.03 * np.abs(audio).max())
    return levelled(audio[loud[0] : loud[-1] + 1])[:_LONGEST]


def speakers(words: int, seed: int, spoken: list[list[Float64]], *, keying: bool) -> Spoken:
    """Customers of twenty words each, one a second; `keying`: and the digit's key within 0.2 s of its beginning."""
    rng = np.random.default_rng(seed)
    legs = -(-words // _OF_A_CUSTOMER)
    samples = _LEAD + _OF_A_CUSTOMER * _SLOT + _SPAN
    audio = rng.normal(0, 10, (legs, samples + -samples % FRAME_SAMPLES))
    keys: list[Key] = []
    digits, rows, starts = [], [], []
    for leg in range(legs):
        gain = 10 ** (rng.uniform(-26, -14) / 20)
        level, twist = rng.uniform(-20, -6), rng.uniform(-4, 3)
        voice = int(rng.integers(len(spoken[0])))
        for place in range(_OF_A_CUSTOMER):
            digit = int(rng.integers(DIGITS))
            word = gain * spoken[digit][voice]
            start = _LEAD + place * _SLOT + int(rng.integers(0, 1_600))
            audio[leg, start : start + len(word)] += word
            digits.append(digit)
            rows.append(leg)
            starts.append(start)
            if keying:
                begin, length = start + int(rng.integers(0, 1_600)), int(rng.uniform(60, 140))
                tone = tones.dtmf_tone(digit, length, level, twist)
                audio[leg, begin : begin + len(tone)] += tone
                keys.append(Key(leg, digit, begin, begin + len(tone)))
    pcm = np.rint(audio).clip(-_LARGEST, _LARGEST).astype(np.int16)
    lost = rng.random((legs, audio.shape[1] // FRAME_SAMPLES)) < 0.01
    return Spoken(Material(through(0, pcm), lost, keys), np.array(digits), np.array(rows), np.array(starts))


def _mel_bank() -> Float64:
    hertz = np.fft.rfftfreq(2 * _STEP, 1 / 8000)
    edges = 700 * (np.exp(np.linspace(np.log(1 + 150 / 700), np.log(1 + 3_600 / 700), _MELS + 2)) - 1)
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    bank: Float64 = np.clip(np.minimum(rising, falling), 0, None)
    return bank


def word_features(audio: Int16, spoken: Spoken, delay: int, *, order: bool = True) -> Float64:
    """Log mel bands of the second from 0.1 s before each word on.

    Args:
        audio: `(legs, samples)` of the operators.
        spoken: whose times the attacker knows.
        delay: of the mask's path, samples.
        order: false: each band's values by size, for segments whose order was changed.
    """
    padded = np.pad(audio.astype(np.float64), ((0, 0), (_BEFORE, _SPAN)))
    first = spoken.starts + delay
    pieces = np.stack(
        [padded[leg, start : start + _SPAN] for leg, start in zip(spoken.legs, first, strict=True)]
    )
    window = np.hanning(2 * _STEP)
    starts = range(0, _SPAN - 2 * _STEP + 1, _STEP)
    frames = np.stack([pieces[:, start : start + 2 * _STEP] for start in starts], axis=1) * window
    bands = np.log(np.square(np.abs(np.fft.rfft(frames, axis=2))) @ _mel_bank() + 1e3)
    even = bands[:, : bands.shape[1] // 3 * 3].reshape(len(pieces), -1, 3, _MELS).mean(axis=2)
    table = (even if order else np.sort(bands, axis=1)[:, ::3]).reshape(len(pieces), -1)
    spread = table.std(axis=0)
    return np.asarray((table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def recognise(audio: Int16, spoken: Spoken, delay: int, seed: int, *, order: bool = True) -> list[Classified]:
    """How often the classifiers name the digit that was said."""
    return classify(word_features(audio, spoken, delay, order=order), spoken.digits, seed)
