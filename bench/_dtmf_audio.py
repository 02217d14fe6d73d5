"""Keys for `bench dtmf`: legs of random keys under one condition, made by code from a seed, and who checks them."""

from __future__ import annotations

import dataclasses
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from media.arrays import Bool, Float64, Int16
from media.dsp import g711, tones
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ
from sipivr.prompts.audio import ACTIVE_LEVEL_DBFS

KEYS_OF_A_LEG: Final = 16
#: Active level of our prompts: `sipivr.prompts` brings them to -23 dB below a full-scale sine, which is +3.14 dBm0.
PROMPT_DBM0: Final = ACTIVE_LEVEL_DBFS + 3.14
_LEAD_IN: Final = 400
_TAIL: Final = 1600
_LARGEST: Final = 32_124
#: How exact the tones are, by the reference: level in dB, frequency as a share.
_LEVEL_DB: Final = 0.1
_FREQUENCY: Final = 0.0005


@dataclasses.dataclass(frozen=True, slots=True)
class Keying:
    """How keys are pressed, and what is laid over them."""

    tone_ms: float = 50.0
    pause_ms: float = 50.0
    level_dbm0: float = -10.0
    """Of the stronger tone."""
    twist_db: float = 0.0
    """Column tone over row tone."""
    offset: float = 0.0
    """Relative error of both frequencies, each with a random sign."""
    snr_db: float | None = None
    """Both tones over white noise up to 4 kHz, under the tones and between them."""
    gap_ms: float = 0.0
    """Interruption in the middle of each tone."""
    same_key: bool = False
    """Each leg presses one key again and again: the pauses alone tell its presses apart."""
    loss: float = 0.0
    """Frames of 20 ms that do not arrive, one by one."""
    echo_db: float | None = None
    """A prompt of our own comes back so much below what we sent."""
    echo_ms: float = 60.0


class Keyed(NamedTuple):
    """What legs press."""

    audio: Int16
    """`(legs, samples)`, through the law and back."""
    keys: list[list[int]]
    lost: Bool | None
    """`(legs, frames)`."""


def keyed(keying: Keying, legs: int, law: int, seed: int, ours: Float64 | None = None) -> Keyed:
    """Legs of random keys.

    Args:
        keying: how.
        legs: how many.
        law: 0 for µ-law, 1 for A-law.
        seed: of everything that is drawn.
        ours: `(samples,)` what we play to the legs, for their echo, at the level of 0 dBm0.
    """
    rng = np.random.default_rng(seed)
    tone, pause = round(keying.tone_ms * 8), round(keying.pause_ms * 8)
    samples = _LEAD_IN + KEYS_OF_A_LEG * (tone + pause) + _TAIL
    audio = np.zeros((legs, samples + -samples % FRAME_SAMPLES))
    keys: list[list[int]] = []
    for leg in audio:
        at = int(rng.integers(FRAME_SAMPLES, _LEAD_IN))
        codes = rng.integers(0, 16, KEYS_OF_A_LEG)
        keys.append([int(codes[0])] * KEYS_OF_A_LEG if keying.same_key else codes.tolist())
        for key in keys[-1]:
            leg[at : at + tone] = _tone(keying, key, rng)
            at += tone + pause
        if keying.snr_db is not None:
            power = _power_of(keying) * 10 ** (-keying.snr_db / 10)
            leg[:] += rng.normal(0, np.sqrt(power), len(leg))
    if keying.echo_db is not None and ours is not None:
        gain = 10 ** ((PROMPT_DBM0 + keying.echo_db) / 20)
        delay = round(keying.echo_ms * 8)
        for leg in audio:
            start = int(rng.integers(0, len(ours) - len(leg)))
            leg[delay:] += gain * ours[start : start + len(leg) - delay]
    pcm = np.rint(audio).clip(-_LARGEST, _LARGEST).astype(np.int16)
    lost = None
    if keying.loss:
        lost = rng.random((legs, audio.shape[1] // FRAME_SAMPLES)) < keying.loss
    return Keyed(through(law, pcm), keys, lost)


def through(law: int, pcm: Int16) -> Int16:
    """Samples as the other side of G.711 gets them."""
    return g711.DECODE[law][g711.ENCODE[law][pcm.view(np.uint16)]]


def _tone(keying: Keying, key: int, rng: np.random.Generator) -> NDArray[np.int16]:
    signs = rng.choice([-1, 1], 2) * keying.offset
    tone = tones.dtmf_tone(
        key,
        keying.tone_ms,
        keying.level_dbm0,
        keying.twist_db,
        row_offset=signs[0],
        column_offset=signs[1],
        phase=rng.uniform(0, 2 * np.pi),
    )
    if keying.gap_ms:
        middle, half = len(tone) // 2, round(keying.gap_ms * 4)
        tone[middle - half : middle + half] = 0
    return tone


def _power_of(keying: Keying) -> float:
    """Mean square of both tones."""
    stronger = AMPLITUDE_0_DBM0**2 / 2 * 10 ** (keying.level_dbm0 / 10)
    return float(stronger * (1 + 10 ** (-abs(keying.twist_db) / 10)))


def deviations(keying: Keying) -> list[str]:
    """What an independent reference finds wrong with the tones, as sentences.

    The reference is scipy's: a chirp z-transform around each nominal frequency over half a second of tone under a
    flat-top window, which knows neither our filters nor our generator.
    """
    wrong: list[str] = []
    for key in range(16):
        long = dataclasses.replace(keying, tone_ms=500.0, gap_ms=0.0)
        tone = _tone(long, key, np.random.default_rng(key)).astype(np.float64)
        levels = (
            keying.level_dbm0 - max(keying.twist_db, 0.0),
            keying.level_dbm0 + min(keying.twist_db, 0.0),
        )
        for nominal, level in zip(tones.frequencies_of(key), levels, strict=True):
            hz, dbm0 = _peak(tone, nominal)
            if abs(abs(hz / nominal - 1) - keying.offset) > _FREQUENCY:
                wrong.append(f"key {key}: {hz:.1f} Hz instead of {nominal:.0f} ± {keying.offset:.1%}")
            clipped = keying.level_dbm0 > -1  # the sum of two tones at full level is above the overload
            if abs(dbm0 - level) > (1.0 if clipped else _LEVEL_DB):
                wrong.append(f"key {key}: {dbm0:.2f} dBm0 at {hz:.0f} Hz instead of {level:.2f}")
    return wrong


def _peak(tone: Float64, nominal_hz: float) -> tuple[float, float]:
    """Frequency and level of the strongest line within 5 % of a frequency."""
    low, high = nominal_hz * 0.95, nominal_hz * 1.05
    window = signal.get_window("flattop", len(tone))
    spectrum = np.abs(signal.zoom_fft(tone * window, [low, high], 2000, fs=SAMPLE_RATE_HZ))
    top = int(spectrum.argmax())
    # A flat top says the level well and the place badly: the place is the middle of the lobe.
    lobe = np.flatnonzero(spectrum > spectrum[top] / 2)
    hz = low + (high - low) * (lobe[0] + lobe[-1]) / 2 / 2000
    return float(hz), float(20 * np.log10(2 * spectrum[top] / window.sum() / AMPLITUDE_0_DBM0))


class Score(NamedTuple):
    """How found keys compare with pressed ones."""

    pressed: int
    hits: int
    false: int
    """Keys that nobody pressed, doubles among them."""

    @property
    def rate(self) -> float:
        """Share of the keys that were found."""
        return self.hits / max(self.pressed, 1)


def score(pressed: list[list[int]], found: list[list[int]]) -> Score:
    """Compares in order: a key found is a hit at most once."""
    hits = sum(_common(here, there) for here, there in zip(pressed, found, strict=True))
    return Score(sum(map(len, pressed)), hits, sum(map(len, found)) - hits)


def _common(first: list[int], second: list[int]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for one in first:
        before = 0
        for at, other in enumerate(second):
            before, row[at + 1] = row[at + 1], before + 1 if one == other else max(row[at], row[at + 1])
    return row[-1]
