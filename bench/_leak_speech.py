"""How well speech is understood through a mask, and whether a listener can undo `scramble`.

Intelligibility is STOI (Taal et al. 2011, by pystoi): 1 is the original, sentences are understood from about 0.7 on.
The listener tries what scramblers of telephones have always been undone with: turning the spectrum round about any
pivot, turning segments round in time, and a recogniser that does not care for the order of segments. A classical
scrambler (spectrum turned about 3 kHz) in place of ours shows that this is worth something.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from pystoi import stoi
from scipy import signal

from bench._leak_attacks import Classified
from bench._leak_words import Spoken, recognise
from media.arrays import Float64, Int16
from media.protocol import SAMPLE_RATE_HZ

PIVOTS_HZ: Final = (2_600, 2_800, 3_000, 3_200, 3_400, 3_600, 3_800, 4_000)
SEGMENTS: Final = (320, 640, 1_280, 3_200)
_SCRAMBLER_HZ: Final = 3_000
_LISTENED: Final = 24
_TAPS: Final = 129


class Undone(NamedTuple):
    """The best that an attack on a scrambler came to."""

    words: Classified
    words_by: str
    intelligibility: float
    intelligibility_by: str
    attacks: int


def inverted(audio: Int16, pivot_hz: float) -> Int16:
    """The spectrum turned round: what was at f is at `pivot_hz` - f."""
    low = signal.firwin(_TAPS, min(pivot_hz, 3_950) - 50, fs=SAMPLE_RATE_HZ)
    carrier = 2 * np.cos(2 * np.pi * pivot_hz * np.arange(audio.shape[1]) / SAMPLE_RATE_HZ)
    turned = signal.fftconvolve(audio * carrier, low[None], mode="same", axes=1)
    return np.rint(turned).clip(-32_768, 32_767).astype(np.int16)


def reversed_in_time(audio: Int16, samples: int) -> Int16:
    """Each segment backwards."""
    whole = audio.shape[1] // samples * samples
    out = audio.copy()
    out[:, :whole] = audio[:, :whole].reshape(len(audio), -1, samples)[:, :, ::-1].reshape(len(audio), whole)
    return out


def intelligibility(original: Int16, heard: Int16, delay: int = 0) -> float:
    """STOI of what is heard, mean over some customers; `delay`: of the mask's path, samples."""
    some = range(min(len(original), _LISTENED))
    last = original.shape[1] - delay
    return round(
        float(
            np.mean(
                [
                    stoi(_float(original[row, :last]), _float(heard[row, delay:]), SAMPLE_RATE_HZ)
                    for row in some
                ]
            )
        ),
        3,
    )


def undo(spoken: Spoken, heard: Int16, seed: int) -> Undone:
    """All attacks on what the operators hear."""
    original = spoken.material.audio
    tries: dict[str, Int16] = {"as it is": heard}
    tries |= {f"spectrum about {pivot} Hz": inverted(heard, pivot) for pivot in PIVOTS_HZ}
    tries |= {
        f"segments of {samples // 8} ms backwards": reversed_in_time(heard, samples) for samples in SEGMENTS
    }
    words: dict[str, Classified] = {}
    understood: dict[str, float] = {}
    for name, audio in tries.items():
        # A linear discriminant learns any fixed exchange of bands by itself; a few show that it makes no difference.
        words[name] = max(recognise(audio, spoken, 0, seed), key=lambda one: one.accuracy)
        understood[name] = intelligibility(original, audio)
    words["order of segments ignored"] = max(
        recognise(heard, spoken, 0, seed, order=False), key=lambda one: one.accuracy
    )
    best = max(words, key=lambda name: words[name].accuracy)
    clearest = max(understood, key=lambda name: understood[name])
    return Undone(words[best], best, understood[clearest], clearest, 2 * len(words))


def classical(spoken: Spoken) -> Int16:
    """What a scrambler that turns the spectrum round would have let the operators hear."""
    return inverted(spoken.material.audio, _SCRAMBLER_HZ)


def quality(original: Int16, heard: Int16, delay: int, talk: list[slice]) -> dict[str, Any]:
    """Of talk without keys through `clamp`: share passed, segmental S/N of it (frames of 20 ms, -10 to 35 dB), STOI."""
    shares, ratios, noises = [], [], []
    for part in talk:
        said = _float(original[:, part])
        got = _float(heard[:, part.start + delay : part.stop + delay])
        frames = said.reshape(len(said), -1, 160)
        noise = (got - said).reshape(frames.shape)
        power, rest = np.square(frames).mean(axis=2), np.square(noise).mean(axis=2)
        active = power > 100**2
        noises.append(intelligibility(original[:, part], heard[:, part.start + delay : part.stop + delay]))
        ratio = 10 * np.log10(power / np.maximum(rest, 1e-3))
        shares.append(float((ratio[active] > 15).mean()))
        ratios.append(float(np.clip(ratio[active], -10, 35).mean()))
    return {
        "passed": round(float(np.mean(shares)), 4),
        "segmental_snr_db": round(float(np.mean(ratios)), 1),
        "stoi": round(float(np.mean(noises)), 3),
        "delay_ms": delay * 1000 // SAMPLE_RATE_HZ,
    }


def _float(samples: Int16) -> Float64:
    return samples.astype(np.float64)
