"""What one party of a call heard or said, as WAV file and as spectrogram."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 8000


class Recorder:
    """Frames of one direction, in order."""

    def __init__(self) -> None:
        self._frames: list[NDArray[np.int16]] = []

    def add(self, frame: NDArray[np.int16]) -> None:
        """Takes a copy of the frame."""
        self._frames.append(frame.copy())

    @property
    def samples(self) -> NDArray[np.int16]:
        """Everything so far, shape (samples,)."""
        return np.concatenate(self._frames) if self._frames else np.zeros(0, np.int16)

    def clear(self) -> None:
        """Forgets what was recorded."""
        self._frames.clear()


def write_wav(path: Path, samples: NDArray[np.int16]) -> None:
    """One channel, 16 bits, 8 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def write_spectrograms(path: Path, rows: Sequence[tuple[str, NDArray[np.int16]]]) -> None:
    """One picture, a row for each title and its samples, on one time axis."""
    import matplotlib  # noqa: PLC0415 - drawing is optional and slow to import

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    longest = max((len(samples) for _, samples in rows), default=RATE_HZ) / RATE_HZ
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(16, 3.2 * len(rows)), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, (title, samples) in zip(axes[:, 0], rows, strict=True):
        # Digital silence has no logarithm: a floor of noise far below everything stands in for it.
        floor = np.random.default_rng(0).standard_normal(max(len(samples), 512)) * 1e-7
        signal = floor.copy()
        signal[: len(samples)] += samples / 32768
        axis.specgram(signal, NFFT=256, Fs=RATE_HZ, noverlap=128, vmin=-130, vmax=-30, cmap="magma")
        axis.set_title(title, loc="left")
        axis.set_ylabel("Hz")
        axis.set_xlim(0, longest)
        for tone in (697, 770, 852, 941, 1209, 1336, 1477):
            axis.axhline(tone, color="white", linewidth=0.3, alpha=0.35)
    axes[-1, 0].set_xlabel("seconds")
    figure.savefig(path, dpi=90)
    plt.close(figure)
