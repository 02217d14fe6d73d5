"""What a destination hears instead of a masked source: the modes, the stock of noise, the sum of frames.

`media.masks` applies the modes, each of which has a module of its own here, and reads a source in the modes
`OPEN` and `CLAMP` only (invariant 1 of the design: a fault yields silence, never audio).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Int16
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.protocol import FRAME_SAMPLES, MaskMode

#: Codes of the modes in arrays. Zero is silence, so that an empty row is a safe one.
SILENCE: Final = 0
COMFORT_NOISE: Final = 1
OPEN: Final = 2
TONE: Final = 3
SCRAMBLE: Final = 4
CLAMP: Final = 5
DECOY: Final = 6

CODES: Final[dict[MaskMode, int]] = {
    MaskMode.SILENCE: SILENCE,
    MaskMode.COMFORT_NOISE: COMFORT_NOISE,
    MaskMode.OPEN: OPEN,
    MaskMode.TONE: TONE,
    MaskMode.SCRAMBLE: SCRAMBLE,
    MaskMode.CLAMP: CLAMP,
    MaskMode.DECOY: DECOY,
}
#: Codes beyond this one are nobody's.
LARGEST_CODE: Final = DECOY

NOISE_LEVEL_DBM0: Final = -50.0
NOISE_FRAMES: Final = 1024


def rms_of(level_dbm0: float) -> float:
    """Root mean square, in steps of int16, of a signal at a level (ITU-T G.711: a sine of full scale is +3.17)."""
    return float(AMPLITUDE_0_DBM0 / np.sqrt(2) * 10 ** (level_dbm0 / 20))


def noise_frames(rng: np.random.Generator, frames: int = NOISE_FRAMES) -> Int16:
    """A stock of comfort noise, shape `(frames, FRAME_SAMPLES)`, at -50 dBm0 with a soft slope.

    Connections draw their frames from it by numbers of their own; nothing of any source is in it.
    """
    white = rng.standard_normal(frames * FRAME_SAMPLES + 2)
    soft = white[:-2] + 1.2 * white[1:-1] + white[2:]
    scaled = np.rint(soft * (rms_of(NOISE_LEVEL_DBM0) / soft.std()))
    stock: Int16 = scaled.astype(np.int16).reshape(frames, FRAME_SAMPLES)
    return stock


def mix(first: Int16, second: Int16) -> Int16:
    """Sum of two frames with saturation."""
    total = np.add(first, second, dtype=np.int32)
    np.maximum(total, -32768, out=total)
    np.minimum(total, 32767, out=total)
    return total.astype(np.int16)
