"""The attack on times alone: what the moments of beeps and of progress on the desk tell about digits.

Customers key card numbers with the rhythm of a hand: the farther the next key, the longer the way there, and each key
is held for its own time. The attacker has thousands of captures with their digits, and of the one in question only when
something happened: the beeps of the mask `tone`, or the notices of the live event stream, which the dialogue itself
makes here and the clock of `sipivr.calls.progress` publishes. The same attack on the true times of the keys shows
what rhythm would give away.
"""

from __future__ import annotations

from datetime import date
from typing import Final

import numpy as np

from bench._leak_attacks import Classified, classify, interval
from media.arrays import Float64
from media.dsp import beeps
from media.protocol import TICK_MS
from sipivr.calls.progress import BEAT_S
from sipivr.card import Brand
from sipivr.dialogue import Dialogue, Ending, SessionSnapshot, effects, events

#: A card number's digits that are free: the first says the brand, the last is a check digit.
PLACES: Final = range(1, 15)
_LENGTH: Final = 16
#: Where the keys lie on a telephone, in keys.
_PAD: Final = np.array([(3, 1), *((row, column) for row in range(3) for column in range(3))], np.float64)
_BEGIN_S: Final = 2.0
_MOST_EVENTS: Final = 40


def rhythms(captures: int, rng: np.random.Generator, *, own_s: float = 0.012) -> tuple[np.ndarray, Float64]:
    """Digits `(captures, 16)` and when each is pressed, seconds from the mask's beginning.

    Args:
        captures: how many.
        rng: draws them.
        own_s: by so much longer is each digit held than the one before it on the list; a hand knows no such order.
    """
    digits = rng.integers(0, 10, (captures, _LENGTH))
    digits[:, 0] = 4
    way = np.linalg.norm(np.diff(_PAD[digits], axis=1), axis=2)
    gaps = 0.22 + 0.09 * way + own_s * digits[:, :-1] + rng.normal(0, 0.03, way.shape)
    gaps[:, 3::4] += rng.uniform(0.1, 0.6, gaps[:, 3::4].shape)
    pace = rng.uniform(0.8, 1.4, (captures, 1))
    begin = _BEGIN_S + rng.uniform(0, 3, (captures, 1))
    at = begin + np.concatenate(
        (np.zeros((captures, 1)), np.cumsum(np.maximum(gaps, 0.1) * pace, axis=1)), axis=1
    )
    return digits, at


def beep_times(at: Float64, rng: np.random.Generator) -> list[list[float]]:
    """When the mask `tone` begins each beep, for each capture."""
    captures, rows = len(at), np.arange(len(at))
    state = beeps.Beeps(captures)
    for row in range(captures):
        state.start(row, int(rng.integers(beeps.GRID_TICKS)), allowed=True)
    ticks = np.floor(at * 1000 / TICK_MS).astype(int)
    began: list[list[float]] = [[] for _ in rows]
    silent = np.full(captures, True)
    for tick in range(int(ticks.max()) + 4 * beeps.GRID_TICKS):
        frames = beeps.choose(state, rows, (ticks == tick).any(axis=1))
        sounding = frames < beeps.BEEP_FRAMES
        for row in np.flatnonzero(sounding & silent).tolist():
            began[row].append(tick * TICK_MS / 1000)
        silent = ~sounding
    return began


def notice_times(digits: np.ndarray, at: Float64, rng: np.random.Generator) -> list[list[float]]:
    """When the desk is shown something new, for each capture: the dialogue's progress on the node's clock."""
    return [
        _notices(row.tolist(), times.tolist(), float(rng.uniform(0, BEAT_S)))
        for row, times in zip(digits, at, strict=True)
    ]


def _notices(digits: list[int], at: list[float], phase: float) -> list[float]:
    dialogue = Dialogue(language="en", identification_lengths=(8,), ending=Ending.TRANSFER_RETURN)
    session = SessionSnapshot(
        session_id="ps_1",
        shop_name="Shop",
        amount=100,
        currency="JPY",
        language="en",
        accepted_brands=frozenset(Brand),
        today=date(2026, 11, 26),
    )
    shown: list[tuple[float, object]] = []

    timers: dict[effects.TimerName, tuple[float, int]] = {}

    def feed(event: events.Event, now: float) -> None:
        waiting: list[events.Event] = [event]
        while waiting:
            for effect in dialogue.handle(waiting.pop(0)):
                match effect:
                    case effects.Play(playlist=playlist):
                        waiting.append(events.PlayFinished(playlist, interrupted=False))
                    case effects.ClaimSession(request=request):
                        waiting.append(events.SessionClaimed(request, session))
                    case effects.ApplyMask(request=request):
                        waiting.append(events.MaskApplied(request))
                    case effects.PublishProgress():
                        shown.append((now, effect))
                    case effects.StartTimer(name=name, generation=generation, seconds=seconds):
                        timers[name] = now + seconds, generation
                    case effects.StopTimer(name=name):
                        timers.pop(name, None)

    feed(events.CustomerConnected(), 0.0)
    for key in (1, 2, 3, 4, 5, 6, 7, 8):
        feed(events.KeyPressed(key), 0.0)
    for digit, time in zip(digits, at, strict=True):
        while timers and (due := min(timers.items(), key=lambda one: one[1]))[1][0] <= time:
            name, (when, generation) = due
            del timers[name]
            feed(events.TimerFired(name, generation), when)
        feed(events.KeyPressed(digit), time)
    beats: dict[int, object] = {}
    for time, effect in shown:
        beats[int((time - phase) // BEAT_S) + 1] = effect  # the last before a beat is what is published
    told, before = [], None
    for beat, effect in sorted(beats.items()):
        if effect != before:
            told.append(phase + beat * BEAT_S)
            before = effect
    return told


def attack(digits: np.ndarray, times: list[list[float]], seed: int) -> Classified:
    """How often the better classifier names a digit from the times of a capture's events, all free places together."""
    table = np.zeros((len(times), 2 * _MOST_EVENTS))
    for row, all_times in enumerate(times):
        first = all_times[:_MOST_EVENTS]
        if first:
            table[row, : len(first)] = np.array(first) - first[0]
            table[row, _MOST_EVENTS : _MOST_EVENTS + len(first) - 1] = np.diff(first)
    spread = table.std(axis=0)
    table = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    right: dict[str, int] = {}
    for place in PLACES:
        for one in classify(table, digits[:, place], seed + place):
            right[one.by] = right.get(one.by, 0) + round(one.accuracy * len(digits))
    best = max(right, key=lambda name: right[name])
    return interval(right[best], len(PLACES) * len(digits), best)
