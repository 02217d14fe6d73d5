"""What the legs of a bench say: something with the make-up of speech, and keys. Made by code, from a seed.

The speech is a source and a filter (Fant 1960; Klatt 1980): pulses with a falling pitch or noise, through
three resonators whose frequencies are drawn anew for each syllable, in phrases with pauses. It means nothing
and was recorded from nobody. A floor of noise lies under everything, as on a line, so that no two stretches of
a few milliseconds are alike and what was heard can be found again in what was said.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from scipy import signal

from media.arrays import Bool, Float64, Int16, UInt8
from media.dsp import g711, tones
from media.protocol import SAMPLE_RATE_HZ

#: Formants of vowels, Hz: centres to draw around (Peterson and Barney 1952, rounded).
_VOWELS: Final = ((300, 2250, 3000), (530, 1850, 2500), (700, 1150, 2450), (500, 900, 2400), (320, 900, 2250))
_BANDWIDTHS_HZ: Final = (70, 110, 170)
#: Root mean square of a syllable, of 32,124: about -20 dBm0.
_LEVEL: Final = 800.0
_FLOOR: Final = 14.0
#: Speech and tones count as such for a little longer, as a voice activity detector has it.
_HANGOVER: Final = 60 * 8
_LEAD_IN_S: Final = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A key to be pressed: telephone-event code, and first and last-but-one sample."""

    code: int
    start: int
    end: int

    def __repr__(self) -> str:
        """Shows where, not which."""
        return f"Key({self.start}..{self.end})"


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """What one leg says."""

    codes: UInt8
    """µ-law, one for each sample; negative zero, which no decoder gives back, does not occur."""
    active: Bool
    """Where there is speech or a tone."""
    keys: tuple[Key, ...] = ()


def _track(pcm: Float64, active: Bool, keys: tuple[Key, ...], rng: np.random.Generator) -> Track:
    noisy = np.rint(pcm + rng.standard_normal(len(pcm)) * _FLOOR).clip(-32124, 32124).astype(np.int16)
    codes = g711.ENCODE[0][noisy.view(np.uint16)]
    codes[codes == 0x7F] = 0xFF
    return Track(codes, active, keys)


def pcm_of(codes: UInt8) -> Int16:
    """µ-law to samples."""
    return g711.DECODE[0][codes]


def speech(seconds: float, rng: np.random.Generator) -> Track:
    """Phrases of three to nine syllables with pauses of a quarter of a second to one second."""
    total = round(seconds * SAMPLE_RATE_HZ)
    pcm, active = np.zeros(total), np.zeros(total, np.bool_)
    at = 0
    while at < total:
        begin = at
        pitch_hz = rng.uniform(95, 210)
        for _ in range(int(rng.integers(3, 10))):
            length = int(rng.uniform(0.12, 0.30) * SAMPLE_RATE_HZ)
            sound = _syllable(length, pitch_hz, rng)[: max(0, total - at)]
            pcm[at : at + len(sound)] = sound
            at += length
            pitch_hz *= rng.uniform(0.93, 1.02)
        active[begin : at + _HANGOVER] = True
        at += int(rng.uniform(0.25, 1.0) * SAMPLE_RATE_HZ)
    return _track(pcm, active, (), rng)


def _syllable(length: int, pitch_hz: float, rng: np.random.Generator) -> Float64:
    glide = np.linspace(1.0, rng.uniform(0.85, 1.1), length)
    phase = np.cumsum(pitch_hz * glide / SAMPLE_RATE_HZ)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    # A glottal pulse falls by 12 dB an octave, the mouth gives 6 back.
    voice = signal.lfilter([1.0], [1.0, -0.95], pulses) + 0.02 * rng.standard_normal(length)
    for centre, bandwidth in zip(_VOWELS[int(rng.integers(len(_VOWELS)))], _BANDWIDTHS_HZ, strict=True):
        angle = 2 * np.pi * centre * rng.uniform(0.92, 1.08) / SAMPLE_RATE_HZ
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE_HZ)
        voice = signal.lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], voice)
    sound = voice / np.sqrt(np.mean(np.square(voice)))
    edge = int(rng.uniform(0.2, 0.4) * length)
    if rng.random() < 0.5:  # a consonant: noise without the low half of the band
        hiss = np.diff(rng.standard_normal(edge + 1))
        sound[:edge] = 0.4 * hiss
    shape = np.minimum(1.0, 4 * np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2)
    return np.asarray(sound * shape * _LEVEL * rng.uniform(0.6, 1.3), np.float64)


def key_track(seconds: float, tone_ms: float, pause_ms: float, rng: np.random.Generator) -> Track:
    """Keys of random codes, one in five like the one before it, off the grid of packets.

    Levels are -6 to -18 dBm0 a tone, twist within 2 dB; pauses are up to 20 ms longer than `pause_ms`.
    The first comes after three seconds, when a call's first prompt is still being said.
    """
    total = round(seconds * SAMPLE_RATE_HZ)
    pcm, active = np.zeros(total), np.zeros(total, np.bool_)
    keys: list[Key] = []
    at = round(_LEAD_IN_S * SAMPLE_RATE_HZ)
    length = round(tone_ms * SAMPLE_RATE_HZ / 1000)
    while at + length + SAMPLE_RATE_HZ < total:
        code = keys[-1].code if keys and rng.random() < 0.2 else int(rng.integers(16))
        pcm[at : at + length] = tones.dtmf_tone(
            code, tone_ms, rng.uniform(-18, -6), rng.uniform(-2, 2), phase=rng.uniform(0, 6.28)
        )
        keys.append(Key(code, at, at + length))
        active[at : at + length + _HANGOVER] = True
        at += length + round((pause_ms + rng.uniform(0, 20)) * SAMPLE_RATE_HZ / 1000)
    return _track(pcm, active, tuple(keys), rng)


def without_tones(track: Track, rng: np.random.Generator) -> Track:
    """The same keys with nothing of them in band: what a telephone sends that keys by telephone-event."""
    return _track(np.zeros(len(track.codes)), track.active, track.keys, rng)
