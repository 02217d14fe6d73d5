"""The attacks of `bench leak`: decoders that know nothing, and a classifier that knows when every key was pressed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from scipy import optimize, signal, special, stats

from bench._dtmf_audio import score
from bench._dtmf_paths import straight
from bench._leak_material import Key
from bench._spandsp import load
from media.arrays import Float64, Int16
from media.dsp import tones

Decoder = Callable[[Int16], list[list[int]]]
_PERMUTATIONS: Final = 1_000
_MULTIMON_HZ: Final = 22_050
_CHARACTERS: Final = {character: code for code, character in enumerate("0123456789*#ABCD")}
#: Before and after each key; masks delay by up to half a second.
_BEFORE: Final = 480
_AFTER: Final = 2_400
_STEP: Final = 160
_BANDS: Final = 16
_HIDDEN: Final = 32
_ALPHA: Final = 0.001
#: The first and the last 60 ms of a key.
EDGE: Final = 480


def decoders() -> dict[str, Decoder | None]:
    """By name; None is one that is not installed."""
    spandsp = load()
    return {
        "ours": straight,
        "spandsp": spandsp.keys if spandsp else None,
        "multimon": _multimon if shutil.which("multimon-ng") else None,
    }


def _multimon(audio: Int16) -> list[list[int]]:
    found = []
    for row in audio:
        resampled = signal.resample_poly(row.astype(np.float64), 441, 160)
        data = np.rint(resampled).clip(-32_000, 32_000).astype("<i2").tobytes()
        command = ["multimon-ng", "-q", "-a", "DTMF", "-t", "raw", "-"]
        said = subprocess.run(command, input=data, capture_output=True, timeout=120, check=True).stdout
        found.append([_CHARACTERS[key] for key in re.findall(r"DTMF: (\S)", said.decode("ascii", "replace"))])
    return found


class Decoded(NamedTuple):
    """What a decoder got, against chance."""

    hits: int
    permuted_hits: float
    """Mean over permutations of who pressed what."""
    p: float
    found: int


def decode(decoder: Decoder, audio: Int16, keys: list[Key], seed: int) -> Decoded:
    """Hits in order, beside those in the keys of other customers."""
    pressed: list[list[int]] = [[] for _ in audio]
    for key in keys:
        pressed[key.leg].append(key.code)
    found = decoder(audio)
    total = sum(map(len, found))
    hits = score(pressed, found).hits
    if not total:
        return Decoded(0, 0.0, 1.0, 0)
    rng = np.random.default_rng(seed)
    some = [leg for leg, all_keys in enumerate(found) if all_keys]
    # A decoder that reads nearly everything needs no thousand permutations to be told from chance.
    rounds = _PERMUTATIONS if total < len(keys) / 20 else 20
    permuted = []
    for _ in range(rounds):
        order = rng.permutation(len(pressed))
        permuted.append(score([pressed[order[leg]] for leg in some], [found[leg] for leg in some]).hits)
    p = (1 + sum(one >= hits for one in permuted)) / (1 + rounds)
    if rounds < _PERMUTATIONS and p < 0.1:  # far beyond all of them: their spread says how far
        spread = max(float(np.std(permuted)), 1.0)
        p = float(stats.norm.sf((hits - float(np.mean(permuted))) / spread))
    return Decoded(hits, round(float(np.mean(permuted)), 1), round(p, 5), total)


def anywhere(key: Key) -> tuple[int, int]:
    """All of a key."""
    return key.start, key.end


def onset(key: Key) -> tuple[int, int]:
    """Its first 60 ms."""
    return key.start, min(key.end, key.start + EDGE)


def tail(key: Key) -> tuple[int, int]:
    """Its last 60 ms."""
    return max(key.start, key.end - EDGE), key.end


class Classified(NamedTuple):
    """How often the classifier named the key."""

    accuracy: float
    low: float
    high: float
    """99.9 % interval (Clopper and Pearson)."""
    by: str


def features(audio: Int16, keys: list[Key], delay: int) -> Float64:
    """What there is around each key: energies of the eight frequencies and of bands, in steps of 20 ms, and their sums.

    Args:
        audio: `(legs, samples)` of the operators.
        keys: whose times the attacker knows.
        delay: of the mask's path, samples, which the attacker knows as well.
    """
    width = _BEFORE + _AFTER
    padded = np.pad(audio.astype(np.float64), ((0, 0), (_BEFORE, width)))
    pieces = np.stack([padded[key.leg, key.start + delay :][:width] for key in keys])
    window = np.hanning(2 * _STEP)
    starts = range(0, width - 2 * _STEP + 1, _STEP)
    frames = np.stack([pieces[:, start : start + 2 * _STEP] for start in starts], axis=1) * window
    spectrum = np.abs(np.fft.rfft(frames, axis=2)) ** 2
    bands = np.stack([part.sum(axis=2) for part in np.array_split(spectrum, _BANDS, axis=2)], axis=2)
    time = np.arange(2 * _STEP) / 8000
    angles = np.exp(-2j * np.pi * np.outer(tones.ROW_FREQUENCIES_HZ + tones.COLUMN_FREQUENCIES_HZ, time))
    lines = np.abs(frames @ angles.T) ** 2
    whole = np.concatenate((lines.sum(axis=1), bands.sum(axis=1)), axis=1)
    each = np.concatenate((lines, bands), axis=2).reshape(len(keys), -1)
    logs = np.log(np.concatenate((each, whole), axis=1) + 1.0)
    spread = logs.std(axis=0)
    return np.asarray((logs - logs.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def classify(table: Float64, codes: np.ndarray, seed: int) -> list[Classified]:
    """A linear discriminant and a small neural net, each learning from one half and tried on the other, both ways."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(codes))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    found = []
    for name, learn in (("linear discriminant", _discriminant), ("neural net", _net)):
        right = 0
        for taught, tried in (halves, halves[::-1]):
            guess = learn(table[taught], codes[taught], table[tried], rng)
            right += int((guess == codes[tried]).sum())
        found.append(interval(right, len(codes), name))
    return found


def interval(right: int, total: int, by: str) -> Classified:
    """An accuracy with its 99.9 % interval."""
    low = stats.beta.ppf(_ALPHA / 2, right, total - right + 1) if right else 0.0
    high = stats.beta.ppf(1 - _ALPHA / 2, right + 1, total - right) if right < total else 1.0
    return Classified(round(right / total, 5), round(float(low), 5), round(float(high), 5), by)


def _discriminant(taught: Float64, codes: np.ndarray, tried: Float64, _: Any) -> np.ndarray:
    """Fisher's, with a common covariance that is shrunk a little."""
    means = np.stack([taught[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
    centred = taught - means[codes]
    covariance = centred.T @ centred / len(taught)
    covariance += np.eye(len(covariance)) * (0.01 * np.trace(covariance) / len(covariance) + 1e-6)
    weights = np.linalg.solve(covariance, means.T)
    scores = tried @ weights - 0.5 * np.einsum("cf,fc->c", means, weights)
    return np.asarray(scores.argmax(axis=1))


def _net(taught: Float64, codes: np.ndarray, tried: Float64, rng: np.random.Generator) -> np.ndarray:
    """One hidden layer, learnt by L-BFGS with a penalty on its weights."""
    inputs = taught.shape[1]
    classes = int(codes.max()) + 1
    shapes = ((inputs, _HIDDEN), (_HIDDEN,), (_HIDDEN, classes), (classes,))
    sizes = [int(np.prod(shape)) for shape in shapes]
    wanted = np.eye(classes)[codes]

    def parts(flat: Float64) -> list[Float64]:
        return [
            piece.reshape(shape)
            for piece, shape in zip(np.split(flat, np.cumsum(sizes)[:-1]), shapes, strict=True)
        ]

    def cost(flat: Float64) -> tuple[float, Float64]:
        first, first_bias, second, second_bias = parts(flat)
        hidden = np.tanh(taught @ first + first_bias)
        logits = hidden @ second + second_bias
        excess = special.softmax(logits, axis=1) - wanted
        loss = -np.mean(np.sum(wanted * special.log_softmax(logits, axis=1), axis=1))
        excess /= len(taught)
        back = (excess @ second.T) * (1 - hidden**2)
        gradients = (taught.T @ back, back.sum(axis=0), hidden.T @ excess, excess.sum(axis=0))
        penalty = 1e-4
        flat_gradient = np.concatenate([gradient.ravel() for gradient in gradients]) + penalty * flat
        return float(loss + penalty / 2 * flat @ flat), flat_gradient

    start = np.concatenate([rng.normal(0, 1 / np.sqrt(shape[0]), shape).ravel() for shape in shapes])
    best = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 80}).x
    first, first_bias, second, second_bias = parts(best)
    guess = (np.tanh(tried @ first + first_bias) @ second + second_bias).argmax(axis=1)
    return np.asarray(guess)


def remnants(
    operator: Int16,
    material_audio: Int16,
    keys: list[Key],
    delay: int,
    part: Callable[[Key], tuple[int, int]],
) -> int:
    """Keys of which the operator heard samples as they were said, in a part of them.

    Forty samples in a row that equal the customer's, in a stretch that is no silence, are no chance.
    """
    run, found = 40, 0
    for key in keys:
        low, high = part(key)
        said = material_audio[key.leg, low:high].astype(np.int32)
        heard = operator[key.leg, low + delay : high + delay].astype(np.int32)
        said = said[: len(heard)]
        same = (np.abs(said - heard) <= np.abs(said) // 16 + 8) & (np.abs(said) > 200)
        counted = np.convolve(same, np.ones(run), "valid") if len(same) >= run else np.zeros(1)
        found += bool((counted >= run * 0.8).any())
    return found
