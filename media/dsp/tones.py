"""Tones as samples: for the telephone of our own, for tests and for benches."""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Float64, Int16
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.protocol import SAMPLE_RATE_HZ

ROW_FREQUENCIES_HZ: Final = (697.0, 770.0, 852.0, 941.0)
COLUMN_FREQUENCIES_HZ: Final = (1209.0, 1336.0, 1477.0, 1633.0)

#: Rows and columns of the keypad as telephone-event codes (ITU-T Q.23; RFC 4733 §3.2).
KEYPAD: Final = ((1, 2, 3, 12), (4, 5, 6, 13), (7, 8, 9, 14), (10, 0, 11, 15))


def frequencies_of(key: int) -> tuple[float, float]:
    """Row and column frequency of a key, Hz.

    Raises:
        ValueError: `key` is no telephone-event code of a key.
    """
    for row, keys in enumerate(KEYPAD):
        if key in keys:
            return ROW_FREQUENCIES_HZ[row], COLUMN_FREQUENCIES_HZ[keys.index(key)]
    raise ValueError("a key is a code from 0 to 15")


def sine(frequency_hz: float, samples: int, level_dbm0: float, phase: float = 0.0) -> Float64:
    """A sine at a level, not yet rounded."""
    time = np.arange(samples) / SAMPLE_RATE_HZ
    amplitude = AMPLITUDE_0_DBM0 * 10 ** (level_dbm0 / 20)
    return amplitude * np.sin(2 * np.pi * frequency_hz * time + phase)


def dtmf_tone(
    key: int,
    duration_ms: float,
    level_dbm0: float = -9.0,
    twist_db: float = 0.0,
    *,
    row_offset: float = 0.0,
    column_offset: float = 0.0,
    phase: float = 0.0,
) -> Int16:
    """One key as heard in band (ITU-T Q.23).

    Args:
        key: telephone-event code, 0 to 15.
        duration_ms: length of the tone; it starts and ends abruptly.
        level_dbm0: level of the stronger of the two tones.
        twist_db: column tone over row tone; positive makes the row tone the weaker one.
        row_offset: relative frequency error of the row tone, 0.018 for +1.8 %.
        column_offset: relative frequency error of the column tone.
        phase: starting phase of the column tone, radians.

    Returns:
        int16 samples at 8 kHz, clipped as G.711 would.
    """
    row_hz, column_hz = frequencies_of(key)
    samples = round(duration_ms * SAMPLE_RATE_HZ / 1000)
    row = sine(row_hz * (1 + row_offset), samples, level_dbm0 - max(twist_db, 0.0))
    column = sine(column_hz * (1 + column_offset), samples, level_dbm0 + min(twist_db, 0.0), phase)
    return np.clip(np.rint(row + column), -32124, 32124).astype(np.int16)


def silence(duration_ms: float) -> Int16:
    """Nothing, for a while."""
    return np.zeros(round(duration_ms * SAMPLE_RATE_HZ / 1000), np.int16)


def key_sequence(keys: list[int], tone_ms: float, pause_ms: float, level_dbm0: float = -9.0) -> Int16:
    """Keys one after another, each followed by a pause."""
    parts: list[Int16] = []
    for key in keys:
        parts += [dtmf_tone(key, tone_ms, level_dbm0), silence(pause_ms)]
    return np.concatenate(parts) if parts else silence(0)
