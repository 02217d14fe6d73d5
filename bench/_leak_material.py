"""Customers who talk and key, and what an operator hears of them through a mask: the material of `bench leak`.

Everything is made from a seed. The audio goes as packets, of which 1 % are lost, through ring and concealment, and from
there through `media.connections`, as an engine's does; the operator gets it by G.711.
"""

from __future__ import annotations

import dataclasses
from typing import Final, NamedTuple

import numpy as np

from bench._dtmf_audio import through
from bench._dtmf_paths import carried
from bench._sounds import pcm_of, speech
from media.arrays import Bool, Int16
from media.connections import Connections
from media.dsp import tones
from media.dsp.dtmf import Press
from media.masks import Heard, Stocks
from media.protocol import FRAME_SAMPLES, MaskMode

KEYS_OF_A_CUSTOMER: Final = 20
#: The keys of a telephone: 0 to 9, star, hash.
CLASSES: Final = 12
_LOSS: Final = 0.01
_TALK: Final = 16_000
_VOICES: Final = 24
_SLOT: Final = 3_200
_LARGEST: Final = 32_124


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """One key press, as nobody but the laboratory knows it."""

    leg: int
    code: int
    start: int
    end: int

    def __repr__(self) -> str:
        """Shows where, not which."""
        return f"Key({self.leg}, {self.start}..{self.end})"


class Material(NamedTuple):
    """What customers say and key."""

    audio: Int16
    """`(legs, samples)`."""
    lost: Bool
    """`(legs, packets)`."""
    keys: list[Key]


def customers(keys: int, seed: int) -> Material:
    """Each talks for two seconds, keys twenty times in eight, every second one with a voice between, and talks on."""
    rng = np.random.default_rng(seed)
    legs = -(-keys // KEYS_OF_A_CUSTOMER)
    voices = [pcm_of(speech(14.0, rng).codes) for _ in range(_VOICES)]
    samples = 2 * _TALK + KEYS_OF_A_CUSTOMER * _SLOT
    audio = np.zeros((legs, samples + -samples % FRAME_SAMPLES))
    pressed: list[Key] = []
    for leg in range(legs):
        row, voice = audio[leg], voices[int(rng.integers(_VOICES))].astype(np.float64)
        gain = 10 ** (rng.uniform(-8, 4) / 20)
        row[:_TALK] = gain * voice[:_TALK]
        row[-_TALK:] = gain * voice[_TALK : 2 * _TALK]
        talks_on = leg % 2 == 1
        level, twist = rng.uniform(-22, -3), rng.uniform(-8, 4)
        for place in range(KEYS_OF_A_CUSTOMER):
            slot = _TALK + place * _SLOT
            start = slot + int(rng.integers(160, 1_200))
            length = int(rng.uniform(50, 180) * 8)
            code = int(rng.integers(CLASSES))
            tone = tones.dtmf_tone(code, length / 8, level, twist, phase=rng.uniform(0, 6.28))
            if talks_on:  # a person who keys says nothing in that moment, and something before and after
                row[slot:start] = gain * voice[slot:start][: start - slot] if start < len(voice) else 0
            row[start : start + len(tone)] = tone
            pressed.append(Key(leg, code, start, start + len(tone)))
    pcm = np.rint(audio).clip(-_LARGEST, _LARGEST).astype(np.int16)
    pcm[::2] = through(1, pcm[::2])
    lost = rng.random((legs, audio.shape[1] // FRAME_SAMPLES)) < _LOSS
    return Material(pcm, lost, pressed)


def operator_hears(material: Material, mode: MaskMode, seed: int, leak: float = 0.0) -> Int16:
    """What reaches the operators, `(legs, samples)`, µ-law and back.

    Args:
        material: the customers.
        mode: of every customer's connection; `TONE` with beeps. `DECOY` is heard in the bridge, over the customer.
        seed: of what masks draw.
        leak: so much of the customer's audio is added, to see whether the laboratory notices.
    """
    legs, samples = material.audio.shape
    rng = np.random.default_rng(seed)
    connections, stocks = Connections(2 * legs, rng), Stocks(rng)
    bridge = mode is MaskMode.DECOY
    for leg in range(legs):
        connections.set(legs + leg if bridge else leg, legs + leg, mode, beeping=True)
    pcm, out = np.zeros((2, 2 * legs, FRAME_SAMPLES), np.int16)
    keyed, sound = np.zeros((2, 2 * legs), np.bool_)
    heard = np.zeros((legs, samples), np.int16)
    at = 0

    def tick(frames: Int16, valid: tuple[Bool, Bool], presses: list[Press]) -> None:
        nonlocal at
        pcm[:legs], sound[:legs] = frames, valid[0] & valid[1]
        keyed[:] = False
        keyed[[press.row for press in presses]] = True
        out[:] = 0
        connections.mix(out, Heard(pcm, keyed, sound), stocks)
        part = out[legs:].astype(np.float64) + (1.0 if bridge else leak) * frames
        heard[:, at : at + FRAME_SAMPLES] = np.rint(part).clip(-_LARGEST, _LARGEST)
        at += FRAME_SAMPLES

    carried(material.audio, material.lost, tick)
    return through(0, heard)
