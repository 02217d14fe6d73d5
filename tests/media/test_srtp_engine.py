"""Secured legs in whole engines, over real loopback sockets."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from media.dsp import tones
from media.engine import Engine
from media.protocol import (
    Acknowledged,
    AddLeg,
    Codec,
    CryptoSuite,
    KeyPressed,
    KeyWay,
    Refused,
    Remote,
    RemoveLeg,
    SendKey,
    SRTPKeys,
    UpdateLeg,
)
from media.rtp.packet import header
from media.rtp.srtp import KEY_BYTES, TAG_BYTES, SecureLegs
from tests.media.support import add, keys_of, of_type, remote_of, udp_socket

SUITES = list(CryptoSuite)
DEFAULT = CryptoSuite.AES_CM_128_HMAC_SHA1_80


def new_keys(suite: CryptoSuite = DEFAULT) -> SRTPKeys:
    return SRTPKeys(suite, os.urandom(KEY_BYTES[suite]), os.urandom(KEY_BYTES[suite]))


def swapped(keys: SRTPKeys) -> SRTPKeys:
    return SRTPKeys(keys.suite, keys.receive, keys.send)


@contextlib.contextmanager
def secured_pair(
    suite: CryptoSuite = DEFAULT, *, portable: bool = False
) -> Iterator[tuple[Engine, Engine, SRTPKeys]]:
    """Two engines whose legs 1 are joined by SRTP; the keys are the first's."""
    keys = new_keys(suite)
    with udp_socket() as first, udp_socket() as second:
        engines = [
            Engine([sock], rng=np.random.default_rng(seed), portable=portable, capacity=8)
            for seed, sock in enumerate((first, second))
        ]
        for engine, peer, own in zip(engines, (second, first), (keys, swapped(keys)), strict=True):
            assert isinstance(add(engine, 1, remote_of(peer), srtp=own), Acknowledged)
        yield engines[0], engines[1], keys


def update(engine: Engine, remote: Remote, srtp: SRTPKeys | None) -> object:
    command = UpdateLeg(seq=9, leg=1, codec=Codec.PCMU, remote=remote, event_payload_type=101, srtp=srtp)
    return engine.execute(command)[0]


def sent_packets(sock: socket.socket) -> list[bytes]:
    packets = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packets.append(sock.recv(2048))
    return packets


def statistics(engine: Engine):
    return engine.leg_statistics(engine.legs[1])


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_audio_and_keys_both_ways(suite: CryptoSuite, portable: bool) -> None:
    with secured_pair(suite, portable=portable) as (one, two, _):
        for engine, code in ((one, 5), (two, 9)):
            engine.queue_audio(1, tones.dtmf_tone(code, 200, -10.0))
            engine.execute(SendKey(seq=1, leg=1, key=code + 1))
        heard = {}
        for _ in range(40):
            for engine in (one, two):
                for event in engine.tick():
                    if isinstance(event, KeyPressed):
                        heard.setdefault(id(engine), set()).add((event.key, event.way))
        assert {(10, KeyWay.RFC4733)} <= heard[id(one)] and {(6, KeyWay.RFC4733)} <= heard[id(two)]
        for engine in (one, two):
            counted = statistics(engine)
            assert (counted.srtp_failed, counted.packets_refused, counted.packets_lost) == (0, 0, 0)
            assert counted.packets_received >= 38
            assert counted.keys_rfc4733 == 1


@pytest.mark.parametrize("ptime", [10, 30, 40, 50, 60])
@pytest.mark.parametrize("suite", SUITES)
def test_packets_of_another_length(suite: CryptoSuite, ptime: int) -> None:
    """Held back in clear, sent protected: both ends lose nothing and nothing of it can be read on the way."""
    keys = new_keys(suite)
    with udp_socket() as first, udp_socket() as second, udp_socket() as third:
        one, two = (Engine([sock], capacity=8) for sock in (first, second))
        add(one, 1, remote_of(second), srtp=keys, ptime_ms=ptime)
        add(two, 1, remote_of(first), srtp=swapped(keys), ptime_ms=ptime)
        add(one, 2, remote_of(third), srtp=new_keys(suite), ptime_ms=ptime)
        one.queue_audio(1, tones.key_sequence([7, 3], 120, 120))
        heard = []
        for _ in range(40):
            one.tick()
            heard += two.tick()
        one.execute(SendKey(seq=1, leg=1, key=5))
        for _ in range(20):
            one.tick()
            heard += two.tick()
        assert keys_of(heard) == [7, 3, 5]
        counted = statistics(two)
        assert (counted.srtp_failed, counted.packets_refused, counted.packets_lost) == (0, 0, 0)
        packets = sent_packets(third)
        assert {len(packet) for packet in packets} == {12 + ptime * 8 + TAG_BYTES[suite]}
        assert not any(bytes([0xFF] * 16) in packet for packet in packets), "silence would show"


def test_in_band_keys_are_heard() -> None:
    with secured_pair() as (one, two, _):
        one.queue_audio(1, tones.dtmf_tone(7, 120, -10.0))
        heard = []
        for _ in range(20):
            one.tick()
            heard += two.tick()
        assert keys_of(heard) == [7]


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_nothing_leaves_in_clear(suite: CryptoSuite, portable: bool) -> None:
    keys, clear = new_keys(suite), b"\xff" * 160
    with udp_socket() as ours, udp_socket() as peer, udp_socket() as plain:
        engine = Engine([ours], capacity=8, portable=portable)
        add(engine, 1, remote_of(peer), srtp=keys)
        add(engine, 2, remote_of(plain))
        engine.execute(SendKey(seq=1, leg=1, key=5))
        for _ in range(10):
            engine.tick()
        packets = sent_packets(peer)
        assert len(packets) >= 10
        for packet in packets:
            assert clear[:16] not in packet
            assert len(packet) in {172 + TAG_BYTES[suite], 16 + TAG_BYTES[suite]}
        assert {len(packet) for packet in sent_packets(plain)} == {172}


def test_clear_packets_from_the_peers_own_address_are_dropped_and_counted() -> None:
    keys = new_keys()
    with udp_socket() as ours, udp_socket() as peer:
        engine = Engine([ours], capacity=8)
        add(engine, 1, remote_of(peer), srtp=keys)
        for number in range(5):
            peer.sendto(header(0, number, number * 160, 7) + bytes(160), ours.getsockname())
        event = header(101, 6, 0, 7, marker=True) + bytes((5, 10, 0, 160))
        peer.sendto(event, ours.getsockname())
        peer.sendto(bytes.fromhex("81c8000b00000007") + bytes(40), ours.getsockname())
        assert keys_of(engine.tick()) == []
        counted = statistics(engine)
        assert (counted.srtp_failed, counted.packets_received) == (6, 0)
        assert counted.packets_refused == 1
        assert engine.faults == 0


def test_a_repeated_key_press_is_one() -> None:
    keys = new_keys()
    with udp_socket() as ours, udp_socket() as peer:
        engine, writer = Engine([ours], capacity=8), SecureLegs(1)
        add(engine, 1, remote_of(peer), srtp=keys)
        writer.negotiate(0, swapped(keys))
        event = writer.seal(0, header(101, 6, 0, 7, marker=True) + bytes((5, 10, 0, 160)))
        assert event is not None
        happened = []
        for _ in range(3):
            peer.sendto(event, ours.getsockname())
            happened += engine.tick()
        assert keys_of(happened) == [5]
        assert statistics(engine).srtp_failed == 2


def test_a_renegotiation_with_the_same_keys_loses_nothing() -> None:
    with secured_pair() as (one, two, keys):
        for _ in range(5):
            one.tick()
            two.tick()
        for engine, own in ((one, keys), (two, swapped(keys))):
            remote = engine.legs[1].remote
            assert remote is not None
            assert isinstance(update(engine, remote, own), Acknowledged)
        for _ in range(5):
            one.tick()
            two.tick()
        assert statistics(two).srtp_failed == 0
        assert statistics(two).packets_received == 10


def test_new_keys_while_packets_are_under_way() -> None:
    with secured_pair() as (one, two, _):
        fresh = SRTPKeys(DEFAULT, os.urandom(30), os.urandom(30))
        remotes = [engine.legs[1].remote for engine in (one, two)]
        for tick in range(12):
            # The answering side changes first; the offerer goes on with its old key for 3 ticks.
            if tick == 4:
                assert isinstance(update(two, remotes[1], swapped(fresh)), Acknowledged)
            if tick == 7:
                assert isinstance(update(one, remotes[0], fresh), Acknowledged)
            one.tick()
            two.tick()
        assert statistics(two).srtp_failed == 0
        assert statistics(two).packets_received == 12
        # Our answer's new key reached the offerer 3 ticks late: that much was lost there, and no more.
        assert statistics(one).srtp_failed <= 4


def test_a_leg_in_clear_becomes_a_secured_one_and_back() -> None:
    with secured_pair() as (one, two, _):
        remotes = [engine.legs[1].remote for engine in (one, two)]
        fresh = new_keys()
        for pair in ((None, None), (fresh, swapped(fresh))):
            for engine, remote, own in zip((one, two), remotes, pair, strict=True):
                assert isinstance(update(engine, remote, own), Acknowledged)
            before = statistics(two).packets_received
            for _ in range(5):
                one.tick()
                two.tick()
            assert statistics(two).packets_received == before + 5
        assert statistics(two).srtp_failed == 0


@pytest.mark.parametrize(
    "keys",
    [
        SRTPKeys(DEFAULT, b"a" * 29, b"b" * 30),
        SRTPKeys(DEFAULT, b"a" * 30, b"a" * 30),
        SRTPKeys(CryptoSuite.AEAD_AES_128_GCM, b"a" * 30, b"b" * 30),
    ],
)
def test_unusable_keys_change_nothing(keys: SRTPKeys) -> None:
    with udp_socket() as ours, udp_socket() as peer:
        engine = Engine([ours], capacity=8)
        refusal = add(engine, 1, remote_of(peer), srtp=keys)
        assert isinstance(refusal, Refused)
        assert "aaaa" not in refusal.reason
        assert len(engine.legs) == 0
        own = new_keys()
        assert isinstance(add(engine, 1, remote_of(peer), srtp=own), Acknowledged)
        assert isinstance(update(engine, Remote("127.0.0.1", 9), keys), Refused)
        assert engine.legs[1].remote == remote_of(peer)
        assert engine.secure.secured[engine.legs[1].row]


def test_a_spent_key_is_refused_and_the_leg_goes_on() -> None:
    with secured_pair() as (one, two, keys):
        remote = one.legs[1].remote
        assert remote is not None
        fresh = SRTPKeys(DEFAULT, os.urandom(30), keys.receive)
        assert isinstance(update(one, remote, fresh), Acknowledged)
        refusal = update(one, remote, keys)
        assert isinstance(refusal, Refused)
        assert one.faults == 0
        for _ in range(3):
            two.tick()
            one.tick()
        assert statistics(one).packets_received >= 2


def test_a_symmetric_leg_latches_to_who_has_the_key() -> None:
    keys = new_keys()
    with udp_socket() as ours, udp_socket() as stranger, udp_socket() as peer:
        engine, writer = Engine([ours], capacity=8), SecureLegs(1)
        writer.negotiate(0, swapped(keys))
        add(engine, 1, Remote("127.0.0.1", 9), srtp=keys, symmetric=True)
        for number in range(1, 4):
            stranger.sendto(header(0, number, number * 160, 7) + bytes(170), ours.getsockname())
            engine.tick()
        assert not engine.legs[1].settled
        # Its second packet would have convinced, were there no keys.
        assert statistics(engine).srtp_failed >= 1
        for number in range(1, 6):
            packet = writer.seal(0, header(0, number, number * 160, 9) + bytes(160))
            assert packet is not None
            peer.sendto(packet, ours.getsockname())
            engine.tick()
        assert engine.legs[1].settled
        assert engine.transmitter.destination(engine.legs[1].row) == remote_of(peer)
        assert statistics(engine).packets_received >= 2


def test_a_removed_leg_leaves_no_key_for_the_next_on_its_row() -> None:
    with secured_pair() as (one, two, _):
        remote = two.legs[1].remote
        assert remote is not None
        row = two.legs[1].row
        two.execute(RemoveLeg(seq=1, leg=1))
        assert not two.secure
        command = AddLeg(seq=2, leg=2, socket=0, codec=Codec.PCMU, remote=remote)
        assert isinstance(two.execute(command)[0], Acknowledged)
        assert two.legs[2].row == row
        for _ in range(3):
            one.tick()
            two.tick()
        # What it hears is noise to it: no key is tried any more.
        assert two.leg_statistics(two.legs[2]).srtp_failed == 0


def test_each_secured_leg_has_its_own_length() -> None:
    with udp_socket() as ours, udp_socket() as first, udp_socket() as second:
        engine = Engine([ours], capacity=2)
        keys = [new_keys(), new_keys(CryptoSuite.AEAD_AES_128_GCM)]
        for number, (peer, own) in enumerate(zip((first, second), keys, strict=True)):
            assert isinstance(add(engine, number, remote_of(peer), srtp=own), Acknowledged)
        engine.tick()
        assert [len(p) for p in sent_packets(first)] == [182]
        assert [len(p) for p in sent_packets(second)] == [188]


def test_a_batch_of_mutated_packets_hurts_no_other_leg() -> None:
    rng = np.random.default_rng(5)
    keys = new_keys()
    with secured_pair() as (one, two, _), udp_socket() as hostile:
        add(two, 2, remote_of(hostile), srtp=keys)
        writer = SecureLegs(1)
        writer.negotiate(0, swapped(keys))
        address = two.sockets[0].getsockname()
        for tick in range(100):
            good = writer.seal(0, header(0, tick, tick * 160, 3) + bytes(160))
            assert good is not None
            for _ in range(20):
                bad = bytearray(good)
                for _ in range(rng.integers(1, 4)):
                    bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
                hostile.sendto(bytes(bad[: rng.integers(0, len(bad) + 1)]), address)
            one.tick()
            assert not of_type(two.tick(), Refused)
        assert two.faults == 0
        assert statistics(two).packets_received == 100
        counted = two.leg_statistics(two.legs[2])
        # Two flips of one bit leave the packet whole: it is taken, once.
        assert counted.srtp_failed + counted.packets_received + counted.packets_refused == 2000
        assert counted.packets_received <= 10


def test_commands_carry_keys_and_do_not_show_them() -> None:
    keys = new_keys()
    command = AddLeg(seq=1, leg=1, socket=0, codec=Codec.PCMU, remote=None, srtp=keys)
    for text in (repr(command), repr(msgspec.structs.replace(command, leg=2))):
        assert repr(keys.send) not in text and "SRTPKeys(AES_CM_128_HMAC_SHA1_80)" in text
