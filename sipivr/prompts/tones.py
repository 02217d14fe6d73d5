"""Sounds without words, made here: the waiting tone, beeps, and the sound that stands in for a lost prompt.

Their frequencies keep clear of the eight DTMF frequencies (ITU-T Q.23: 697 to 1633 Hz) by more than a
receiver's tolerance, so that no detector on the line takes an echo of them for a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipivr.prompts.audio import RATE_HZ, as_int16
from sipivr.prompts.engines import Samples

#: Quieter than speech: it is heard for a long time.
_WAIT_DBFS: Final = -29.0
_BEEP_DBFS: Final = -23.0

VERSION: Final = "1"


def _note(frequency_hz: float, seconds: float, level_dbfs: float, decay_s: float | None = None) -> Samples:
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    edge_s = 0.01
    envelope = np.minimum(1.0, np.minimum(time_s, seconds - time_s) / edge_s)
    if decay_s:
        envelope = envelope * np.exp(-time_s / decay_s)
    return np.asarray(10 ** (level_dbfs / 20) * envelope * np.sin(2 * np.pi * frequency_hz * time_s))


def _silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE_HZ))


def _wait() -> Samples:
    """Two soft bell notes in four seconds, made to be repeated."""
    notes = [_note(523.25, 0.6, _WAIT_DBFS, 0.25), _note(587.33, 0.9, _WAIT_DBFS, 0.35)]
    sounding = np.concatenate(notes)
    return np.concatenate([sounding, _silence(4.0 - len(sounding) / RATE_HZ)])


def _beep() -> Samples:
    return _note(500.0, 0.15, _BEEP_DBFS)


def _attention() -> Samples:
    """Three short beeps: a prompt could not be spoken, and silence would be worse."""
    return np.concatenate([_beep(), _silence(0.1), _beep(), _silence(0.1), _beep()])


_MAKERS: Final = {"wait": _wait, "beep": _beep, "attention": _attention}

TONES: Final[Mapping[str, Samples]] = {name: make() for name, make in _MAKERS.items()}


def tone(name: str) -> NDArray[np.int16]:
    """Return a tone as telephone audio.

    Raises:
        KeyError: No such tone.
    """
    return as_int16(TONES[name])
