"""Whether anything in a frame could belong to a key: for masks, which must be wrong on one side only.

`media.dsp.dtmf` names keys and so must be certain; this must not miss one. Two windows of 20 ms for each frame,
10 ms apart, are projected on the eight frequencies of ITU-T Q.23 with a main lobe that is wide enough for any offset.
A window is suspicious when its strongest row tone and its strongest column tone hold much of its energy and neither is far
below the other. A tone of 20 ms that stands alone makes at least one window suspicious, wherever it lies.

State is the last samples of each row.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Bool, Float32, Index, Int16
from media.dsp.mask import rms_of
from media.dsp.tones import COLUMN_FREQUENCIES_HZ, ROW_FREQUENCIES_HZ
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

WINDOW: Final = 160
HOP: Final = 80
_HISTORY: Final = WINDOW - HOP
#: Share of a window's energy that its two strongest tones hold at least.
SHARE: Final = 0.45
TWIST_DB: Final = 15.0
#: Of the weaker tone. Below -50 dBm0 a listener has comfort noise of ours to hear it in.
LEVEL_DBM0: Final = -50.0


def _projection() -> tuple[Float32, Float32, float]:
    window = np.hanning(WINDOW + 2)[1:-1]
    time = np.arange(WINDOW) / SAMPLE_RATE_HZ
    angles = 2 * np.pi * np.outer(np.array(ROW_FREQUENCIES_HZ + COLUMN_FREQUENCIES_HZ), time)
    projection = np.concatenate((np.cos(angles), -np.sin(angles))) * window
    # A tone of amplitude A projects to A·Σw/2 and weighs A²·Σw²/2 in the window's energy.
    scale = 2 * float((window**2).sum()) / float(window.sum()) ** 2
    return projection.T.astype(np.float32), (window**2).astype(np.float32), scale


_PROJECTION, _WEIGHTS, _SCALE = _projection()
_LEAST: Final = rms_of(LEVEL_DBM0) ** 2 * float(_WEIGHTS.sum())


class ToneLike:
    """The last samples of each row."""

    def __init__(self, capacity: int) -> None:
        self.samples: Float32 = np.zeros((capacity, _HISTORY), np.float32)

    def clear(self, row: int) -> None:
        """Overwrites what is known of a row."""
        self.samples[row] = 0


def look(state: ToneLike, rows: Index, frames: Int16) -> Bool:
    """Advances rows by a frame.

    Args:
        state: changed in place.
        rows: which.
        frames: `(rows, FRAME_SAMPLES)`, theirs.

    Returns:
        Which of them could hold a part of a key.
    """
    if not rows.size:
        return np.zeros(0, np.bool_)
    samples = np.empty((len(rows), _HISTORY + FRAME_SAMPLES), np.float32)
    samples[:, :_HISTORY] = state.samples[rows]
    samples[:, _HISTORY:] = frames
    state.samples[rows] = samples[:, -_HISTORY:]
    windows = np.stack((samples[:, :WINDOW], samples[:, HOP : HOP + WINDOW]))
    outputs = windows @ _PROJECTION
    power = np.square(outputs[..., :8]) + np.square(outputs[..., 8:])
    energy = np.square(windows) @ _WEIGHTS
    row, column = power[..., :4].max(axis=-1) * _SCALE, power[..., 4:].max(axis=-1) * _SCALE
    weaker = np.minimum(row, column)
    suspicious = (row + column >= SHARE * energy) & (weaker >= _LEAST)
    suspicious &= weaker >= np.maximum(row, column) * np.float32(10 ** (-TWIST_DB / 10))
    either: Bool = suspicious.any(axis=0)
    return either
