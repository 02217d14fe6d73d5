"""From an engine's samples to what a telephone carries: 8 kHz, band-limited, trimmed, at one loudness.

Level: the active speech level after ITU-T P.56 (method B's idea, on 20 ms frames: the mean power of the
frames that lie above a margin of 15.9 dB below that very level) is brought to -23 dBFS re a full-scale sine,
which is the -26 dBov that ITU-T P.830 takes as the nominal level of speech.
"""

from __future__ import annotations

from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from sipivr.prompts.engines import EngineError, Samples, Speech

RATE_HZ: Final = 8_000
FRAME: Final = 160

#: dB re a full-scale sine.
ACTIVE_LEVEL_DBFS: Final = -23.0
PEAK_CEILING: Final = 0.89  # -1 dB of full scale

#: Telephone band (ITU-T G.712: 300 to 3400 Hz), a little wider below for a fuller voice.
BAND_HZ: Final = (250.0, 3_400.0)

LEAD_IN_S: Final = 0.02
LEAD_OUT_S: Final = 0.12

#: Bump when anything in this file changes the sound, so that caches are made anew.
PROCESSING_VERSION: Final = "1"

_MARGIN_DB: Final = 15.9
_SILENCE_DB: Final = -45.0  # relative to the active level
_SINE_DB: Final = 10 * np.log10(2.0)  # a full-scale sine lies 3 dB below a full-scale square
_BAND: Final = signal.firwin(257, BAND_HZ, pass_zero=False, fs=RATE_HZ)


def telephone(speech: Speech) -> NDArray[np.int16]:
    """Make telephone audio of speech.

    Returns:
        Mono int16 at 8 kHz, from the first sound to shortly after the last.

    Raises:
        EngineError: There is nothing to hear in it.
    """
    divisor = gcd(RATE_HZ, speech.rate_hz)
    peak = float(np.max(np.abs(speech.samples), initial=0.0))
    if peak <= 0.0 or not np.isfinite(peak):
        raise EngineError("silence")
    samples = signal.resample_poly(
        np.asarray(speech.samples, np.float64) / peak, RATE_HZ // divisor, speech.rate_hz // divisor
    )
    samples = signal.fftconvolve(samples, _BAND, mode="same")
    samples = _trimmed(samples)
    gain = 10 ** ((ACTIVE_LEVEL_DBFS - active_level_dbfs(samples)) / 20)
    gain = min(gain, PEAK_CEILING / float(np.max(np.abs(samples))))
    return as_int16(_faded(samples * gain))


def active_level_dbfs(samples: Samples | NDArray[np.int16]) -> float:
    """Measure the active speech level, dB re a full-scale sine; float samples have full scale 1.0.

    Raises:
        EngineError: There is nothing to hear.
    """
    scaled = samples / 32_768.0 if samples.dtype == np.int16 else np.asarray(samples, np.float64)
    powers = _frame_powers(scaled)
    active = powers[powers > 0]
    if not len(active):
        raise EngineError("silence")
    for _ in range(50):
        threshold = np.mean(active) * 10 ** (-_MARGIN_DB / 10)
        kept = powers[powers >= threshold]
        if len(kept) == len(active):
            break
        active = kept
    return float(10 * np.log10(np.mean(active)) + _SINE_DB)


def as_int16(samples: Samples) -> NDArray[np.int16]:
    """Round to int16 without wrapping round."""
    return np.clip(np.rint(samples * 32_767.0), -32_768, 32_767).astype(np.int16)


def _frame_powers(samples: Samples) -> Samples:
    count = max(1, -(-len(samples) // FRAME))
    padded = np.zeros(count * FRAME)
    padded[: len(samples)] = samples
    return np.asarray(np.mean(padded.reshape(count, FRAME) ** 2, axis=1), np.float64)


def _trimmed(samples: Samples) -> Samples:
    floor = 10 ** ((active_level_dbfs(samples) - _SINE_DB + _SILENCE_DB) / 20)
    loud = np.flatnonzero(np.abs(samples) > floor)
    start = max(0, int(loud[0]) - int(LEAD_IN_S * RATE_HZ))
    end = int(loud[-1]) + int(LEAD_OUT_S * RATE_HZ)
    kept = samples[start:end]
    return np.concatenate([kept, np.zeros(max(0, end - len(samples)))])


def _faded(samples: Samples, fade_s: float = 0.005) -> Samples:
    """Fade in and out, so that a cut does not click."""
    length = min(int(fade_s * RATE_HZ), len(samples) // 2)
    ramp = np.linspace(0.0, 1.0, length, endpoint=False)
    faded = samples.copy()
    faded[:length] *= ramp
    faded[len(faded) - length :] *= ramp[::-1]
    return faded
