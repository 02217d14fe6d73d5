"""What a person at the telephone notices: that somebody speaks, and that it has become quiet."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME_MS: Final = 20
#: Mean level above which a frame is speech or a tone, dBFS. Comfort noise lies well below.
SPEECH_DBFS: Final = -42.0
#: Frames of speech in a row before it counts, so that a click does not.
ONSET_FRAMES: Final = 3


def level_dbfs(frame: NDArray[np.int16]) -> float:
    """RMS level of a frame; −120 for digital silence."""
    if not len(frame):
        return -120.0
    power = float(np.mean(np.square(frame.astype(np.float64))))
    return max(-120.0, 10 * math.log10(max(power, 1e-12) / 32768.0**2))


class Ears:
    """Fed with one frame a tick; coroutines wait for what they hear. Time is counted in frames."""

    def __init__(self) -> None:
        self._frames = 0
        self._loud = 0
        self._quiet = 0
        self._spoken = 0
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
        loud = level_dbfs(frame) > SPEECH_DBFS
        async with self._changed:
            self._frames += 1
            self._loud = self._loud + 1 if loud else 0
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
        await self._until(lambda: self._loud >= ONSET_FRAMES, timeout_s)

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
