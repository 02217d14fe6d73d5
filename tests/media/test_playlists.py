"""Prompts and playlists: sample by sample, and exactly one end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from media.playlists import AudioQueues, Finished, Players, PromptStore


def prompt(value: int, frames: int) -> np.ndarray:
    return np.full(frames * 160, value, np.int16)


def played(players: Players, ticks: int, row: int = 0) -> tuple[list[int], list[Finished]]:
    heard, ends = [], []
    for _ in range(ticks):
        out = np.zeros((2, 160), np.int16)
        ends += players.mix(out)
        heard.append(int(out[row, 0]))
    return heard, ends


def make() -> Players:
    store = PromptStore()
    store.load(1, prompt(100, 2))
    store.load(2, prompt(200, 1))
    store.load(3, prompt(300, 0))
    return Players(store, 2)


def test_plays_in_order_and_ends_once() -> None:
    players = make()
    assert players.play(0, 7, (1, 3, 2), barge_in=False, repeat=False) == []
    heard, ends = played(players, 6)
    assert heard == [100, 100, 200, 0, 0, 0]
    assert ends == [Finished(0, 7, interrupted=False)]


def test_repeats_until_stopped() -> None:
    players = make()
    players.play(0, 7, (1, 2), barge_in=False, repeat=True)
    heard, ends = played(players, 7)
    assert heard == [100, 100, 200, 100, 100, 200, 100]
    assert not ends
    assert players.stop(0) == [Finished(0, 7, interrupted=True)]
    assert players.stop(0) == []


def test_replacing_and_barge_in() -> None:
    players = make()
    players.play(0, 7, (1,), barge_in=False, repeat=False)
    assert players.key_pressed(0) == []
    assert players.play(0, 8, (2,), barge_in=True, repeat=False) == [Finished(0, 7, interrupted=True)]
    assert players.key_pressed(0) == [Finished(0, 8, interrupted=True)]
    assert played(players, 2)[0] == [0, 0]


def test_nothing_to_play_ends_at_once() -> None:
    players = make()
    assert players.play(0, 1, (), barge_in=False, repeat=True) == [Finished(0, 1, interrupted=False)]
    assert players.play(0, 2, (3,), barge_in=False, repeat=True) == [Finished(0, 2, interrupted=False)]


def test_bridge_goes_on_softly_under_a_prompt() -> None:
    players = make()
    players.play(0, 7, (1,), barge_in=False, repeat=False)
    out = np.full((2, 160), 4000, np.int16)
    players.mix(out)
    assert out[0, 0] == 100 + 1000
    assert out[1, 0] == 4000


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 700)), max_size=40))
def test_store_keeps_prompts_apart(loads: list[tuple[int, int]]) -> None:
    store, lengths = PromptStore(), {}
    for number, frames in loads:
        if number in lengths and frames % 3 == 0:
            store.unload(number)
            del lengths[number]
        else:
            store.load(number, prompt(number + 1, frames))
            lengths[number] = frames
    for number, frames in lengths.items():
        start, end = store.run(number)
        assert end - start == frames
        assert (store.frames[start:end] == number + 1).all()


def test_queue_speaks_every_sample() -> None:
    queues, spoken = AudioQueues(), []
    samples = np.arange(1, 400, dtype=np.int16)
    queues.add(1, samples[:100])
    queues.add(1, samples[100:])
    assert queues.length(1) == 399
    while queues.length(1):
        out = np.zeros((2, 160), np.int16)
        queues.mix(out)
        spoken.append(out[1].copy())
    assert np.array_equal(np.concatenate(spoken)[:399], samples)
