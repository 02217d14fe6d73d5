"""Keys read while a decoy plays into the customer's bridge and the bridge returns a part of it.

Bridges are simulated, each with a delay of 60 to 450 ms and a dispersive path of its own; the same audio is heard
by the same detector with the canceller (`media.dsp.echo`) and without. At -12 dB and below, whatever the keys' level,
the canceller may miss one key in a thousand at most. Above that, or where the delay changes, the figures are published.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, Final

import numpy as np

from bench.__main__ import progress
from bench._echo_bridges import Bridge
from bench._echo_bridges import run as through
from bench._sounds import pcm_of, speech
from media.dsp.echo import Echoes
from media.protocol import FRAME_SAMPLES

_MOST_MISSED: Final = 0.001
_SEED: Final = 31
#: Legs of one simulation; more are more simulations.
_LEGS: Final = 60
_SECONDS: Final = 30.0


def _conditions() -> dict[str, tuple[Bridge, bool]]:
    """By name; whether the limit is required."""
    voice = pcm_of(speech(20.0, np.random.default_rng(_SEED)).codes).astype(float)
    return {
        "no echo, keys of -10 dBm0 after 0.5 s": (Bridge(echo_db=None, starts_after_s=0.5), True),
        "echo -30 dB, -19 dBm0": (Bridge(-19.0, -30.0), True),
        "echo -20 dB, -16 dBm0": (Bridge(-16.0, -20.0), True),
        "echo -12 dB, -4 dBm0": (Bridge(-4.0), True),
        "echo -12 dB, -10 dBm0": (Bridge(-10.0), True),
        "echo -12 dB, -16 dBm0": (Bridge(-16.0), True),
        "echo -12 dB, -22 dBm0": (Bridge(-22.0), True),
        "echo -12 dB, -10 dBm0, 1 % loss": (Bridge(-10.0, loss=0.01), True),
        "echo -12 dB, -13 dBm0, talk before": (Bridge(-13.0, speech=voice), False),
        "echo -12 dB, -10 dBm0, keys after 1 s": (Bridge(-10.0, starts_after_s=1.0), False),
        "echo -9 dB, -10 dBm0": (Bridge(-10.0, -9.0), False),
        "echo -6 dB, -10 dBm0": (Bridge(-10.0, -6.0), False),
        "echo -12 dB, -10 dBm0, delay changes": (Bridge(-10.0, moves_after_s=15.0), False),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--keys", type=int, default=9_000, help="keys for each condition, about; both laws")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """See the module."""
    rounds = max(2, round(options.keys / 4_850))
    conditions: dict[str, Any] = {}
    wrong: list[str] = []
    print(f"  {'condition':42}{'keys':>7}{'missed':>8}{'rate':>8}{'made up':>8}   without: missed, made up")
    for name, (bridge, required) in _conditions().items():
        progress(name)
        all_of = [through(bridge, _LEGS, _SECONDS, number % 2, _SEED + number) for number in range(rounds)]
        keys = sum(one.keys for one in all_of)
        row: dict[str, Any] = {
            "keys": keys,
            "missed": sum(one.missed for one in all_of),
            "invented": sum(one.invented for one in all_of),
            "missed_without": sum(one.missed_without for one in all_of),
            "invented_without": sum(one.invented_without for one in all_of),
            "late_missed": sum(one.late_missed for one in all_of),
            "late_keys": sum(one.late_keys for one in all_of),
            "required": required,
        }
        row["rate"] = round(row["missed"] / keys, 5)
        conditions[name] = row
        if required and row["rate"] > _MOST_MISSED:
            wrong.append(f"{name}: {row['missed']} of {keys} keys missed")
        print(
            f"  {name:42}{keys:7}{row['missed']:8}{row['rate']:8.3%}{row['invented']:8}"
            f"   {row['missed_without']:7}{row['invented_without']:8}"
        )
    costs = {"echo": _cost(returns=True), "no_echo": _cost(returns=False)}
    print(
        f"  the canceller costs {costs['echo']:.1f} us a leg and tick with an echo, {costs['no_echo']:.1f} without"
    )
    for sentence in wrong:
        print(f"  WRONG  {sentence}")
    return {"conditions": conditions, "us_per_leg_tick": costs, "wrong": wrong, "correct": not wrong}


def _cost(*, returns: bool, legs: int = 256) -> float:
    """Microseconds a leg and tick, all of `legs` with a decoy."""
    rng = np.random.default_rng(_SEED)
    rows, whole, echoes = np.arange(legs), np.ones(legs, np.bool_), Echoes(legs)
    pool = [rng.normal(0, 3_000, (legs, FRAME_SAMPLES)).astype(np.int16) for _ in range(47)]
    spent = []
    for tick in range(400):
        frames = (pool[(tick - 6) % 47] // 4 if returns else pool[(tick * 5 + 3) % 47]).copy()
        begin = time.perf_counter()
        echoes.take_out(rows, frames, whole)
        echoes.keep(rows, pool[tick % 47])
        spent.append(time.perf_counter() - begin)
    return round(float(np.mean(spent[-200:])) / legs * 1e6, 2)
