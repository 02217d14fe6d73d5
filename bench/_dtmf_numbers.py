"""Card numbers through bad lines, for `bench dtmf`: how many of them arrive whole?"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np

from bench._dtmf_paths import carried
from media.arrays import Bool, Float64
from media.dsp import g711, tones
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.protocol import FRAME_SAMPLES

DIGITS: Final = 16
LOSS: Final = 0.01
_LEGS: Final = 500
_LEAD_IN: Final = 800
_TAIL: Final = 2400
#: ITU-T Q.24: what is left of a tone and no longer than this need not, and may not, be taken for a key.
_UNDECIDABLE_MS: Final = 23
_LARGEST: Final = 32_124
_LEVELS_DBM0: Final = (-25.0, 0.0)
_SNR_DB: Final = (15.0, 40.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Rhythm:
    """A way of keying, and how many of 10,000 numbers have to arrive whole."""

    tone_ms: int
    pause_ms: int
    least: int


RHYTHMS: Final = (Rhythm(65, 35, 9_990), Rhythm(50, 50, 9_940))


def run(rhythm: Rhythm, numbers: int, seed: int = 4) -> dict[str, Any]:
    """Keys random numbers with random level, twist and noise, both laws, 1 % of the frames lost one by one.

    Returns:
        Counts: `whole`, `undecidable` (numbers of which the loss left a tone with 23 ms or less), `wrong`, and of
        those that came out as another number `wrong_luhn`, which a till could not tell from a right one.
    """
    rng = np.random.default_rng(seed)
    result = {"numbers": numbers, "whole": 0, "undecidable": 0, "whole_of_decidable": 0, "wrong_luhn": 0}
    for start in range(0, numbers, _LEGS):
        legs = min(_LEGS, numbers - start)
        audio, keys, tone_starts = _keyed(rhythm, legs, rng)
        lost = rng.random((legs, audio.shape[1] // FRAME_SAMPLES)) < LOSS
        lost[:, 0] = False
        undecidable = _undecidable(lost, tone_starts, rhythm.tone_ms * 8)
        law = (start // _LEGS) % 2
        pcm = np.rint(audio).clip(-_LARGEST, _LARGEST).astype(np.int16)
        if law:  # the path itself is µ-law: A-law's share of the noise comes on top
            pcm = g711.DECODE[1][g711.ENCODE[1][pcm.view(np.uint16)]]
        for wanted, found, hopeless in zip(keys, carried(pcm, lost).keys, undecidable, strict=True):
            whole = found == wanted
            result["whole"] += whole
            result["undecidable"] += hopeless
            result["whole_of_decidable"] += whole and not hopeless
            result["wrong_luhn"] += not whole and len(found) == DIGITS and _luhn(found)
    result["required"] = round(rhythm.least * numbers / 10_000)
    return result


def _keyed(
    rhythm: Rhythm, legs: int, rng: np.random.Generator
) -> tuple[Float64, list[list[int]], np.ndarray]:
    step = (rhythm.tone_ms + rhythm.pause_ms) * 8
    samples = _LEAD_IN + DIGITS * step + _TAIL
    audio = np.zeros((legs, samples + -samples % FRAME_SAMPLES))
    keys: list[list[int]] = []
    starts = np.zeros((legs, DIGITS), np.int64)
    for number, leg in enumerate(audio):
        at = int(rng.integers(_LEAD_IN // 2, _LEAD_IN))
        level, twist = rng.uniform(*_LEVELS_DBM0), rng.uniform(-8, 4)
        # Level is that of the stronger tone; neither may fall below what Q.24 has accepted.
        level = max(level, _LEVELS_DBM0[0] + abs(twist))
        keys.append(_card_like(rng))
        for place, key in enumerate(keys[-1]):
            tone = tones.dtmf_tone(key, rhythm.tone_ms, level, twist, phase=rng.uniform(0, 6.3))
            leg[at : at + len(tone)] = tone
            starts[number, place] = at
            at += step
        power = AMPLITUDE_0_DBM0**2 / 2 * 10 ** (level / 10) * (1 + 10 ** (-abs(twist) / 10))
        leg[:] += rng.normal(0, np.sqrt(power * 10 ** (-rng.uniform(*_SNR_DB) / 10)), len(leg))
    return audio, keys, starts


def _card_like(rng: np.random.Generator) -> list[int]:
    """Sixteen digits that pass Luhn."""
    digits = [int(digit) for digit in rng.integers(0, 10, DIGITS - 1)]
    return next([*digits, check] for check in range(10) if _luhn([*digits, check]))


def _luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812-1, annex B."""
    if any(digit > 9 for digit in digits):
        return False
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _undecidable(lost: Bool, starts: np.ndarray, length: int) -> list[bool]:
    """Of which numbers the loss left a tone in pieces none of which is longer than what Q.24 has refused."""
    there = ~np.repeat(lost, FRAME_SAMPLES, axis=1)
    found = []
    for leg, places in zip(there, starts, strict=True):
        found.append(any(int(leg[at : at + length].sum()) <= _UNDECIDABLE_MS * 8 for at in places.tolist()))
    return found
