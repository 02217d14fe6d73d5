"""Keys by all ways into an engine, as packets and commands come: one press, one key."""

from __future__ import annotations

import random
import socket
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.dsp import tones
from media.dsp.g711 import ENCODE
from media.engine import Engine
from media.protocol import (
    Acknowledged,
    AnyEvent,
    Codec,
    DTMFMode,
    HearKey,
    KeyPressed,
    KeyWay,
    Refused,
    UpdateLeg,
)
from media.rtp.packet import header
from tests.media.support import add, keys_of, of_type, remote_of, udp_socket

SSRC = 5
MS = 8


class Press(NamedTuple):
    key: int
    start_ms: int
    tone_ms: int = 50


class Gateway:
    """Tells presses to an engine: as tones, as events whose packets come late by some time, as INFO."""

    def __init__(self, presses: list[Press], *, event_late_ms: int = 0, event_off_ms: int = 0) -> None:
        self.presses = presses
        length = max(press.start_ms + press.tone_ms for press in presses) + 500
        self.audio = np.zeros(length // 20 * 160, np.int16)
        self.packets: dict[int, list[bytes]] = {}
        """Events by the tick in which they come."""
        for press in presses:
            tone = tones.dtmf_tone(press.key, press.tone_ms, -10)
            start = press.start_ms * MS
            self.audio[start : start + len(tone)] = tone
            begin = start + event_off_ms * MS
            steps = max(1, press.tone_ms // 20)
            for step in range(steps + 2):
                end = step >= steps - 1
                duration = min(step + 1, steps) * 160
                payload = bytes((press.key, 0x8A if end else 0x0A)) + duration.to_bytes(2, "big")
                tick = begin // 160 + 1 + step + event_late_ms // 20
                head = header(101, 0, begin & 0xFFFFFFFF, SSRC, marker=step == 0)
                self.packets.setdefault(tick, []).append(head + payload)

    def play(self, engine: Engine, sock: socket.socket, *, tone: bool, events: bool) -> list[AnyEvent]:
        to, sequence, heard = engine.sockets[0].getsockname(), 0, []
        codes = ENCODE[0][self.audio.view(np.uint16)].reshape(-1, 160)
        for tick, frame in enumerate(codes):
            audio = frame if tone else np.full(160, 0xFF, np.uint8)
            sock.sendto(header(0, sequence, tick * 160, SSRC) + audio.tobytes(), to)
            sequence += 1
            for packet in self.packets.get(tick, []) if events else []:
                sock.sendto(packet[:2] + sequence.to_bytes(2, "big") + packet[4:], to)
                sequence += 1
            heard += engine.tick()
        return heard + [event for _ in range(6) for event in engine.tick()]


def told(gateway: Gateway, *, tone: bool, events: bool) -> list[int]:
    with udp_socket() as peer, udp_socket() as ours:
        engine = Engine([ours], capacity=8)
        add(engine, 1, remote_of(peer))
        return keys_of(gateway.play(engine, peer, tone=tone, events=events))


SAME_TWICE = [Press(5, 100), Press(5, 180)]


@pytest.mark.parametrize(("tone", "events"), [(True, False), (False, True), (True, True)])
def test_the_same_key_80_ms_later_is_a_second_press(tone: bool, events: bool) -> None:
    assert told(Gateway(SAME_TWICE), tone=tone, events=events) == [5, 5]


@pytest.mark.parametrize("late_ms", [0, 60, 120, 200])
@pytest.mark.parametrize("off_ms", [-60, 0, 60])
def test_both_ways_of_a_press_count_once(late_ms: int, off_ms: int) -> None:
    """Starts within 60 ms of each other on the media timeline, the event up to 200 ms after the audio, or before it."""
    presses = [Press(key, 200 + 300 * number, 60) for number, key in enumerate((1, 1, 2, 15, 0, 0))]
    gateway = Gateway(presses, event_late_ms=late_ms, event_off_ms=off_ms)
    assert told(gateway, tone=True, events=True) == [1, 1, 2, 15, 0, 0]


def test_info_and_tones_count_once_and_info_alone_does() -> None:
    with udp_socket() as peer, udp_socket() as ours:
        engine = Engine([ours], capacity=8)
        add(engine, 1, remote_of(peer))
        gateway = Gateway([Press(7, 100), Press(7, 300)])
        told_so_far = gateway.play(engine, peer, tone=True, events=False)
        for number in range(3):
            assert engine.execute(HearKey(seq=number, leg=1, key=7)) == [Acknowledged(seq=number)]
            told_so_far += engine.tick()
        assert keys_of(told_so_far) == [7, 7, 7], "two presses told twice, and one by INFO alone"
        assert of_type(told_so_far, KeyPressed)[-1].way is KeyWay.INFO
        figures = engine.leg_statistics(engine.legs[1])
        assert (figures.keys_inband, figures.keys_info) == (2, 3)


@pytest.mark.parametrize("mode", list(DTMFMode))
def test_a_pinned_leg_takes_its_own_way_alone(mode: DTMFMode) -> None:
    with udp_socket() as peer, udp_socket() as ours:
        engine = Engine([ours], capacity=8)
        add(engine, 1, remote_of(peer), dtmf=mode)
        answer = engine.execute(HearKey(seq=1, leg=1, key=9))[0]
        heard = engine.tick()
        heard += Gateway([Press(3, 100)]).play(engine, peer, tone=True, events=False)
        heard += Gateway([Press(4, 100)]).play(engine, peer, tone=False, events=True)
        takes = {DTMFMode.AUTO: [9, 3, 4], DTMFMode.INFO: [9], DTMFMode.INBAND: [3], DTMFMode.RFC4733: [4]}
        assert keys_of(heard) == takes.get(mode, [])
        assert isinstance(answer, Acknowledged if 9 in takes.get(mode, []) else Refused)


def test_a_key_by_info_that_fails_does_not_fail_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with udp_socket() as peer, udp_socket() as ours:
        engine = Engine([ours], capacity=8)
        add(engine, 1, remote_of(peer))
        engine.execute(HearKey(seq=1, leg=1, key=9))
        with monkeypatch.context() as broken:
            broken.setattr(engine.keys, "accept", lambda *args, **values: 1 / 0)
            engine.tick()
        assert engine.faults == 1
        engine.tick()
        assert engine.faults == 1


def test_no_digits_stay_in_the_engine_while_a_call_goes_on() -> None:
    with udp_socket() as peer, udp_socket() as ours:
        engine = Engine([ours], capacity=8)
        add(engine, 1, remote_of(peer))
        engine.execute(HearKey(seq=1, leg=1, key=9))
        for _ in range(150):
            engine.tick()
        assert engine.keys.remembered(engine.legs[1].row) == 0


def test_nobody_keys_for_a_leg_that_is_gone() -> None:
    with udp_socket() as peer, udp_socket() as ours:
        engine = Engine([ours], capacity=8)
        add(engine, 1, remote_of(peer))
        engine.execute(HearKey(seq=1, leg=1, key=9))
        engine.drop(engine.legs[1])
        assert not keys_of(engine.tick())
        assert isinstance(engine.execute(HearKey(seq=2, leg=1, key=9))[0], Refused)
        assert isinstance(engine.execute(HearKey(seq=3, leg=1, key=16))[0], Refused)


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.integers(40, 160), st.integers(40, 160)), min_size=1, max_size=6
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_events_through_loss_doubling_reordering_and_another_payload_type(
    typed: list[tuple[int, int, int]], chance: random.Random
) -> None:
    """Never a double, never a phantom, and lost only when every packet of an event is."""
    start, presses = 40, []
    for key, tone_ms, pause_ms in typed:
        presses.append(Press(key, start, tone_ms))
        start += tone_ms + pause_ms
    gateway = Gateway(presses)
    sent: list[tuple[int, bytes]] = []
    for tick, packets in gateway.packets.items():
        for packet in packets:
            for _ in range(chance.choice((0, 1, 1, 1, 2))):
                sent.append((tick + chance.choice((0, 0, 0, 1, 2)), packet))
    expected = sorted(
        press.key
        for press in presses
        if any(packet[4:8] == (press.start_ms * MS).to_bytes(4) for _, packet in sent)
    )
    changes_at = chance.randrange(len(gateway.audio) // 160)
    with udp_socket() as peer, udp_socket() as ours:
        engine = Engine([ours], capacity=8)
        add(engine, 1, remote_of(peer))
        to, sequence, heard = ours.getsockname(), 0, []
        silence = bytes([0xFF]) * 160
        for tick in range(len(gateway.audio) // 160 + 8):
            if tick == changes_at:
                change = UpdateLeg(
                    seq=9, leg=1, codec=Codec.PCMU, remote=remote_of(peer), event_payload_type=97
                )
                assert isinstance(engine.execute(msgspec.structs.replace(change, seq=10))[0], Acknowledged)
            peer.sendto(header(0, sequence, tick * 160, SSRC) + silence, to)
            sequence += 1
            payload_type = 97 if tick >= changes_at else 101
            for at, packet in sent:
                if at == tick:
                    # Those that are under way when the type changes still bear the old one.
                    old = chance.random() < 0.5
                    kind = 101 if old else payload_type
                    marked = packet[1] & 0x80
                    peer.sendto(
                        packet[:1] + bytes([marked | kind]) + sequence.to_bytes(2, "big") + packet[4:], to
                    )
                    sequence += 1
            heard += engine.tick()
        assert sorted(keys_of(heard)) == expected
