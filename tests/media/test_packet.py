"""RTP headers: the columns of good packets, and no exception for any bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from media.arrays import Int32, UInt8
from media.rtp.packet import HEADER_OFFSET, PACKET_BYTES, SLOT_BYTES, Columns, header, parse


def batch_of(packets: list[bytes]) -> tuple[UInt8, Int32]:
    slots = np.full((len(packets), SLOT_BYTES), 0xA5, np.uint8)
    lengths = np.array([min(len(p), PACKET_BYTES + 1) for p in packets], np.int32)
    for slot, packet in zip(slots, packets, strict=True):
        kept = np.frombuffer(packet[:PACKET_BYTES], np.uint8)
        slot[HEADER_OFFSET : HEADER_OFFSET + len(kept)] = kept
    return slots, lengths


def parsed(*packets: bytes) -> Columns:
    return parse(*batch_of(list(packets)))


def payload_of(packet: bytes) -> bytes | None:
    slots, lengths = batch_of([packet])
    columns = parse(slots, lengths)
    if not columns.valid[0]:
        return None
    start = int(columns.offset[0])
    return slots[0, start : start + int(columns.size[0])].tobytes()


def test_plain_packet() -> None:
    columns = parsed(header(8, 65535, 0xFFFFFFF0, 0xDEADBEEF, marker=True) + bytes(160))
    assert columns.valid[0] and columns.marker[0]
    assert columns.payload_type[0] == 8
    assert columns.sequence[0] == 65535
    assert columns.timestamp[0] == 0xFFFFFFF0
    assert columns.ssrc[0] == 0xDEADBEEF
    assert columns.size[0] == 160


def test_contributing_sources_extension_and_padding() -> None:
    head = bytearray(header(0, 1, 2, 3))
    head[0] |= 0x10 | 0x20 | 2
    extension = b"\xbe\xde\x00\x01" + bytes(4)
    packet = bytes(head) + bytes(8) + extension + b"payload!" + b"\0\0\x03"
    assert payload_of(packet) == b"payload!"


def test_refused() -> None:
    head = header(0, 1, 2, 3)
    version_one = bytes([head[0] & 0x3F | 0x40]) + head[1:] + bytes(160)
    no_room_for_sources = bytes([head[0] | 15]) + head[1:] + bytes(20)
    no_room_for_extension = bytes([head[0] | 0x10]) + head[1:] + b"\0\0\xff\xff"
    padding_beyond = bytes([head[0] | 0x20]) + head[1:] + b"\1\2\xff"
    no_padding = bytes([head[0] | 0x20]) + head[1:] + b"\1\2\0"
    for packet in (
        b"",
        head[:11],
        version_one,
        no_room_for_sources,
        no_room_for_extension,
        padding_beyond,
        no_padding,
        head + bytes(PACKET_BYTES),
    ):
        assert payload_of(packet) is None


@given(st.lists(st.binary(max_size=700), max_size=6))
def test_never_raises_and_stays_inside(packets: list[bytes]) -> None:
    slots, lengths = batch_of(packets)
    columns = parse(slots, lengths)
    for at in np.flatnonzero(columns.valid):
        assert columns.size[at] >= 0
        assert columns.offset[at] >= HEADER_OFFSET + 12
        assert columns.offset[at] + columns.size[at] <= HEADER_OFFSET + lengths[at]


@given(st.binary(min_size=12, max_size=600), st.integers(0, 63))
def test_mutated_first_byte(packet: bytes, bits: int) -> None:
    slots, lengths = batch_of([bytes([0x80 | bits]) + packet[1:]])
    columns = parse(slots, lengths)
    if columns.valid[0]:
        assert 0 <= columns.size[0] <= lengths[0] - 12
