"""What each mask makes of the same customer, to be listened to: a voice, eight keys, a voice into which keys fall.

The frames go through `media.connections` as an engine's do. `decoy` is heard as in a three-way bridge: the customer
and the decoy together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from bench._sounds import pcm_of, speech
from bench.telephone.recording import write_spectrograms, write_wav
from media.arrays import Int16
from media.connections import Connections
from media.dsp import dtmf, mask, tones
from media.masks import Heard, Stocks
from media.protocol import FRAME_SAMPLES, MaskMode

_KEYS: Final = [4, 1, 1, 9, 7, 2, 6, 8]
_LEVEL_DBM0: Final = -10.0
_SEED: Final = 20


def write(out: Path) -> list[Path]:
    """Writes a WAV file of each mode and one picture of all; returns them."""
    rng = np.random.default_rng(_SEED)
    source = _customer(rng)
    rows = [("unmasked", source)]
    for mode in MaskMode:
        if mode is not MaskMode.OPEN:
            rows.append((str(mode), heard_through(mode, source, np.random.default_rng(_SEED))))
    files = []
    for name, samples in rows:
        files.append(out / f"mask-{name}.wav")
        write_wav(files[-1], samples)
    files.append(out / "masks.png")
    write_spectrograms(files[-1], [(f"The operator's side: {name}", samples) for name, samples in rows])
    return files


def _customer(rng: np.random.Generator) -> Int16:
    keys = tones.key_sequence(_KEYS, 90, 160, _LEVEL_DBM0)
    first, second = pcm_of(speech(3.0, rng).codes), pcm_of(speech(3.0, rng).codes)
    into = np.zeros(len(second), np.int16)
    into[8_000 : 8_000 + len(keys)] = keys[: len(second) - 8_000]
    pause = tones.silence(1_000)
    samples = np.concatenate((first, pause, keys, pause, mask.mix(second, into), pause))
    return samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]


def heard_through(mode: MaskMode, source: Int16, rng: np.random.Generator) -> Int16:
    """What another party hears of `source`, whole frames at 8 kHz, through a mask."""
    connections, stocks = Connections(2, rng), Stocks(rng)
    bridge = mode is MaskMode.DECOY
    connections.set(1 if bridge else 0, 1, mode, beeping=True)
    detector, params = dtmf.DTMFState(1), dtmf.DTMFParams()
    whole = np.ones(1, np.bool_)
    heard = []
    for frame in source.reshape(-1, 1, FRAME_SAMPLES):
        keyed = np.zeros(2, np.bool_)
        keyed[0] = bool(dtmf.detect(detector, params, frame, (whole, whole)))
        pcm = np.concatenate((frame, np.zeros_like(frame)))
        out = np.zeros_like(pcm)
        connections.mix(out, Heard(pcm, keyed, np.ones(2, np.bool_)), stocks)
        heard.append(mask.mix(out[1], frame[0]) if bridge else out[1])
    return np.concatenate(heard)
