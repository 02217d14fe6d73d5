"""Hours of speech and music without keys, for `bench dtmf`: what either detector takes for keys in them.

Each source is played at three levels and both laws. The recordings and the voices are played at other speeds, too: a
voice at 9/10 of its speed has another pitch and other formants, and is another voice. One in twenty frames of a further
round is lost, as the detector's rules for lost audio are rules that speech could meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy import signal

from bench._dtmf_audio import through
from bench._dtmf_paths import carried, straight
from bench._dtmf_speech import Source, digest
from bench._spandsp import Spandsp
from media.arrays import Float64, Int16
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

_LEVELS_DBM0: Final = (-10.0, -19.0, -28.0)
#: As up and down of a resampling.
_SPEEDS: Final = ((20, 20), (20, 22), (20, 18))
_ROWS: Final = 256
_LARGEST: Final = 32_124
_LOSS: Final = 0.05


def run(found: list[Source], reference: Spandsp | None, progress: Callable[[str], None]) -> dict[str, Any]:
    """Counts false keys.

    Returns:
        `talkoff` by kind of source, with `hours`, and the rates over all that arrived whole.
    """
    kinds: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(one.kind for one in found):
        whole = np.concatenate([one.samples for one in found if one.kind == kind])
        row = kinds[kind] = {"hours": 0.0, "ours": 0} | ({"spandsp": 0} if reference else {})
        lossy = kinds[f"{kind}, {_LOSS:.0%} lost"] = {"hours": 0.0, "ours": 0}
        for up, down in _SPEEDS:
            progress(f"without keys: {kind}, speed {down / up}")
            samples = whole if up == down else signal.resample_poly(whole, up, down)
            for level in _LEVELS_DBM0:
                pcm = _rows(samples * 10 ** (level / 20))
                for law in (0, 1):
                    heard = through(law, pcm)
                    row["hours"] += _hours(heard)
                    row["ours"] += sum(map(len, straight(heard)))
                    if reference:
                        row["spandsp"] += sum(map(len, reference.keys(heard)))
                if up == down:
                    lost = np.random.default_rng(5).random((_ROWS, pcm.shape[1] // FRAME_SAMPLES)) < _LOSS
                    lossy["hours"] += _hours(pcm)
                    lossy["ours"] += sum(map(len, carried(pcm, lost).keys))
        for each in (row, lossy):
            each["hours"] = round(each["hours"], 2)
    result: dict[str, Any] = {"talkoff": kinds, "talkoff_material": digest(found)}
    both = [row for name, row in kinds.items() if "lost" not in name]
    hours = sum(row["hours"] for row in both)
    result["talkoff_hours"] = round(hours, 1)
    result["talkoff_false_per_hour"] = round(sum(row["ours"] for row in both) / hours, 4)
    if reference:
        result["spandsp_talkoff_false_per_hour"] = round(sum(row["spandsp"] for row in both) / hours, 4)
    return result


def _rows(samples: Float64) -> Int16:
    """One long stretch as legs that hear a part of it each."""
    length = len(samples) // (_ROWS * FRAME_SAMPLES) * FRAME_SAMPLES + FRAME_SAMPLES
    padded = np.zeros(_ROWS * length)
    padded[: len(samples)] = samples
    return np.rint(padded).clip(-_LARGEST, _LARGEST).astype(np.int16).reshape(_ROWS, length)


def _hours(audio: Int16) -> float:
    return audio.size / SAMPLE_RATE_HZ / 3600
