"""What a person at the telephone notices: that somebody speaks, and that it has become quiet."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from media.protocol import SAMPLE_RATE_HZ

FRAME_MS: Final = 20
#: Level above which there is speech or a tone in what lies beside a decoy's tones, dBFS. Comfort noise lies well below.
SPEECH_DBFS: Final = -45.0
#: Where a decoy (`media.dsp.decoy`) has its tones, Hz: a person hears a voice beside them.
DECOY_HZ: Final = ((590.0, 1_050.0), (1_100.0, 1_750.0))
#: Frames of speech in a row before it counts, so that a click does not.
ONSET_FRAMES: Final = 3


def level_dbfs(frame: NDArray[np.int16]) -> float:
    """RMS level of a frame; −120 for digital silence."""
    if not len(frame):
        return -120.0
    power = float(np.mean(np.square(frame.astype(np.float64))))
    return max(-120.0, 10 * math.log10(max(power, 1e-12) / 32768.0**2))


def _beside_the_decoy() -> NDArray[np.float64]:
    """Weights of a spectrum's lines."""
    hertz = np.fft.rfftfreq(_SPAN, 1 / SAMPLE_RATE_HZ)
    weights = np.ones(len(hertz))
    for low, high in DECOY_HZ:
        weights[(hertz > low) & (hertz < high)] = 0
    weights[hertz < 100] = 0
    return weights


_SPAN: Final = 2 * FRAME_MS * SAMPLE_RATE_HZ // 1000
_WINDOW: Final = signal.windows.blackmanharris(_SPAN)
#: Parseval: the mean square of the samples from the sum over half a spectrum of windowed ones.
_SCALE: Final = 2 / (_SPAN * float(np.sum(_WINDOW**2)))
_WEIGHTS: Final = _beside_the_decoy()


def voice_dbfs(samples: NDArray[np.int16]) -> float:
    """RMS level of two frames beside where a decoy has its tones."""
    lines = np.square(np.abs(np.fft.rfft(samples * _WINDOW)))
    power = float(lines @ _WEIGHTS) * _SCALE
    return max(-120.0, 10 * math.log10(max(power, 1e-12) / 32768.0**2))


class Ears:
    """Fed with one frame a tick; coroutines wait for what they hear. Time is counted in frames."""

    def __init__(self) -> None:
        self._frames = 0
        self._run = 0
        self._loud = False
        self._quiet = 0
        self._spoken = 0
        self._two_frames = np.zeros(_SPAN, np.int16)
        self._changed = asyncio.Condition()
        self._closed = False

    @property
    def heard_ms(self) -> int:
        """How long the call has been listened to."""
        return self._frames * FRAME_MS

    @property
    def spoken_ms(self) -> int:
        """How much of it was speech or tones."""
        return self._spoken * FRAME_MS

    async def feed(self, frame: NDArray[np.int16]) -> None:
        """Takes the next frame."""
        self._two_frames = np.concatenate((self._two_frames, frame))[-_SPAN:]
        # A decoy's changes click; they are sixty milliseconds apart at least.
        self._run = self._run + 1 if voice_dbfs(self._two_frames) > SPEECH_DBFS else 0
        loud = self._run >= ONSET_FRAMES
        async with self._changed:
            self._frames += 1
            self._loud = loud
            self._quiet = 0 if loud else self._quiet + 1
            self._spoken += loud
            self._changed.notify_all()

    async def close(self) -> None:
        """Nothing more will be heard; who waits gets `ConnectionError`."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def speech(self, *, timeout_s: float = 20.0) -> None:
        """Waits until somebody speaks.

        Raises:
            TimeoutError: nobody did.
            ConnectionError: the call ended first.
        """
        await self._until(lambda: self._loud, timeout_s)

    async def quiet(self, quiet_ms: int = 600, *, timeout_s: float = 60.0) -> None:
        """Waits until it has been quiet for `quiet_ms`; raises as `speech` does."""
        await self._until(lambda: self._quiet * FRAME_MS >= quiet_ms, timeout_s)

    async def announcement(self, quiet_ms: int = 600, *, timeout_s: float = 60.0) -> None:
        """Waits for speech and then for its end; raises as `speech` does."""
        await self.speech(timeout_s=timeout_s)
        await self.quiet(quiet_ms, timeout_s=timeout_s)

    async def listen(self, duration_ms: int) -> None:
        """Listens for so long, whatever is heard."""
        end = self._frames + duration_ms // FRAME_MS
        await self._until(lambda: self._frames >= end, duration_ms / 1000 + 10)

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            async with self._changed:
                await self._changed.wait_for(lambda: self._closed or condition())
                if self._closed and not condition():
                    raise ConnectionError("the call ended while we listened")
