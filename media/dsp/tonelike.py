"""Whether anything in a frame could belong to a key: for masks, which must be wrong on one side only.

`media.dsp.dtmf` names keys and so must be certain; this must not miss one. Two windows of 20 ms for each frame,
10 ms apart, are projected on the eight frequencies of ITU-T Q.23 with a main lobe that is wide enough for any offset.
A window is suspicious when its strongest row tone and its strongest column tone hold much of its energy and
neither is far below the other. A tone of 20 ms that stands alone makes at least one window suspicious, wherever
it lies.

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
_SPAN: Final = _HISTORY + FRAME_SAMPLES
#: Share of a window's energy that its two strongest tones hold at least.
SHARE: Final = 0.5
#: The same of a row on the alert: keys pressed while somebody speaks into them.
ALERT_SHARE: Final = 0.33
TWIST_DB: Final = 15.0
#: Of the weaker tone. Below -50 dBm0 a listener has comfort noise of ours to hear it in.
LEVEL_DBM0: Final = -50.0


def _projection() -> tuple[Float32, Float32, float, float]:
    window = np.hanning(WINDOW + 2)[1:-1]
    time = np.arange(WINDOW) / SAMPLE_RATE_HZ
    angles = 2 * np.pi * np.outer(np.array(ROW_FREQUENCIES_HZ + COLUMN_FREQUENCIES_HZ), time)
    projection = np.concatenate((np.cos(angles), -np.sin(angles))) * window
    weights = np.zeros((_SPAN, 3))
    weights[:WINDOW, 0] = weights[HOP:, 1] = window**2
    weights[-HOP:, 2] = 1 / HOP
    # A tone of amplitude A projects to A·Σw/2 and weighs A²·Σw²/2 in the window's energy.
    energy = float((window**2).sum())
    scale = 2 * energy / float(window.sum()) ** 2
    return projection.T.astype(np.float32), weights.astype(np.float32), scale, energy


_PROJECTION, _WEIGHTS, _SCALE, _ENERGY = _projection()
_LEAST: Final = rms_of(LEVEL_DBM0) ** 2 * _ENERGY
#: Their samples as floats stay in the cache that the products read them from.
_AT_ONCE: Final = 128


class ToneLike:
    """The last samples of each row."""

    def __init__(self, capacity: int) -> None:
        self.samples: Float32 = np.zeros((capacity, _HISTORY), np.float32)

    def clear(self, row: int) -> None:
        """Overwrites what is known of a row."""
        self.samples[row] = 0


def look(state: ToneLike, rows: Index, frames: Int16, alert: Bool) -> tuple[Bool, Float32]:
    """Advances rows by a frame.

    Args:
        state: changed in place.
        rows: which.
        frames: `(rows, FRAME_SAMPLES)`, theirs.
        alert: which of them are to be judged more strictly, because keys have come.

    Returns:
        Which of them could hold a part of a key; and the mean square of each one's last 10 ms.
    """
    suspicious = np.zeros(len(rows), np.bool_)
    loudness = np.zeros(len(rows), np.float32)
    share = np.where(alert, np.float32(ALERT_SHARE), np.float32(SHARE))
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        where = rows[some]
        samples = np.empty((len(where), _SPAN), np.float32)
        samples[:, :_HISTORY] = state.samples[where]
        samples[:, _HISTORY:] = frames[some]
        state.samples[where] = samples[:, -_HISTORY:]
        outputs = np.concatenate((samples[:, :WINDOW] @ _PROJECTION, samples[:, HOP:] @ _PROJECTION))
        np.square(outputs, out=outputs)
        np.square(samples, out=samples)
        energy = samples @ _WEIGHTS
        loudness[some] = energy[:, -1]
        suspicious[some] = _judge(outputs, energy[:, :2].T, share[some])
    return suspicious, loudness


def _judge(squares: Float32, energy: Float32, share: Float32) -> Bool:
    power = (squares[:, :8] + squares[:, 8:]).reshape(2, -1, 2, 4)
    strongest = np.maximum(
        np.maximum(power[..., 0], power[..., 1]), np.maximum(power[..., 2], power[..., 3])
    ) * np.float32(_SCALE)
    row, column = strongest[..., 0], strongest[..., 1]
    weaker = np.minimum(row, column)
    found = (row + column >= share * energy) & (weaker >= _LEAST)
    found &= weaker >= np.maximum(row, column) * np.float32(10 ** (-TWIST_DB / 10))
    either: Bool = found[0] | found[1]
    return either
