"""RFC 4733: one press, one key, whatever the sender or the network does to it."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from media.rtp.telephone_event import EventPress, EventReceiver, EventSender

Packet = tuple[bool, int, int, bool, int]
"""Marker, timestamp, event, end, duration."""


def press(key: int, start: int, duration: int = 800) -> list[Packet]:
    """A press as the RFC wants it."""
    updates: list[Packet] = [(d == 160, start, key, False, d) for d in range(160, duration, 160)]
    return [*updates, *[(False, start, key, True, duration)] * 3]


def receive(receiver: EventReceiver, packets: list[Packet], ssrc: int = 1, row: int = 0) -> list[EventPress]:
    found: list[EventPress] = []
    for marker, timestamp, event, end, duration in packets:
        payload = bytes((event, 0x8A if end else 0x0A)) + duration.to_bytes(2, "big")
        found += receiver.receive(
            np.array([row]),
            np.array([ssrc], np.uint32),
            np.array([timestamp & 0xFFFFFFFF], np.uint32),
            np.array([marker]),
            np.frombuffer(payload, np.uint8)[None],
        )
    return found


def keys(packets: list[Packet]) -> list[int]:
    return [found.key for found in receive(EventReceiver(2), packets)]


def test_clean_presses() -> None:
    assert keys(press(1, 1000) + press(1, 2440) + press(15, 4000)) == [1, 1, 15]


def test_first_packet_is_enough() -> None:
    found = receive(EventReceiver(1), press(7, 5000)[:1])
    assert found == [EventPress(0, 7, 5000, 1)]


def test_lost_start_and_lost_ends() -> None:
    assert keys(press(3, 0)[2:] + press(3, 1600)[:-3] + press(3, 3200)[-1:]) == [3, 3, 3]


def test_no_marker_anywhere() -> None:
    assert keys([(False, *rest) for _, *rest in press(3, 0) + press(3, 1500)]) == [3, 3]


def test_marker_on_every_packet() -> None:
    assert keys([(True, *rest) for _, *rest in press(3, 0) + press(3, 1500)]) == [3, 3]


def test_ends_repeated_with_another_timestamp() -> None:
    ends = [(False, 800 + 160 * n, 4, True, 800) for n in range(1, 3)]
    assert keys(press(4, 0)[:-2] + ends) == [4]


def test_timestamp_that_moves_with_every_packet() -> None:
    moving = [(n == 0, n * 160, 6, n > 7, min(n, 8) * 160 + 160) for n in range(10)]
    assert keys(moving) == [6]


def test_event_longer_than_its_duration_field() -> None:
    first = [(n == 0, 0, 9, False, min(160 + n * 160, 65535)) for n in range(410)]
    second = [(False, 65535, 9, n > 10, 160 + n * 160) for n in range(14)]
    assert keys(first + second) == [9]


def test_two_quick_presses_of_one_key() -> None:
    assert keys(press(5, 0, 400) + press(5, 640, 400)) == [5, 5]


def test_late_packet_of_the_press_before() -> None:
    one, two = press(5, 0, 400), press(5, 640, 400)
    assert keys(one[:2] + two[:1] + one[2:] + two[1:]) == [5, 5]


def test_wrapping_timestamp() -> None:
    assert keys(press(2, 0xFFFFFF00) + press(2, 0xFFFFFF00 + 1600)) == [2, 2]


def test_flash_and_unknown_events_are_no_keys() -> None:
    assert keys(press(16, 0) + press(200, 3000)) == []


def test_legs_are_apart_and_forgotten() -> None:
    receiver = EventReceiver(2)
    assert len(receive(receiver, press(1, 0), row=0)) == 1
    assert len(receive(receiver, press(1, 0), row=1)) == 1
    receiver.clear(0)
    assert len(receive(receiver, press(1, 0), row=0)) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.integers(40, 300), st.integers(40, 200)), min_size=1, max_size=12
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=150)
def test_loss_duplication_and_reordering(presses: list[tuple[int, int, int]], chance: random.Random) -> None:
    """Never a double or a phantom; lost only when every packet of the event is lost."""
    start, packets, expected = 0, [], []
    for key, tone_ms, pause_ms in presses:
        duration = tone_ms * 8
        made = [p for p in press(key, start, duration) for _ in range(chance.choice((0, 0, 1, 1, 2)))]
        expected += [key] if made else []
        packets += made
        start += duration + pause_ms * 8
    order = sorted(range(len(packets)), key=lambda at: at + chance.uniform(0, 3))
    assert sorted(keys([packets[at] for at in order])) == sorted(expected)


def test_sender_follows_the_rfc() -> None:
    sender = EventSender()
    sender.add(11, 100)
    made = []
    replaced = 0
    for tick in range(12):
        replaced += sender.replaces_audio
        made.append(sender.packet(tick * 160))
    packets = [p for p in made if p]
    assert [p.marker for p in packets] == [True] + [False] * 6
    assert {p.timestamp for p in packets} == {0}
    assert [int.from_bytes(p.payload[2:], "big") for p in packets] == [160, 320, 480, 640, 800, 800, 800]
    assert [bool(p.payload[1] & 0x80) for p in packets] == [False] * 4 + [True] * 3
    assert {p.payload[0] for p in packets} == {11}
    assert replaced == 5
    assert not sender


@given(st.lists(st.integers(0, 15), min_size=1, max_size=6), st.integers(20, 200))
def test_sent_keys_are_received(wanted: list[int], duration_ms: int) -> None:
    sender, packets, tick = EventSender(), [], 0
    for key in wanted:
        sender.add(key, duration_ms)
    while sender:
        made = sender.packet(tick * 160)
        tick += 1
        if made:
            event, flags, high, low = made.payload
            packets.append((made.marker, made.timestamp, event, bool(flags & 0x80), high << 8 | low))
    assert keys(packets) == wanted
