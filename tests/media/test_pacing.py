"""Packets of 10 to 60 ms: what the peer receives, to the sample, with keys beside."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from media.dsp.g711 import ENCODE
from media.engine import Engine
from media.protocol import Acknowledged, Codec, Direction, Refused, SendKey, UpdateLeg
from tests.media.support import add, remote_of, udp_socket

Packet = tuple[int, int, int, bool, bytes]
"""Payload type, sequence, timestamp, marker, payload."""

PTIMES = [10, 20, 30, 40, 50, 60]


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened = [udp_socket() for _ in range(9)]
    yield opened
    for sock in opened:
        sock.close()


def engine_on(sock: socket.socket, *, portable: bool = False) -> Engine:
    return Engine([sock], rng=np.random.default_rng(2), portable=portable, capacity=16)


def packets_of(peer: socket.socket) -> list[Packet]:
    found: list[Packet] = []
    while True:
        try:
            raw = peer.recv(2048)
        except BlockingIOError:
            return found
        assert raw[0] == 0x80
        found.append(
            (
                raw[1] & 0x7F,
                int.from_bytes(raw[2:4], "big"),
                int.from_bytes(raw[4:8], "big"),
                raw[1] >= 0x80,
                raw[12:],
            )
        )


def speech(ticks: int) -> np.ndarray:
    return (np.arange(ticks * 160) % 4001 * 7 - 14000).astype(np.int16)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("ptime", PTIMES)
def test_every_sample_once_in_packets_of_that_length(
    sockets: list[socket.socket], ptime: int, codec: Codec, portable: bool
) -> None:
    engine = engine_on(sockets[0], portable=portable)
    peers = sockets[1:]
    audio = speech(30)
    for leg, peer in enumerate(peers):
        answer = add(engine, leg, remote_of(peer), codec=codec, ptime_ms=ptime)
        assert isinstance(answer, Acknowledged)
        engine.queue_audio(leg, audio)
    each_tick: list[list[int]] = [[] for _ in peers]
    received: list[list[Packet]] = [[] for _ in peers]
    for _ in range(30):
        engine.tick()
        for leg, peer in enumerate(peers):
            came = packets_of(peer)
            each_tick[leg].append(len(came))
            received[leg] += came
    codes = ENCODE[codec is Codec.PCMA][audio.view(np.uint16)].tobytes()
    for leg, packets in enumerate(received):
        assert {len(p[4]) for p in packets} == {ptime * 8}
        assert {p[0] for p in packets} == {int(codec)}
        assert not any(p[3] for p in packets), "no silence is suppressed, so no marker (RFC 3551 §4.1)"
        assert {(b[1] - a[1]) % 2**16 for a, b in itertools.pairwise(packets)} == {1}
        assert {(b[2] - a[2]) % 2**32 for a, b in itertools.pairwise(packets)} == {ptime * 8}
        said = b"".join(p[4] for p in packets)
        lead = said.index(codes[:160])
        assert lead < ptime * 8, "what was held back before the leg came is silence"
        assert codes.startswith(said[lead:])
        assert len(said) - lead >= 30 * 160 - ptime * 8
        assert engine.leg_statistics(engine.legs[leg]).packets_sent == len(packets)
        assert max(each_tick[leg]) == (2 if ptime == 10 else 1)
    if ptime > 20:
        busiest = max(sum(counts) for counts in zip(*each_tick, strict=True))
        assert busiest < len(peers), "the packets of many legs do not all fall into the same tick"
    assert engine.transmitter.failed == 0


def test_two_legs_of_different_length_on_one_socket(sockets: list[socket.socket]) -> None:
    engine = engine_on(sockets[0])
    for leg, ptime in enumerate(PTIMES):
        add(engine, leg, remote_of(sockets[leg + 1]), ptime_ms=ptime)
    for _ in range(60):
        engine.tick()
    counts = [len(packets_of(sockets[leg + 1])) for leg in range(len(PTIMES))]
    for count, ptime in zip(counts, PTIMES, strict=True):
        assert abs(count - 1200 / ptime) <= 1


@pytest.mark.parametrize("ptime", PTIMES)
def test_keys_beside_audio(sockets: list[socket.socket], ptime: int) -> None:
    """An event takes the place of audio, not of the audio before it; timestamps and sequence go on."""
    engine = engine_on(sockets[0])
    peer = sockets[1]
    add(engine, 1, remote_of(peer), ptime_ms=ptime)
    for _ in range(7):
        engine.tick()
    engine.execute(SendKey(seq=1, leg=1, key=5, duration_ms=100))
    engine.execute(SendKey(seq=2, leg=1, key=6, duration_ms=60))
    for _ in range(60):
        engine.tick()
    packets = packets_of(peer)
    assert {(b[1] - a[1]) % 2**16 for a, b in itertools.pairwise(packets)} == {1}
    audio = [p for p in packets if p[0] == 0]
    events = [p for p in packets if p[0] == 101]
    assert engine.leg_statistics(engine.legs[1]).packets_sent == len(packets)
    zero = audio[0][2]
    played = {((p[2] - zero) % 2**32 + at) // 80 for p in audio for at in range(0, ptime * 8, 80)}
    spans = []
    for key, samples in ((5, 800), (6, 480)):
        mine = [p for p in events if p[4][0] == key]
        assert len({p[2] for p in mine}) == 1, "one event, one timestamp"
        assert [p[3] for p in mine] == [True] + [False] * (len(mine) - 1)
        assert int.from_bytes(mine[-1][4][2:4], "big") == samples
        assert sum(p[4][1] >= 0x80 for p in mine) == 3
        start = (mine[0][2] - zero) % 2**32
        spans.append(range(start // 80, (start + samples) // 80))
    for span in spans:
        assert not played & set(span), "no audio at the time of an event"
        assert span[0] - 1 in played, "all audio before it has gone out"
    last = max(played)
    silent = set(range(last)) - played - set(spans[0]) - set(spans[1])
    assert len(silent) <= 2 * (ptime // 10 - 1) + 4, "audio goes on with the next whole packet"


def test_reinvite_changes_the_length(sockets: list[socket.socket]) -> None:
    engine = engine_on(sockets[0])
    peer = sockets[1]
    add(engine, 1, remote_of(peer), ptime_ms=40)
    sizes = []
    for ptime in (40, 20, 60, 10):
        update = UpdateLeg(seq=1, leg=1, codec=Codec.PCMU, remote=remote_of(peer), ptime_ms=ptime)
        assert engine.execute(update) == [Acknowledged(seq=1)]
        for _ in range(12):
            engine.tick()
        sizes.append({len(p[4]) for p in packets_of(peer)})
    assert sizes == [{320}, {160}, {480}, {80}]


def test_held_audio_of_another_law_is_not_sent(sockets: list[socket.socket]) -> None:
    engine = engine_on(sockets[0])
    peer = sockets[1]
    add(engine, 1, remote_of(peer), ptime_ms=60)
    engine.queue_audio(1, np.full(2400, 9000, np.int16))
    for _ in range(4):
        engine.tick()
    packets_of(peer)
    engine.execute(UpdateLeg(seq=1, leg=1, codec=Codec.PCMA, remote=remote_of(peer), ptime_ms=60))
    for _ in range(3):
        engine.tick()
    loud = ENCODE[1][np.array(9000, np.int16).view(np.uint16)]
    for packet in packets_of(peer):
        assert packet[0] == 8
        assert set(packet[4]) <= {0xD5, int(loud)}


def test_a_leg_that_does_not_send_is_quiet(sockets: list[socket.socket]) -> None:
    engine = engine_on(sockets[0])
    add(engine, 1, remote_of(sockets[1]), ptime_ms=30, direction=Direction.RECVONLY)
    add(engine, 2, remote_of(sockets[2]), ptime_ms=30)
    for _ in range(9):
        engine.tick()
    assert not packets_of(sockets[1])
    assert len(packets_of(sockets[2])) == 6


@pytest.mark.parametrize("ptime", [0, 5, 25, 70, -20])
def test_other_lengths_are_refused(sockets: list[socket.socket], ptime: int) -> None:
    engine = engine_on(sockets[0])
    assert isinstance(add(engine, 1, remote_of(sockets[1]), ptime_ms=ptime), Refused)
    assert len(engine.legs) == 0


def test_removed_leg_leaves_no_held_audio(sockets: list[socket.socket]) -> None:
    engine = engine_on(sockets[0])
    add(engine, 1, remote_of(sockets[1]), ptime_ms=60)
    engine.queue_audio(1, np.full(2400, 9000, np.int16))
    engine.tick()
    assert engine.transmitter._pacing._held.any()
    engine.drop_all()
    assert not engine.transmitter._pacing._held.any()
    assert not engine.transmitter._packets.any()
