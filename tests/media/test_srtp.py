"""SRTP contexts: known answers, an independent implementation, tampering, replay, roll-over."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.protocol import CryptoSuite, SRTPKeys
from media.rtp.packet import HEADER_OFFSET, PACKET_BYTES, SLOT_BYTES, header, parse
from media.rtp.srtp import (
    KEY_BYTES,
    LONGEST_TAG,
    MOST_PER_LEG,
    TAG_BYTES,
    SecureLegs,
    SRTPError,
    check_keys,
)
from tests.media import srtp_by_hand

SUITES = list(CryptoSuite)
VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "srtp" / "packets.json").read_text(encoding="utf-8")
)
RTCP = bytes.fromhex("81c8000bcafebabe") + bytes(40)
SUITE_AND_VECTOR = [
    (CryptoSuite(v["suite"]), {k: bytes.fromhex(v[k]) for k in v if k != "suite"}) for v in VECTORS
]


def new_keys(suite: CryptoSuite) -> SRTPKeys:
    return SRTPKeys(suite, os.urandom(KEY_BYTES[suite]), os.urandom(KEY_BYTES[suite]))


def swapped(keys: SRTPKeys) -> SRTPKeys:
    return SRTPKeys(keys.suite, keys.receive, keys.send)


def pair(suite: CryptoSuite = CryptoSuite.AES_CM_128_HMAC_SHA1_80) -> tuple[SecureLegs, SecureLegs]:
    """A sender and a receiver, row 0 of each secured for the other."""
    keys = new_keys(suite)
    legs = SecureLegs(4), SecureLegs(4)
    legs[0].negotiate(0, keys)
    legs[1].negotiate(0, swapped(keys))
    return legs


def rtp(sequence: int, payload: bytes = bytes(160), *, ssrc: int = 7, first: int = 0x80) -> bytes:
    made = header(0, sequence, sequence * 160, ssrc) + payload
    return bytes((first,)) + made[1:]


def receive(legs: SecureLegs, *packets: bytes, row: int = 0) -> list[bytes]:
    """What the leg makes of packets that arrive in one tick."""
    slots = np.zeros((len(packets), SLOT_BYTES), np.uint8)
    lengths = np.array([len(p) for p in packets], np.int32)
    for slot, packet in zip(slots, packets, strict=True):
        part = packet[: SLOT_BYTES - HEADER_OFFSET]
        slot[HEADER_OFFSET : HEADER_OFFSET + len(part)] = np.frombuffer(part, np.uint8)
    columns = parse(slots, lengths)
    rows, kept = legs.open(
        np.full(len(packets), row, np.intp), np.arange(len(packets)), columns, slots, lengths
    )
    assert len(rows) == len(kept)
    again = parse(slots[kept], lengths[kept])
    assert np.array_equal(columns.valid[kept], again.valid)
    assert np.array_equal(columns.size[kept], again.size)
    assert np.array_equal(columns.offset[kept], again.offset)
    return [slots[i, HEADER_OFFSET : HEADER_OFFSET + lengths[i]].tobytes() for i in kept]


def sealed(legs: SecureLegs, packet: bytes) -> bytes:
    made = legs.seal(0, packet)
    assert made is not None
    return made


# -- known answers ------------------------------------------------------------------------------------------


def test_the_verifier_derives_the_keys_of_rfc_3711_b_3():
    master = bytes.fromhex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6")
    assert srtp_by_hand.derive(master, 0, 16).hex() == "c61e7a93744f39ee10734afe3ff7a087"
    assert srtp_by_hand.derive(master, 2, 14).hex() == "30cbbc08863d8c85d49db34a9ae1"
    assert srtp_by_hand.derive(master, 1, 94).hex() == (
        "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbce"
        "e049646c43d9327ad175578ef72270986371c10c9a369ac2f94a8c5fbcdddc25"
        "6d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2"
    )


def test_the_verifier_makes_the_key_stream_of_rfc_3711_b_2():
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    salt = int.from_bytes(bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfd"), "big")
    assert srtp_by_hand.key_stream(key, salt << 16, 48).hex() == (
        "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0"
    )


@pytest.mark.parametrize(("suite", "vector"), SUITE_AND_VECTOR, ids=[v["suite"] for v in VECTORS])
def test_the_packets_of_libsrtp_and_of_rfc_3711_by_hand(suite: CryptoSuite, vector: dict[str, bytes]):
    key, other = vector["key"], os.urandom(KEY_BYTES[suite])
    assert srtp_by_hand.protect(suite, key, vector["rtp"]) == vector["srtp"]
    assert srtp_by_hand.protect_rtcp(suite, key, vector["rtcp"]) == vector["srtcp"]
    sender, receiver = SecureLegs(1), SecureLegs(1)
    sender.negotiate(0, SRTPKeys(suite, key, other))
    receiver.negotiate(0, SRTPKeys(suite, other, key))
    assert sender.seal(0, vector["rtp"]) == vector["srtp"]
    assert sender.protect_rtcp(0, vector["rtcp"]) == vector["srtcp"]
    assert receive(receiver, vector["srtp"]) == [vector["rtp"]]
    assert receiver.unprotect_rtcp(0, vector["srtcp"]) == vector["rtcp"]


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=40, deadline=None)
@given(
    payload=st.binary(min_size=1, max_size=480),
    sequence=st.integers(0, 65535),
    ssrc=st.integers(0, 2**32 - 1),
)
def test_any_packet_is_the_one_made_by_hand(suite: CryptoSuite, payload: bytes, sequence: int, ssrc: int):
    keys = new_keys(suite)
    sender, receiver = SecureLegs(1), SecureLegs(1)
    sender.negotiate(0, keys)
    receiver.negotiate(0, swapped(keys))
    packet = rtp(sequence, payload, ssrc=ssrc)
    protected = sealed(sender, packet)
    assert protected == srtp_by_hand.protect(suite, keys.send, packet)
    assert len(protected) == len(packet) + TAG_BYTES[suite]
    assert receive(receiver, protected) == [packet]


# -- what is dropped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_every_flipped_bit_is_noticed(suite: CryptoSuite):
    sender, receiver = pair(suite)
    good = sealed(sender, rtp(1, bytes(range(20))))
    failed = 0
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        if 192 <= bad[1] < 224:
            continue  # it looks like RTCP now, see below
        assert receive(receiver, bytes(bad)) == []
        failed += 1
        assert receiver.failed[0] == failed
    assert failed >= len(good) * 8 - 2
    assert receive(receiver, good) == [rtp(1, bytes(range(20)))]


@pytest.mark.parametrize("suite", SUITES)
def test_every_flipped_bit_of_srtcp_is_noticed(suite: CryptoSuite):
    sender, receiver = pair(suite)
    good = sender.protect_rtcp(0, RTCP)
    assert good is not None
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert receiver.unprotect_rtcp(0, bytes(bad)) is None
    assert receiver.failed[0] == len(good) * 8
    assert receiver.unprotect_rtcp(0, good) == RTCP
    assert receiver.unprotect_rtcp(0, good) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=PACKET_BYTES + 20), min_size=1, max_size=MOST_PER_LEG))
def test_no_bytes_raise_and_none_get_in(packets: list[bytes]):
    _, receiver = pair(random.choice(SUITES))
    # What claims to be RTCP is left to RTCP.
    reports = [p for p in packets if len(p) > 1 and 192 <= p[1] < 224]
    assert len(receive(receiver, *packets)) == len(reports)
    assert receiver.failed[0] == len(packets) - len(reports)
    for packet in packets:
        assert receiver.unprotect_rtcp(0, packet) is None


@pytest.mark.parametrize("suite", SUITES)
def test_clear_packets_are_dropped(suite: CryptoSuite):
    _, receiver = pair(suite)
    assert receive(receiver, rtp(1)) == []
    assert receiver.unprotect_rtcp(0, RTCP) is None
    assert receiver.failed[0] == 2


def test_rtcp_on_the_rtp_port_is_left_for_who_takes_it():
    sender, receiver = pair()
    report = sender.protect_rtcp(0, RTCP)
    assert report is not None
    assert receive(receiver, report, sealed(sender, rtp(1))) == [report, rtp(1)]
    assert receiver.unprotect_rtcp(0, report) == RTCP


@pytest.mark.parametrize("suite", SUITES)
def test_a_packet_is_taken_once(suite: CryptoSuite):
    sender, receiver = pair(suite)
    first, second = sealed(sender, rtp(1)), sealed(sender, rtp(2))
    assert receive(receiver, second, first, second) == [rtp(2), rtp(1)]
    assert receive(receiver, first) == []
    assert receiver.failed[0] == 2


def test_a_packet_sealed_twice_is_not_sent_twice():
    sender, _ = pair()
    assert sender.seal(0, rtp(5)) is not None
    assert sender.seal(0, rtp(5, b"other")) is None


def test_a_flood_on_one_leg_costs_others_nothing():
    keys, others = new_keys(SUITES[0]), new_keys(SUITES[0])
    receiver = SecureLegs(2)
    receiver.negotiate(0, keys)
    receiver.negotiate(1, others)
    sender = SecureLegs(1)
    sender.negotiate(0, swapped(others))
    flood, wanted = [rtp(i) for i in range(200)], sealed(sender, rtp(1))
    slots = np.zeros((201, SLOT_BYTES), np.uint8)
    lengths = np.array([len(p) for p in (*flood, wanted)], np.int32)
    for slot, packet in zip(slots, (*flood, wanted), strict=True):
        slot[HEADER_OFFSET : HEADER_OFFSET + len(packet)] = np.frombuffer(packet, np.uint8)
    rows, packets = receiver.open(
        np.array([0] * 200 + [1]), np.arange(201), parse(slots, lengths), slots, lengths
    )
    assert (rows.tolist(), packets.tolist()) == ([1], [200])
    assert receiver.failed.tolist() == [200, 0]


def test_legs_in_clear_are_left_alone():
    _, receiver = pair()
    assert receive(receiver, rtp(1), row=1) == [rtp(1)]
    assert receiver.seal(1, rtp(1)) == rtp(1)
    assert receiver.protect_rtcp(1, RTCP) == receiver.unprotect_rtcp(1, RTCP) == RTCP
    assert receiver.failed.tolist() == [0, 0, 0, 0]


def test_padding_is_that_of_the_clear_packet():
    sender, receiver = pair()
    padded = rtp(1, bytes(20) + bytes((0, 0, 0, 4)), first=0xA0)
    [opened] = receive(receiver, sealed(sender, padded))
    assert opened == padded


def test_sources_under_one_key_are_bounded():
    sender, receiver = pair()
    opened = [receive(receiver, sealed(sender, rtp(1, ssrc=ssrc))) for ssrc in range(80)]
    assert opened[:64] == [[rtp(1, ssrc=ssrc)] for ssrc in range(64)]
    assert opened[64:] == [[]] * 16
    assert receive(receiver, sealed(sender, rtp(2, ssrc=63))) == [rtp(2, ssrc=63)]


# -- the roll-over counter ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_sequence_numbers_go_round(suite: CryptoSuite):
    keys = new_keys(suite)
    sender, receiver = SecureLegs(1), SecureLegs(1)
    sender.negotiate(0, keys)
    receiver.negotiate(0, swapped(keys))
    for number in range(65_530, 65_546):
        packet = rtp(number & 0xFFFF)
        protected = sealed(sender, packet)
        assert protected == srtp_by_hand.protect(suite, keys.send, packet, number >> 16)
        assert receive(receiver, protected) == [packet]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_loss_and_disorder_around_the_wrap(data: st.DataObject):
    sender, receiver = pair()
    numbers = range(65_516, 65_556)
    protected = {n: sealed(sender, rtp(n & 0xFFFF)) for n in numbers}
    first = receive(receiver, protected[65_516])
    assert first == [rtp(65_516)]
    lost = data.draw(st.sets(st.sampled_from(numbers[1:]), max_size=30))
    order = sorted((n for n in numbers[1:] if n not in lost), key=lambda n: n + data.draw(st.integers(0, 6)))
    for number in order:
        assert receive(receiver, protected[number]) == [rtp(number & 0xFFFF)]
    for number in order:
        assert receive(receiver, protected[number]) == []


def test_a_long_silence_over_the_wrap():
    sender, receiver = pair()
    assert receive(receiver, sealed(sender, rtp(60_000)))
    for number in range(60_001, 60_001 + 20_000, 5_000):
        sealed(sender, rtp(number & 0xFFFF))
    assert receive(receiver, sealed(sender, rtp(80_500 & 0xFFFF))) == [rtp(80_500 & 0xFFFF)]


# -- keys ---------------------------------------------------------------------------------------------------


def test_the_same_keys_continue():
    keys = new_keys(SUITES[0])
    sender, receiver = SecureLegs(1), SecureLegs(1)
    sender.negotiate(0, keys)
    receiver.negotiate(0, swapped(keys))
    old = sealed(sender, rtp(65_535))
    assert receive(receiver, old)
    sender.negotiate(0, keys)
    receiver.negotiate(0, swapped(keys))
    assert receive(receiver, old) == []
    packet = sealed(sender, rtp(0))
    assert packet == srtp_by_hand.protect(keys.suite, keys.send, rtp(0), 1)
    assert receive(receiver, packet) == [rtp(0)]


@pytest.mark.parametrize("suite", SUITES)
def test_one_new_key_leaves_the_other_direction_as_it_was(suite: CryptoSuite):
    first = new_keys(suite)
    second = SRTPKeys(suite, os.urandom(KEY_BYTES[suite]), first.receive)
    a, b = SecureLegs(1), SecureLegs(1)
    a.negotiate(0, first)
    b.negotiate(0, swapped(first))
    assert receive(b, sealed(a, rtp(65_535)))
    assert receive(a, sealed(b, rtp(65_535)))
    b.negotiate(0, swapped(second))
    # On its way while the keys changed: taken until the first packet under the new key.
    assert receive(b, sealed(a, rtp(0))) == [rtp(0)]
    late = sealed(a, rtp(1))
    a.negotiate(0, second)
    packet = sealed(a, rtp(2))
    assert packet == srtp_by_hand.protect(suite, second.send, rtp(2), 0)
    assert receive(b, packet) == [rtp(2)]
    assert receive(b, late) == []
    back = sealed(b, rtp(0))
    assert back == srtp_by_hand.protect(suite, first.receive, rtp(0), 1)
    assert receive(a, back) == [rtp(0)]


def test_a_key_that_was_sent_with_never_starts_anew():
    legs, first, second = SecureLegs(1), new_keys(SUITES[0]), new_keys(SUITES[0])
    legs.negotiate(0, first)
    legs.negotiate(0, second)
    with pytest.raises(SRTPError, match="start anew"):
        legs.negotiate(0, first)
    legs.negotiate(0, None)
    with pytest.raises(SRTPError, match="start anew"):
        legs.negotiate(0, second)


def test_a_peer_that_takes_its_new_key_back_continues_the_old_one():
    first = new_keys(SUITES[0])
    second = SRTPKeys(first.suite, first.send, os.urandom(30))
    sender, receiver = SecureLegs(1), SecureLegs(1)
    sender.negotiate(0, swapped(first))
    receiver.negotiate(0, first)
    old = sealed(sender, rtp(1))
    assert receive(receiver, old)
    receiver.negotiate(0, second)
    receiver.negotiate(0, first)
    assert receive(receiver, old) == []
    assert receive(receiver, sealed(sender, rtp(2))) == [rtp(2)]


def test_unusable_keys_are_refused():
    good = new_keys(SUITES[0])
    for bad in (
        SRTPKeys(good.suite, good.send[:-1], good.receive),
        SRTPKeys(good.suite, good.send, good.receive + b"x"),
        SRTPKeys(CryptoSuite.AEAD_AES_128_GCM, good.send, good.receive),
        SRTPKeys(good.suite, good.send, good.send),
    ):
        with pytest.raises(SRTPError) as caught:
            check_keys(bad)
        assert good.send.hex() not in str(caught.value)
    legs = SecureLegs(1)
    legs.negotiate(0, good)
    with pytest.raises(SRTPError, match="suite"):
        legs.negotiate(0, SRTPKeys(CryptoSuite.AES_CM_128_HMAC_SHA1_32, good.send, good.receive))


def test_the_end_of_a_leg_forgets_its_keys():
    legs, keys = SecureLegs(1), new_keys(SUITES[0])
    legs.negotiate(0, keys)
    legs.clear(0)
    assert not legs
    assert (legs.secured[0], legs.tag_bytes[0], legs.failed[0]) == (False, 0, 0)
    legs.negotiate(0, keys)  # another leg's, by chance the same
    assert legs.secured.tolist() == [True]


def test_keys_have_no_repr():
    keys = SRTPKeys(SUITES[0], b"s" * 30, b"r" * 30)
    assert repr(keys) == "SRTPKeys(AES_CM_128_HMAC_SHA1_80)"


@pytest.mark.parametrize("suite", SUITES)
def test_rows_are_protected_where_they_lie(suite: CryptoSuite):
    keys = [new_keys(suite) for _ in range(3)]
    legs = SecureLegs(3)
    for row, own in enumerate(keys):
        legs.negotiate(row, own)
    clear = [rtp(row + 1, bytes((row,)) * 160, ssrc=row) for row in range(3)]
    packets = np.zeros((3, 172 + LONGEST_TAG), np.uint8)
    for row in range(3):
        packets[row, :172] = np.frombuffer(clear[row], np.uint8)
    assert legs.protect(packets, np.array([0, 2]), 172) == []
    assert packets[1, :172].tobytes() == clear[1]
    for row in (0, 2):
        expected = srtp_by_hand.protect(suite, keys[row].send, clear[row])
        assert packets[row, : len(expected)].tobytes() == expected
        assert not packets[row, len(expected) :].any()
    # The same sequence numbers again: nothing may go out.
    assert legs.protect(packets, np.array([0, 2]), 172) == [0, 2]
