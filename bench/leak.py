"""The attack on the operator's audio: does anything of the customer's keys cross a mask?

The operator's side has every advantage: the masked audio as it is sent to it, the exact time of every key, and
thousands of labelled examples. Decoders (ours, spandsp's, multimon-ng) read it as it is, classifiers learn from it, a
recogniser listens to customers who say the digits while they key them, `scramble` is unscrambled, and of `tone` and of
the desk's progress the times alone are looked at. Each attack is tried where there is no mask, too: one that finds
nothing there is too weak to count.

Judged: decoders' hits are not beyond those of a permutation of the true keys (p < 0.001); classifiers' and the
recogniser's 99.9 % intervals include chance and end at most two points above it; of no key's samples one crosses.
Published and not judged: what `clamp` and `decoy` let a listener understand, and what can be made of a
`decoy`, which is heard in the merchant's bridge, by who knows the times of keys.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

import numpy as np
from scipy import stats

from bench import _leak_attacks as attacks
from bench import _leak_speech as understanding
from bench import _leak_times as moments
from bench import _leak_words as words
from bench.__main__ import progress
from bench._leak_material import CLASSES, Material, customers, operator_hears
from media.arrays import Int16
from media.dsp import clamp
from media.protocol import FRAME_SAMPLES, MaskMode

MODES: Final = tuple(mode for mode in MaskMode if mode is not MaskMode.OPEN)
CHANCE: Final = 1 / CLASSES
#: Modes that let words pass: their figures are published.
_PASSES_WORDS: Final = (MaskMode.CLAMP, MaskMode.DECOY)
_MOST_ABOVE_CHANCE: Final = 0.02
_LEAST_CONTROL: Final = 0.99
_LEAST_P: Final = 0.001
#: A classical scrambler must be undone at least as far, or the attack on ours is worth nothing.
_LEAST_UNDONE: Final = 0.7
_CONTROL_KEYS: Final = 4_000
_CONTROL_WORDS: Final = 2_000
_SEED: Final = 5
#: Of `customers`: talk before the keys.
_TALK: Final = (slice(1_600, 14_400),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--mode", type=MaskMode, choices=MODES, default=MaskMode.COMFORT_NOISE)
    parser.add_argument("--keys", type=int, default=12_000)
    parser.add_argument("--words", type=int, default=8_000, help="digits that are said while keyed; 0: none")
    parser.add_argument(
        "--captures", type=int, default=3_000, help="card numbers of which the times are attacked"
    )
    parser.add_argument(
        "--leak", type=float, default=0.0, help="share of the customer's audio to let through"
    )
    parser.add_argument("--seed", type=int, default=_SEED)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """See the module."""
    mode: MaskMode = options.mode
    delay = clamp.DELAY * FRAME_SAMPLES if mode is MaskMode.CLAMP else 0
    progress(f"{options.keys} keys of customers who talk")
    material = customers(options.keys, options.seed)
    progress(f"through {mode}")
    masked = operator_hears(material, mode, options.seed + 1, options.leak)
    result: dict[str, Any] = {"mode": str(mode), "keys": len(material.keys), "chance": round(CHANCE, 5)}
    result |= _keys(material, masked, delay, options.seed)
    if mode is MaskMode.CLAMP:
        result["talk"] = understanding.quality(material.audio, masked, delay, list(_TALK))
    progress("the same without a mask, to see whether the attack is worth anything")
    control = customers(min(options.keys, _CONTROL_KEYS), options.seed + 7)
    open_audio = operator_hears(control, MaskMode.OPEN, options.seed + 8)
    result |= {
        f"control_{name}": value for name, value in _keys(control, open_audio, 0, options.seed).items()
    }
    result["control_accuracy"] = result["control_classifier_accuracy"]
    if options.words:
        result |= _words(mode, options.words, delay, options.seed, options.leak)
    if mode is MaskMode.TONE and options.captures:
        result |= _times(options.captures, options.seed)
    result["wrong"] = _wrong(mode, result)
    result["correct"] = not result["wrong"]
    _print(result)
    return result


def _keys(material: Material, audio: Int16, delay: int, seed: int) -> dict[str, Any]:
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
    crossed = {
        name: attacks.remnants(audio, material.audio, material.keys, delay, part)
        for name, part in (("anywhere", attacks.anywhere), ("onset", attacks.onset), ("tail", attacks.tail))
    }
    found |= {
        "classifier_accuracy": best.accuracy,
        "classifier_ci999": [best.low, best.high],
        "classifiers": {one.by: one._asdict() for one in guesses},
        "keys_with_remnants": crossed["anywhere"],
        "remnants": crossed,
    }
    return found


def _words(mode: MaskMode, count: int, delay: int, seed: int, leak: float) -> dict[str, Any]:
    progress(f"{count} digits that are said and keyed")
    spoken = words.vocabulary()
    control = words.speakers(min(count, _CONTROL_WORDS), seed + 20, spoken, keying=False)
    open_audio = operator_hears(control.material, MaskMode.OPEN, seed + 21)
    best_open = max(words.recognise(open_audio, control, 0, seed), key=lambda one: one.accuracy)
    keyed = words.speakers(count, seed + 22, spoken, keying=True)
    heard = operator_hears(keyed.material, mode, seed + 23, leak)
    best = max(words.recognise(heard, keyed, delay, seed), key=lambda one: one.accuracy)
    found: dict[str, Any] = {
        "words": {"count": len(keyed.digits), "chance": 1 / words.DIGITS, **best._asdict()},
        "words_control_accuracy": best_open.accuracy,
        "words_intelligibility": understanding.intelligibility(keyed.material.audio, heard, delay),
    }
    if mode is MaskMode.SCRAMBLE:
        progress("the scrambler undone")
        undone = understanding.undo(keyed, heard, seed)
        classical = understanding.undo(control, understanding.classical(control), seed)
        stranger = np.roll(keyed.material.audio, 1, axis=0)
        p = stats.binomtest(
            round(undone.words.accuracy * len(keyed.digits)), len(keyed.digits), 1 / words.DIGITS, "greater"
        ).pvalue
        found["undone"] = {
            "words_accuracy": undone.words.accuracy,
            "words_p": round(min(1.0, float(p) * undone.attacks), 5),
            "words_by": undone.words_by,
            "intelligibility": undone.intelligibility,
            "intelligibility_by": undone.intelligibility_by,
            "intelligibility_of_a_stranger": understanding.intelligibility(keyed.material.audio, stranger),
            "classical_words_accuracy": classical.words.accuracy,
            "classical_intelligibility": classical.intelligibility,
            "classical_by": classical.intelligibility_by,
        }
    return found


def _times(captures: int, seed: int) -> dict[str, Any]:
    progress(f"the times alone, of {captures} card numbers")
    found: dict[str, Any] = {}
    for name, own_s in (("times", 0.012), ("times_exaggerated", 0.04)):
        rng = np.random.default_rng(seed + 40)
        digits, at = moments.rhythms(captures, rng, own_s=own_s)
        found[name] = {
            "beeps": moments.attack(digits, moments.beep_times(at, rng), seed)._asdict(),
            "live_events": moments.attack(digits, moments.notice_times(digits, at, rng), seed)._asdict(),
            "control": moments.attack(digits, at.tolist(), seed)._asdict(),
        }
    return found


def _beyond(one: dict[str, Any], chance: float) -> bool:
    return bool(one["low"] > chance or one["high"] > chance + _MOST_ABOVE_CHANCE)


def _said(one: dict[str, Any], chance: float) -> str:
    return f"{one['accuracy']:.2%} right, {one['low']:.2%} to {one['high']:.2%}, of {chance:.2%} by chance"


def _wrong(mode: MaskMode, result: dict[str, Any]) -> list[str]:
    """What does not pass, as sentences."""
    wrong = [
        f"{name} reads keys: {one['hits']} hits, {one['permuted_hits']} by chance, p {one['p']}"
        for name, one in result["decoders"].items()
        if one["p"] < _LEAST_P
    ]
    if mode is not MaskMode.DECOY:
        wrong += [
            f"{name}: {_said(one, CHANCE)}; few keys make a wide interval"
            for name, one in result["classifiers"].items()
            if _beyond(one, CHANCE)
        ]
        wrong += [
            f"samples of {count} keys crossed ({part})" for part, count in result["remnants"].items() if count
        ]
    if result["control_accuracy"] < _LEAST_CONTROL:
        wrong.append(f"the attack is too weak: {result['control_accuracy']:.2%} of open keys")
    if "words" in result:
        chance = result["words"]["chance"]
        if mode not in _PASSES_WORDS and _beyond(result["words"], chance):
            wrong.append(f"words: {_said(result['words'], chance)}; few words make a wide interval")
        if result["words_control_accuracy"] < _LEAST_CONTROL:
            wrong.append(f"the recogniser is too weak: {result['words_control_accuracy']:.2%} of open words")
    if undone := result.get("undone"):
        if undone["words_p"] < _LEAST_P:
            wrong.append(f"unscrambled: {undone['words_accuracy']:.2%} of the words, p {undone['words_p']}")
        if undone["classical_intelligibility"] < _LEAST_UNDONE:
            wrong.append("the attack on scramblers is too weak: it does not undo a classical one")
    if times := result.get("times"):
        wrong += [
            f"times of {name}: {_said(times[name], 0.1)}"
            for name in ("beeps", "live_events")
            if _beyond(times[name], 0.1)
        ]
        if times["control"]["low"] <= 0.1:
            wrong.append("the attack on times is too weak: it finds nothing in the keys' own times")
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
            print(f"    {name:22}{_said(one, CHANCE)}")
        print(f"    keys of which samples crossed: {result[f'{prefix}remnants']}")
    if "words" in result:
        print(f"    words said while keying: {_said(result['words'], result['words']['chance'])}")
        print(f"    words without a mask: {result['words_control_accuracy']:.2%}")
        print(f"    intelligibility (STOI): {result['words_intelligibility']}")
    for name in ("talk", "undone"):
        if name in result:
            print(f"    {name}: {result[name]}")
    for name in ("times", "times_exaggerated"):
        for what, one in result.get(name, {}).items():
            print(f"    {name}, {what}: {_said(one, 0.1)}")
    for sentence in result["wrong"]:
        print(f"  WRONG  {sentence}")
