"""The attack on the operator's audio: does anything of the customer's keys cross a mask?

The operator's side has every advantage: the masked audio as it is sent to it, the exact time of every key, and
thousands of labelled examples. Decoders (ours, spandsp's, multimon-ng) read it as it is, and a classifier learns from
it. The same attack on the audio without a mask must name more than 99 % of the keys, or it was too weak to count.

Judged: decoders' hits are not beyond those of a permutation of the true keys (p < 0.001), the classifier's 99.9 %
interval includes chance and its upper end is at most two points above it. In a mode that passes audio, no key's samples
may be among it.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

import numpy as np

from bench import _leak_attacks as attacks
from bench.__main__ import progress
from bench._leak_material import CLASSES, Material, customers, operator_hears
from media.arrays import Int16
from media.dsp import clamp
from media.protocol import FRAME_SAMPLES, MaskMode

#: Of the modes that can be judged by what one connection carries; a decoy is played into a bridge.
MODES: Final = (
    MaskMode.SILENCE,
    MaskMode.COMFORT_NOISE,
    MaskMode.TONE,
    MaskMode.SCRAMBLE,
    MaskMode.CLAMP,
)
CHANCE: Final = 1 / CLASSES
_MOST_ABOVE_CHANCE: Final = 0.02
_LEAST_CONTROL: Final = 0.99
_LEAST_P: Final = 0.001
_CONTROL_KEYS: Final = 4_000
_SEED: Final = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--mode", type=MaskMode, choices=MODES, default=MaskMode.COMFORT_NOISE)
    parser.add_argument("--keys", type=int, default=12_000)
    parser.add_argument(
        "--leak", type=float, default=0.0, help="share of the customer's audio to let through"
    )
    parser.add_argument("--seed", type=int, default=_SEED)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """See the module."""
    mode: MaskMode = options.mode
    progress(f"{options.keys} keys of customers who talk")
    material = customers(options.keys, options.seed)
    progress(f"through {mode}")
    masked = operator_hears(material, mode, options.seed + 1, options.leak)
    result: dict[str, Any] = {"mode": str(mode), "keys": len(material.keys), "chance": round(CHANCE, 5)}
    delay = clamp.DELAY * FRAME_SAMPLES if mode is MaskMode.CLAMP else 0
    result |= _attack(material, masked, delay, options.seed)
    progress("the same without a mask, to see whether the attack is worth anything")
    control = customers(min(options.keys, _CONTROL_KEYS), options.seed + 7)
    open_audio = operator_hears(control, MaskMode.OPEN, options.seed + 8)
    result |= {
        f"control_{name}": value for name, value in _attack(control, open_audio, 0, options.seed).items()
    }
    result["control_accuracy"] = result["control_classifier_accuracy"]
    result["wrong"] = _wrong(result)
    result["correct"] = not result["wrong"]
    _print(result)
    return result


def _attack(material: Material, audio: Int16, delay: int, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {"decoders": {}}
    for name, decoder in attacks.decoders().items():
        if decoder is None:
            progress(f"{name} is not installed")
            continue
        progress(f"decoder: {name}")
        found["decoders"][name] = attacks.decode(decoder, audio, material.keys, seed)._asdict()
    progress("classifier")
    table = attacks.features(audio, material.keys, delay)
    codes = np.array([key.code for key in material.keys])
    guesses = attacks.classify(table, codes, seed)
    best = max(guesses, key=lambda one: one.accuracy)
    found |= {
        "classifier_accuracy": best.accuracy,
        "classifier_ci999": [best.low, best.high],
        "classifiers": {one.by: one._asdict() for one in guesses},
        "keys_with_remnants": attacks.remnants(audio, material.audio, material.keys, delay),
    }
    return found


def _wrong(result: dict[str, Any]) -> list[str]:
    """What does not pass, as sentences."""
    wrong = [
        f"{name} reads keys: {one['hits']} hits, {one['permuted_hits']} by chance, p {one['p']}"
        for name, one in result["decoders"].items()
        if one["p"] < _LEAST_P
    ]
    for name, one in result["classifiers"].items():
        if one["low"] > CHANCE or one["high"] > CHANCE + _MOST_ABOVE_CHANCE:
            wrong.append(
                f"{name}: {one['accuracy']:.2%} right, {one['low']:.2%} to {one['high']:.2%}, "
                f"of {CHANCE:.2%} by chance; few keys make a wide interval"
            )
    if result["keys_with_remnants"]:
        wrong.append(f"samples of {result['keys_with_remnants']} keys crossed")
    if result["control_accuracy"] < _LEAST_CONTROL:
        wrong.append(f"the attack is too weak: {result['control_accuracy']:.2%} of open keys")
    return wrong


def _print(result: dict[str, Any]) -> None:
    for prefix, title in (("", result["mode"]), ("control_", "no mask")):
        print(f"  {title}")
        for name, one in result[f"{prefix}decoders"].items():
            print(
                f"    {name:22}{one['hits']:7} hits of {one['found']} read, "
                f"{one['permuted_hits']:8} by chance, p {one['p']}"
            )
        for name, one in result[f"{prefix}classifiers"].items():
            print(
                f"    {name:22}{one['accuracy']:8.2%} right, 99.9 % interval {one['low']:.2%} to {one['high']:.2%},"
                f" chance {CHANCE:.2%}"
            )
        print(f"    keys of which samples crossed: {result[f'{prefix}keys_with_remnants']}")
    for sentence in result["wrong"]:
        print(f"  WRONG  {sentence}")
