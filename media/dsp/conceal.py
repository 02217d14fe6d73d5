"""Audio for what did not arrive, made of what came before it and, where that is known, of what comes after.

The last pitch period is repeated and fades (as ITU-T G.711 Appendix I does, with a coarser search): speech keeps
its pitch for the 20 ms to 60 ms that are missing. Where no period fits, the whole last frame is repeated. The
end is faded into a repetition, backwards, of the frame that follows, so that it meets it without a step.

Concealed audio is for ears alone. The detector is told what is real (`media.dsp.dtmf`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from media.arrays import Float32, Int16, Int32
from media.protocol import FRAME_SAMPLES

#: Two frames of what was played last.
HISTORY: Final = 2 * FRAME_SAMPLES
#: 250 Hz … 50 Hz; a higher pitch is found at a multiple of its period.
SHORTEST_PERIOD: Final = 32
LONGEST_PERIOD: Final = FRAME_SAMPLES
_TEMPLATE: Final = 80
_JOIN: Final = 40
#: Amplitude at the start and the end of each missing frame in a row, relative to where it starts.
FADES: Final = ((1.0, 0.8), (1.0, 0.5), (1.0, 0.0))
_LEAST_FIT: Final = 0.4
_COARSE: Final = 2


def periods(history: Int16) -> Int32:
    """The pitch period at the end of each history, samples; a whole frame where there is none.

    Args:
        history: `(rows, HISTORY)`.
    """
    fine = history.astype(np.float32)
    coarse = fine.reshape(len(fine), -1, _COARSE).sum(axis=2)
    template = _TEMPLATE // _COARSE
    end = HISTORY // _COARSE
    lags = np.arange(LONGEST_PERIOD // _COARSE, SHORTEST_PERIOD // _COARSE - 1, -1)
    parts = sliding_window_view(coarse, template, axis=1)[:, end - template - lags[0] :][:, : len(lags)]
    last = coarse[:, -template:]
    likeness = np.vecdot(parts, last[:, None, :])
    sums = np.zeros((len(fine), coarse.shape[1] + 1), np.float32)
    np.cumsum(np.square(coarse), axis=1, out=sums[:, 1:])
    starts = end - template - lags
    energy = sums[:, starts + template] - sums[:, starts]
    own = np.maximum(sums[:, -1] - sums[:, -1 - template], 1)
    fit = likeness / np.sqrt(np.maximum(energy, 1) * own[:, None])
    best = fit.argmax(axis=1)
    # A parabola through the peak and its neighbours halves the step of the coarse lags.
    each = np.arange(len(fine))
    peak = fit[each, best]
    longer, shorter = fit[each, np.maximum(best - 1, 0)], fit[each, np.minimum(best + 1, len(lags) - 1)]
    bend = 2 * peak - longer - shorter
    offset = np.where(bend > 1e-6, (longer - shorter) / np.maximum(bend, 1e-6) / 2, 0)
    chosen = np.rint(_COARSE * (lags[best] + np.clip(offset, -0.5, 0.5)))
    chosen = np.clip(chosen, SHORTEST_PERIOD, LONGEST_PERIOD)
    return np.where(peak >= _LEAST_FIT, chosen, FRAME_SAMPLES).astype(np.int32)


def extend(history: Int16, period: Int32, run: Int32) -> Int16:
    """One more frame of each history.

    Args:
        history: `(rows, HISTORY)`, the last two frames played, concealed ones included.
        period: samples.
        run: how many frames in a row are missing before this one; beyond `FADES` there is silence.
    """
    within = HISTORY - period[:, None] + np.arange(FRAME_SAMPLES) % period[:, None]
    repeated = np.take_along_axis(history, within, axis=1)
    table = np.array([*FADES, (0.0, 0.0)], np.float32)
    start, end = table[np.minimum(run, len(FADES))].T
    ramp = np.linspace(0, 1, FRAME_SAMPLES, dtype=np.float32)
    gain = start[:, None] + (end - start)[:, None] * ramp
    made: Int16 = np.rint(repeated * gain).astype(np.int16)
    return made


def join(frames: Int16, following: Int16, period: Int32) -> None:
    """Lets concealed frames end where the frames that follow begin; changes `frames` in place.

    Args:
        frames: `(rows, FRAME_SAMPLES)`, concealed.
        following: `(rows, FRAME_SAMPLES)`, real.
        period: samples.
    """
    # At least the join's length, so that what is repeated lies inside the frame.
    reach = np.where(period < _JOIN, 2 * period, period)[:, None]
    before = np.take_along_axis(following, reach - _JOIN + np.arange(_JOIN), axis=1)
    ramp = np.linspace(0, 1, _JOIN, dtype=np.float32)
    frames[:, -_JOIN:] = blend(frames[:, -_JOIN:], before, ramp)


def blend(first: Int16, second: Int16, ramp: Float32) -> Int16:
    """From one to the other, along a ramp from 0 to 1."""
    mixed: Int16 = np.rint(first * (1 - ramp) + second * ramp).astype(np.int16)
    return mixed


#: A whole frame's way from 0 to 1.
FRAME_RAMP: Final[Float32] = np.linspace(0, 1, FRAME_SAMPLES, dtype=np.float32)
