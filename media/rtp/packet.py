"""RTP headers as columns (RFC 3550 §5.1), and the columns of packets that we send."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Int32, UInt8, UInt16, UInt32

HEADER_BYTES: Final = 12
#: One packet's place in a batch: header, 60 ms of G.711 and some extension. A longer packet is refused.
SLOT_BYTES: Final = 576
#: The header starts here in a slot, so that the usual payload starts at a multiple of eight.
HEADER_OFFSET: Final = 4
PACKET_BYTES: Final = SLOT_BYTES - HEADER_OFFSET


class Columns(NamedTuple):
    """One entry for each packet of a batch. Where `valid` is false the others mean nothing."""

    valid: Bool
    marker: Bool
    payload_type: UInt8
    sequence: UInt16
    timestamp: UInt32
    ssrc: UInt32
    offset: Int32
    """Where the payload starts in the slot."""
    size: Int32
    """Bytes of payload, without padding; never negative where valid."""


def parse(slots: UInt8, lengths: Int32) -> Columns:
    """Reads the headers of a batch; never raises, whatever the bytes.

    Args:
        slots: `(packets, SLOT_BYTES)`, each packet starting at `HEADER_OFFSET`.
        lengths: `(packets,)` bytes of each packet; beyond `PACKET_BYTES` the packet was cut and is refused.
    """
    first = slots[:, HEADER_OFFSET]
    second = slots[:, HEADER_OFFSET + 1]
    words = slots.view(">u4")
    sequence = slots.view(">u2")[:, HEADER_OFFSET // 2 + 1].astype(np.uint16)
    valid = (first >> 6 == 2) & (lengths >= HEADER_BYTES) & (lengths <= PACKET_BYTES)
    offset = np.full(len(slots), HEADER_OFFSET + HEADER_BYTES, np.int32)
    size = lengths.astype(np.int32) - HEADER_BYTES
    if (first != 0x80).any():
        _read_extras(slots, lengths, valid, offset, size)
    return Columns(
        valid,
        second >= 0x80,
        (second & 0x7F).astype(np.uint8, copy=False),
        sequence,
        words[:, HEADER_OFFSET // 4 + 1].astype(np.uint32),
        words[:, HEADER_OFFSET // 4 + 2].astype(np.uint32),
        offset,
        size,
    )


def _read_extras(slots: UInt8, lengths: Int32, valid: Bool, offset: Int32, size: Int32) -> None:
    """Contributing sources, extension and padding of the packets that have them (RFC 3550 §5.1, §5.3.1)."""
    for packet in np.flatnonzero(valid & (slots[:, HEADER_OFFSET] != 0x80)):
        first = int(slots[packet, HEADER_OFFSET])
        end = HEADER_OFFSET + int(lengths[packet])
        start = HEADER_OFFSET + HEADER_BYTES + 4 * (first & 0x0F)
        if first & 0x10:
            if start + 4 > end:
                valid[packet] = False
                continue
            words = int(slots[packet, start + 2]) << 8 | int(slots[packet, start + 3])
            start += 4 + 4 * words
        if first & 0x20 and start < end:
            padding = int(slots[packet, end - 1])
            end -= padding if padding else SLOT_BYTES
        valid[packet] = start <= end
        offset[packet] = start
        size[packet] = end - start


def header(payload_type: int, sequence: int, timestamp: int, ssrc: int, *, marker: bool = False) -> bytes:
    """One plain header (version 2, no extras)."""
    word = payload_type | (0x80 if marker else 0)
    return (
        bytes((0x80, word))
        + (sequence & 0xFFFF).to_bytes(2, "big")
        + (timestamp & 0xFFFFFFFF).to_bytes(4, "big")
        + (ssrc & 0xFFFFFFFF).to_bytes(4, "big")
    )
