"""Was a prompt heard? A known prompt is looked for in a recording, and compared with what is there piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import signal

#: Length of the pieces, samples: a lost packet spoils one or two of them, a gap all that follow.
PIECE: Final = 800
#: Pieces below this level say nothing: G.711 and the comfort noise of a mask would spoil them.
FAINT_DBFS: Final = -40.0
#: Least ratio of the prompt to its difference from what was heard. G.711 leaves 25 to 37 dB of it, one lost
#: packet of 20 ms leaves 7 dB.
LEAST_SNR_DB: Final = 12.0


@dataclass(frozen=True, slots=True)
class Hearing:
    """Where a prompt was found, and how much of it.

    Attributes:
        start: sample of the recording at which it begins.
        end: sample after its last one.
        likeness: share of its audible pieces that arrived as they are.
    """

    start: int
    end: int
    likeness: float


def find(recording: NDArray[np.int16], prompt: NDArray[np.int16]) -> Hearing:
    """Looks for the whole of `prompt`, unbroken, where it fits best.

    Args:
        recording: shape (samples,), 8 kHz.
        prompt: shape (samples,), 8 kHz; what was played.
    """
    heard, played = recording.astype(np.float64), prompt.astype(np.float64)
    if len(heard) < len(played):
        return Hearing(0, 0, 0.0)
    likeness = signal.correlate(heard, played, "valid", "fft")
    sums = np.concatenate([[0.0], np.cumsum(heard**2)])
    energy = sums[len(played) :] - sums[: -len(played)]
    start = int(np.argmax(likeness / np.sqrt(np.maximum(energy, 1.0))))
    count = len(played) // PIECE
    was = played[: count * PIECE].reshape(count, PIECE)
    came = heard[start : start + count * PIECE].reshape(count, PIECE)
    power = np.mean(was**2, axis=1)
    noise = np.mean((was - came) ** 2, axis=1)
    audible = power > 32768.0**2 * 10 ** (FAINT_DBFS / 10)
    good = power > noise * 10 ** (LEAST_SNR_DB / 10)
    return Hearing(start, start + len(played), float(np.mean(good[audible])) if audible.any() else 0.0)
