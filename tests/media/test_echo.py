"""The echo of our own decoy does not hide a customer's keys, and nothing else is taken out of what they say.

`python -m bench echo` does it with thousands of keys for each condition.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from bench._echo_bridges import Bridge, run
from media.dsp import tones
from media.dsp.echo import Echoes
from media.engine import Engine
from media.protocol import Connect, Disconnect, KeyPressed, MaskMode, Play, SetMask
from tests.media.support import add, keys_of, remote_of, udp_socket

FRAME = 160


def noise(seed: int, frames: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3_000, (frames, FRAME)).astype(np.int16)


@pytest.mark.parametrize(("key_dbm0", "law"), [(-4.0, 1), (-10.0, 0), (-19.0, 0)])
def test_keys_are_read_through_an_echo(key_dbm0: float, law: int) -> None:
    outcome = run(Bridge(key_dbm0), legs=20, seconds=12, law=law, seed=4)
    assert outcome.keys > 500
    assert outcome.missed <= 1 and outcome.invented <= 1
    if key_dbm0 < -4:
        assert outcome.missed_without > outcome.keys // 10


def test_without_an_echo_nothing_is_missed() -> None:
    outcome = run(Bridge(echo_db=None, starts_after_s=0.5), legs=20, seconds=10, law=0, seed=5)
    assert (outcome.missed, outcome.invented) == (0, 0)


def test_a_delay_that_changes_is_found_again() -> None:
    outcome = run(Bridge(-10.0, moves_after_s=6.0), legs=20, seconds=20, law=0, seed=6)
    assert outcome.late_keys > 300
    assert outcome.late_missed <= outcome.late_keys // 100


def test_what_is_no_echo_is_left_as_it_is() -> None:
    echoes, rows, whole = Echoes(2), np.array([1]), np.ones(2, np.bool_)
    for number in range(150):
        frames = noise(number, 2)
        before = frames.copy()
        echoes.take_out(rows, frames, whole)
        echoes.keep(rows, noise(number + 1_000))
        assert np.array_equal(frames, before)


def test_frames_that_did_not_arrive_and_other_legs_are_not_touched() -> None:
    echoes, rows = Echoes(2), np.array([1])
    sent = [noise(number) for number in range(200)]
    changed = 0
    for number in range(200):
        echo = sent[number - 5][0] // 3 if number >= 5 else np.zeros(FRAME, np.int16)
        frames = np.stack((noise(number + 500)[0], echo))
        before, there = frames.copy(), np.array([True, number % 7 > 0])
        echoes.take_out(rows, frames, there)
        echoes.keep(rows, sent[number])
        assert np.array_equal(frames[0], before[0])
        if there[1]:
            changed += not np.array_equal(frames[1], before[1])
        else:
            assert np.array_equal(frames[1], before[1])
    assert changed > 100


def test_a_clear_row_knows_nothing() -> None:
    echoes, rows, whole = Echoes(2), np.arange(2), np.ones(2, np.bool_)
    fresh = Echoes(2)
    for number in range(60):
        echoes.take_out(rows, noise(number, 2), whole)
        echoes.keep(rows, noise(number + 1, 2))
    echoes.clear(0)
    for name, column in vars(fresh).items():
        if isinstance(column, np.ndarray):
            assert np.array_equal(getattr(echoes, name)[0], column[0]), name
    assert echoes.sent[1].any() and echoes.products[1].any()


def test_loud_frames_do_not_wrap() -> None:
    echoes, rows, whole = Echoes(1), np.arange(1), np.ones(1, np.bool_)
    sent = [
        np.full((1, FRAME), 32_767, np.int16) * sign for sign in np.resize([1, -1, -1], 150).astype(np.int16)
    ]
    for number in range(150):
        frames = sent[number - 3].copy() if number >= 3 else np.zeros((1, FRAME), np.int16)
        if number > 120:
            frames = -frames
            before = frames.copy()
        echoes.take_out(rows, frames, whole)
        echoes.keep(rows, sent[number])
        if number > 120:
            assert (np.sign(frames) * np.sign(before) >= 0).all()


def test_an_engine_reads_keys_through_the_echo_of_its_decoy() -> None:
    with contextlib.ExitStack() as held:
        here, there = held.enter_context(udp_socket()), held.enter_context(udp_socket())
        switch = Engine([here], rng=np.random.default_rng(1), capacity=8)
        bridge = Engine([there], rng=np.random.default_rng(2), capacity=8)
        add(switch, 1, remote_of(there))
        add(bridge, 1, remote_of(here))
        switch.execute(Connect(seq=2, source=1, destination=1, mask=MaskMode.DECOY))
        keys = [4, 1, 1, 9, 7, 2, 6, 8]
        customer = np.concatenate(
            (tones.silence(4_000), tones.key_sequence(keys, 90, 160, -13.0), tones.silence(500))
        )
        customer = customer[: len(customer) // FRAME * FRAME].reshape(-1, FRAME)
        events, line = [], [np.zeros(FRAME, np.int16)] * 6
        for frame in customer:
            bridge.queue_audio(1, (frame + line.pop(0) // 4).astype(np.int16))
            bridge.tick()
            events += switch.tick()
            line.append(bridge.received_pcm(1).copy())
        assert keys_of(events, 1) == keys
        assert switch.echoes.sent.any()
        switch.execute(Disconnect(seq=3, source=1, destination=1))
        switch.tick()
        assert not switch.echoes.sent.any() and not switch.echoes.products.any()
        assert all(isinstance(event, KeyPressed) for event in events)


def test_a_prompt_does_not_lower_the_decoy() -> None:
    """Keys may be pressed while it speaks."""
    with udp_socket() as here, udp_socket() as there:
        switch = Engine([here], rng=np.random.default_rng(1), capacity=8)
        add(switch, 1, remote_of(there))
        switch.load_prompt(7, np.zeros(FRAME * 40, np.int16))

        def level() -> float:
            heard = []
            for _ in range(20):
                switch.tick()
                heard.append(switch.sent_pcm(1).astype(float))
            return float(np.sqrt(np.mean(np.square(heard))))

        switch.execute(Connect(seq=2, source=1, destination=1, mask=MaskMode.DECOY))
        alone = level()
        switch.execute(Play(seq=3, leg=1, playlist=1, prompts=(7,)))
        assert level() == pytest.approx(alone, rel=0.2)
        switch.execute(SetMask(seq=4, source=1, destination=1, mask=MaskMode.SILENCE))
        assert level() == 0
        assert (switch.players.shift > 0).all()
