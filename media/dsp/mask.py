"""What a destination hears instead of a masked source.

The modes, the stock of noise and the sum of frames; `media.connections` applies them, and reads a source in
mode `OPEN` only (invariant 1 of the design: a fault yields silence, never audio).
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

CODES: Final[dict[MaskMode, int]] = {
    MaskMode.SILENCE: SILENCE,
    MaskMode.COMFORT_NOISE: COMFORT_NOISE,
    MaskMode.OPEN: OPEN,
}

NOISE_LEVEL_DBM0: Final = -50.0
NOISE_FRAMES: Final = 1024


def noise_frames(rng: np.random.Generator, frames: int = NOISE_FRAMES) -> Int16:
    """A stock of comfort noise, shape `(frames, FRAME_SAMPLES)`, at -50 dBm0 with a soft slope.

    Connections draw their frames from it by numbers of their own; nothing of any source is in it.
    """
    white = rng.standard_normal(frames * FRAME_SAMPLES + 2)
    soft = white[:-2] + 1.2 * white[1:-1] + white[2:]
    rms = AMPLITUDE_0_DBM0 / np.sqrt(2) * 10 ** (NOISE_LEVEL_DBM0 / 20)
    scaled = np.rint(soft * (rms / soft.std()))
    stock: Int16 = scaled.astype(np.int16).reshape(frames, FRAME_SAMPLES)
    return stock


def mix(first: Int16, second: Int16) -> Int16:
    """Sum of two frames with saturation."""
    total = np.add(first, second, dtype=np.int32)
    np.maximum(total, -32768, out=total)
    np.minimum(total, 32767, out=total)
    return total.astype(np.int16)
