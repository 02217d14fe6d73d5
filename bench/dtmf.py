"""Keys in band: the table of ITU-T Q.24, card numbers through bad lines, speech without keys, and what it costs.

Each condition is keyed on many legs under both laws and heard by our detector and, on the very same samples, by
spandsp's (`libspandsp2`), with the limits that each has by itself. An independent reference (scipy) checks the tones
first. Where packets are lost, ours and spandsp hear what our jitter buffer and concealment made of it; ours also knows
which samples are made up, spandsp does not. `--out` gets plots and, as JSON, everything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench import _dtmf_cost, _dtmf_numbers, _dtmf_talkoff
from bench.__main__ import progress
from bench._dtmf_audio import KEYS_OF_A_LEG, Keyed, Keying, Score, deviations, keyed, score
from bench._dtmf_conditions import CONDITIONS, SWEEPS, Condition
from bench._dtmf_paths import carried, straight
from bench._dtmf_speech import HOW_TO_GET, sources
from bench._spandsp import Spandsp, load
from media.arrays import Float64

_SEED: Final = 24
#: The NTT column of Q.24: 6 false keys in 46 hours.
_MOST_FALSE_PER_HOUR: Final = 6 / 46


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--keys", type=int, default=4_000, help="keys for each condition, both laws together")
    parser.add_argument("--numbers", type=int, default=10_000, help="card numbers for each rhythm")
    parser.add_argument("--no-speech", action="store_true", help="leave out the hours without keys")
    parser.add_argument("--sweep-keys", type=int, default=640, help="keys for each point of the plots")
    parser.add_argument("--out", type=Path, default=Path("var/bench/dtmf"), help="where plots are written")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """See the module."""
    options.out.mkdir(parents=True, exist_ok=True)
    reference = load()
    if reference is None:
        progress("libspandsp2 is not there (apt-get install libspandsp2): no comparison")
    wrong = [f"{each.name}: {one}" for each in CONDITIONS for one in deviations(each.keying)]
    for sentence in wrong[:5]:
        progress(f"WRONG: the reference does not agree: {sentence}")
    speech = [] if options.no_speech else sources(progress)
    if not options.no_speech and not any(one.kind == "recorded" for one in speech):
        progress(f"no recorded speech; {HOW_TO_GET}")
    legs = max(2, options.keys // KEYS_OF_A_LEG // 2)
    prompts = speech[-1].samples if speech else np.random.default_rng(1).standard_normal(400_000) * 16_000
    conditions = {each.name: _condition(each, legs, prompts, reference) for each in CONDITIONS}
    result: dict[str, Any] = {"conditions": conditions, "reference_agrees": not wrong}
    result |= _numbers(options.numbers)
    result |= _cost()
    if speech:
        result |= _dtmf_talkoff.run(speech, reference, progress)
    result["sweeps"] = _sweeps(max(1, options.sweep_keys // KEYS_OF_A_LEG), reference)
    _plot(result["sweeps"], options.out / "sweeps.png")
    result["missed"] = _missed(result)
    result["correct"] = not wrong and not result["missed"]
    _print(result)
    (options.out / "dtmf.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _heard(one: Keyed, reference: Spandsp | None) -> tuple[list[list[int]], list[list[int]]]:
    if one.lost is None:
        ours, audio = straight(one.audio), one.audio
    else:
        ours, audio = carried(one.audio, one.lost)
    return ours, reference.keys(audio) if reference else [[] for _ in ours]


def _scored(
    keying: Keying, legs: int, prompts: Float64, reference: Spandsp | None, seed: int
) -> tuple[Score, Score]:
    """Both laws together."""
    pressed: list[list[int]] = []
    found: tuple[list[list[int]], list[list[int]]] = ([], [])
    for law in (0, 1):
        one = keyed(keying, legs, law, seed + law, prompts)
        pressed += one.keys
        for all_keys, keys in zip(found, _heard(one, reference), strict=True):
            all_keys.extend(keys)
    return score(pressed, found[0]), score(pressed, found[1])


def _condition(each: Condition, legs: int, prompts: Float64, reference: Spandsp | None) -> dict[str, Any]:
    progress(each.name)
    ours, theirs = _scored(each.keying, legs, prompts, reference, _SEED)
    row: dict[str, Any] = {"keys": ours.pressed, "ours": round(ours.rate, 5), "ours_false": ours.false}
    if reference:
        row |= {"spandsp": round(theirs.rate, 5), "spandsp_false": theirs.false}
    if each.most is None:
        row["required"] = f">= {each.least}"
        met = ours.rate >= each.least
        if reference:
            row["as_good_as_spandsp"] = ours.rate >= theirs.rate and ours.false <= theirs.false
    else:
        row["required"] = f"<= {each.most}"
        met = ours.rate <= each.most
        if reference:
            row["as_good_as_spandsp"] = ours.rate <= max(theirs.rate, each.most)
    row["met"] = met and (ours.false == 0 or not each.nothing_false)
    return row


def _numbers(count: int) -> dict[str, Any]:
    found = {}
    for rhythm in _dtmf_numbers.RHYTHMS:
        name = f"{rhythm.tone_ms}/{rhythm.pause_ms} ms"
        progress(f"{count} card numbers, {name}, 1 % loss")
        found[name] = _dtmf_numbers.run(rhythm, count)
    return {"numbers": found}


def _cost() -> dict[str, Any]:
    """Both detectors on legs that talk, of which one in eight keys, and that all key: in a process as workers are."""
    progress(f"cost at {_dtmf_cost.LEGS} legs")
    finished = subprocess.run(
        [sys.executable, "-m", "bench._dtmf_cost"],
        env={**os.environ, **dict.fromkeys(_dtmf_cost.ONE_THREAD, "1")},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(finished.stdout)
    return {"cost": found, **{key: value for key, value in found.items() if "keying" not in key}}


def _sweeps(legs: int, reference: Spandsp | None) -> dict[str, Any]:
    silence = np.zeros(1)
    found: dict[str, Any] = {}
    for name, unit, values, keying in SWEEPS:
        progress(f"sweep: {name}")
        scores = [_scored(keying(value), legs, silence, reference, _SEED) for value in values]
        found[name] = {
            "unit": unit,
            "values": list(values),
            "ours": [round(ours.rate, 4) for ours, _ in scores],
            "spandsp": [round(theirs.rate, 4) for _, theirs in scores] if reference else [],
        }
    return found


def _plot(sweeps: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only this bench pays

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), layout="constrained")
    for axis, (name, sweep) in zip(axes.flat, sweeps.items(), strict=True):
        axis.plot(sweep["values"], sweep["ours"], "o-", label="sipivr")
        if sweep["spandsp"]:
            axis.plot(sweep["values"], sweep["spandsp"], "s--", label="spandsp")
        axis.set(xlabel=f"{name}, {sweep['unit']}", ylabel="keys found", ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _missed(result: dict[str, Any]) -> list[str]:
    """What was asked for and is not so, as sentences."""
    missed = [f"{name}: {row['required']}" for name, row in result["conditions"].items() if not row["met"]]
    missed += [
        f"{name}: spandsp does better"
        for name, row in result["conditions"].items()
        if not row.get("as_good_as_spandsp", True)
    ]
    for name, row in result["numbers"].items():
        if row["whole"] < row["required"] or row["wrong_luhn"]:
            missed.append(f"numbers at {name}: {row['whole']} of {row['numbers']} whole")
    for name, value in result["cost"].items():
        ours = name.removeprefix("spandsp_")
        # Not all of a thousand customers key in the same moment; the figure is shown.
        if ours != name and not ours.startswith("all_") and result["cost"][ours] > value:
            missed.append(f"cost: {ours}")
    false = result.get("talkoff_false_per_hour")
    if false is not None:
        if false > _MOST_FALSE_PER_HOUR:
            missed.append("talk-off: more than 6 keys in 46 hours")
        if false > result.get("spandsp_talkoff_false_per_hour", false):
            missed.append("talk-off: spandsp does better")
    return missed


def _print(result: dict[str, Any]) -> None:
    print(f"  {'condition':42}{'keys':>6}{'ours':>9}{'false':>6}{'spandsp':>9}{'false':>6}  required")
    for name, row in result["conditions"].items():
        mark = "" if row["met"] else "  MISSED"
        theirs = f"{row.get('spandsp', float('nan')):9.2%}{row.get('spandsp_false', 0):6}"
        print(
            f"  {name:42}{row['keys']:6}{row['ours']:9.2%}{row['ours_false']:6}{theirs}  {row['required']}{mark}"
        )
    for name, row in result["numbers"].items():
        print(f"  numbers {name}: {', '.join(f'{key} {value}' for key, value in row.items())}")
    for name, value in result["cost"].items():
        print(f"  {name:42}{value:6} ns")
    for kind, row in result.get("talkoff", {}).items():
        print(f"  without keys, {kind}: {', '.join(f'{key} {value}' for key, value in row.items())}")
    for sentence in result["missed"]:
        print(f"  MISSED  {sentence}")
