"""What a leg and frame cost either detector: `python -m bench._dtmf_cost`, started by `bench dtmf`.

A process of its own with one thread for BLAS, as a media worker is: threads that wait for each other would be counted.
"""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from bench._dtmf_audio import Keying, keyed
from bench._dtmf_paths import ns_per_frame
from bench._spandsp import load
from media.arrays import Int16

LEGS: Final = 1_000
ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SECONDS: Final = 3.0
_FRAMES: Final = 100
_SEED: Final = 24


def _legs() -> dict[str, Int16]:
    """Audio of `LEGS` legs that talk, of which one in eight keys, and that all key."""
    rng = np.random.default_rng(_SEED)
    samples = _FRAMES * 160
    talk = np.convolve(rng.standard_normal(samples + LEGS * 37), np.exp(-np.arange(12) / 3), "same")
    talk *= np.repeat(rng.uniform(300, 4000, len(talk) // 160 + 1), 160)[: len(talk)]
    talking = np.stack([talk[leg * 37 : leg * 37 + samples] for leg in range(LEGS)])
    talking = talking.clip(-32_000, 32_000).astype(np.int16)
    keys = keyed(Keying(tone_ms=100, pause_ms=100), 1 + LEGS // 8, 0, _SEED).audio[:, 400 : 400 + samples]
    some = talking.copy()
    some[::8] = keys[: len(some[::8])]
    return {"": talking, "keying_": some, "all_keying_": keys[np.arange(LEGS) % len(keys)]}


def main() -> None:
    """The process."""
    reference = load()
    found: dict[str, int] = {}
    for name, audio in _legs().items():
        found[f"{name}ns_per_leg_frame"] = round(ns_per_frame(audio, _SECONDS))
        if reference:
            costs = [reference.ns_per_frame(audio) for _ in range(3)]
            found[f"spandsp_{name}ns_per_leg_frame"] = round(float(np.median(costs)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
