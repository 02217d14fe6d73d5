"""RTCP packets (RFC 3550 §6): what came, as values, and what we send, as bytes. No clock, no socket.

A peer's compound packet is read as a whole or refused as a whole (RFC 3550 §A.2): version 2 throughout, a
report first, lengths that add up to the datagram, padding at the very end only. Within these rules everything
unknown is passed over: APP, feedback (RFC 4585), extended reports (RFC 3611), other SDES items, extensions of
a profile behind the report blocks. Reduced-size RTCP (RFC 5506) is not negotiated and not taken.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203
_REPORTS: Final = (SENDER_REPORT, RECEIVER_REPORT)

#: A datagram longer than this is refused; ours have 84 bytes or so.
LONGEST: Final = 1500
#: Seconds from 1900, where NTP counts from (RFC 5905 §6), to 1970.
NTP_EPOCH_S: Final = 2_208_988_800

_CNAME: Final = 1
_HEADER_BYTES: Final = 4
_BLOCK_BYTES: Final = 24
_INFO_BYTES: Final = 20
#: RFC 3550 §6.4.1: 24 bits, signed; a sum beyond them stays at the end of the range.
_MOST_LOST: Final = 0x7FFFFF

_HEADER: Final = struct.Struct(">BBH")
_WORD: Final = struct.Struct(">I")
_INFO: Final = struct.Struct(">QIII")
_BLOCK: Final = struct.Struct(">IIIIII")


class SenderInfo(NamedTuple):
    """What a sender says of its own stream (RFC 3550 §6.4.1).

    `ntp` is the wall clock as 32.32 bits of seconds, `rtp_timestamp` the same instant on the media clock.
    """

    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int


class ReportBlock(NamedTuple):
    """What a receiver says of one stream that it hears (RFC 3550 §6.4.1).

    `fraction_lost` is in 1/256 since the report before, `cumulative_lost` may be negative (duplicates), `jitter`
    is in timestamp units, `last_report` the middle 32 bits of the NTP time of the sender's last report (0: none
    came), `delay` the time since it in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    last_report: int
    delay: int


class Compound(NamedTuple):
    """One datagram from a peer.

    `ssrc` is the reporter of its first packet, `sender` that reporter's own stream, if it sends one. `goodbyes`
    are the sources that leave.
    """

    ssrc: int
    sender: SenderInfo | None
    blocks: tuple[ReportBlock, ...] = ()
    cname: bytes | None = None
    goodbyes: tuple[int, ...] = ()


def parse(datagram: bytes) -> Compound | None:
    """Reads one compound packet; None for anything that is not one. Never raises, whatever the bytes."""
    packets = _split(datagram)
    if packets is None or packets[0][0] not in _REPORTS:
        return None
    (reporter,) = _WORD.unpack_from(datagram, _HEADER_BYTES)
    sender: SenderInfo | None = None
    blocks: list[ReportBlock] = []
    cname: bytes | None = None
    goodbyes: list[int] = []
    for kind, count, start, end in packets:
        if kind in _REPORTS:
            at = start + 4 + (_INFO_BYTES if kind == SENDER_REPORT else 0)
            if end < at + count * _BLOCK_BYTES:
                return None
            if kind == SENDER_REPORT and datagram[start : start + 4] == datagram[4:8]:
                sender = SenderInfo(*_INFO.unpack_from(datagram, start + 4))
            for _ in range(count):
                blocks.append(_block(datagram, at))
                at += _BLOCK_BYTES
        elif kind == SOURCE_DESCRIPTION:
            names = _names(datagram[start:end], count)
            if names is None:
                return None
            cname = names.get(reporter, cname)
        elif kind == GOODBYE:
            if not _well_ended(datagram[start:end], count):
                return None
            goodbyes += struct.unpack_from(f">{count}I", datagram, start)
    return Compound(reporter, sender, tuple(blocks), cname, tuple(goodbyes))


def _split(datagram: bytes) -> list[tuple[int, int, int, int]] | None:
    """The packets of a compound (RFC 3550 §A.2): version 2, whole, padded at the end of the last one only.

    Returns:
        For each its type, the five bits that count what it holds, and where its body starts and ends.
    """
    end = len(datagram)
    if not 8 <= end <= LONGEST or end % 4 or datagram[3] == datagram[2] == 0:
        return None
    packets: list[tuple[int, int, int, int]] = []
    at = 0
    while at < end:
        first, kind, words = _HEADER.unpack_from(datagram, at)
        start = at + _HEADER_BYTES
        stop = start + 4 * words
        if first >> 6 != 2 or stop > end:
            return None
        padding = 0
        if first & 0x20:
            # §6.4.1: the last octet counts the padding, itself included, in whole words.
            padding = datagram[stop - 1]
            if stop != end or not at or not padding or padding % 4 or padding > stop - start:
                return None
        packets.append((kind, first & 0x1F, start, stop - padding))
        at = stop
    return packets


def _block(datagram: bytes, at: int) -> ReportBlock:
    ssrc, lost, highest, jitter, last_report, delay = _BLOCK.unpack_from(datagram, at)
    cumulative = lost & 0xFFFFFF
    if cumulative > _MOST_LOST:
        cumulative -= 1 << 24
    return ReportBlock(ssrc, lost >> 24, cumulative, highest, jitter, last_report, delay)


def _names(body: bytes, chunks: int) -> dict[int, bytes] | None:
    """CNAMEs by source (§6.5); None when the chunks do not fill the packet as they should."""
    names: dict[int, bytes] = {}
    at, end = 0, len(body)
    for _ in range(chunks):
        if at + 4 > end:
            return None
        source = _WORD.unpack_from(body, at)[0]
        at += 4
        while at < end and body[at]:
            if at + 2 > end or at + 2 + body[at + 1] > end:
                return None
            text = at + 2
            if body[at] == _CNAME:
                names[source] = body[text : text + body[at + 1]]
            at = text + body[at + 1]
        if at >= end:
            return None  # the null octet that ends a list of items is not optional
        at = (at // 4 + 1) * 4
    return names


def _well_ended(body: bytes, count: int) -> bool:
    """Whether a BYE holds its sources and, if it gives a reason, all of it (§6.6)."""
    start = 4 * count
    return len(body) >= start and (len(body) == start or start + 1 + body[start] <= len(body))


def source_items(ssrc: int, cname: bytes) -> bytes:
    """An SDES packet with the one item that is mandatory (§6.5.1).

    Args:
        ssrc: ours.
        cname: up to 255 bytes.
    """
    chunk = _WORD.pack(ssrc) + bytes((_CNAME, len(cname))) + cname
    chunk += bytes(4 - len(chunk) % 4)
    return _HEADER.pack(0x81, SOURCE_DESCRIPTION, len(chunk) // 4) + chunk


def report(ssrc: int, sender: SenderInfo | None, block: ReportBlock | None, items: bytes) -> bytes:
    """A compound packet: SR while we send, else RR, and the SDES packet `items` (§6.1)."""
    parts = [_WORD.pack(ssrc)]
    if sender is not None:
        parts.append(
            _INFO.pack(
                sender.ntp & 0xFFFFFFFF_FFFFFFFF,
                sender.rtp_timestamp & 0xFFFFFFFF,
                sender.packets & 0xFFFFFFFF,
                sender.octets & 0xFFFFFFFF,
            )
        )
    if block is not None:
        lost = max(-_MOST_LOST - 1, min(_MOST_LOST, block.cumulative_lost)) & 0xFFFFFF
        parts.append(
            _BLOCK.pack(
                block.ssrc,
                block.fraction_lost << 24 | lost,
                block.highest_sequence & 0xFFFFFFFF,
                min(block.jitter, 0xFFFFFFFF),
                block.last_report,
                min(block.delay, 0xFFFFFFFF),
            )
        )
    body = b"".join(parts)
    kind = RECEIVER_REPORT if sender is None else SENDER_REPORT
    return _HEADER.pack(0x80 | (block is not None), kind, len(body) // 4) + body + items


def goodbye(ssrc: int, items: bytes) -> bytes:
    """A compound packet that says that our source leaves (§6.6), behind an empty report (§6.1)."""
    return report(ssrc, None, None, items) + _HEADER.pack(0x81, GOODBYE, 1) + _WORD.pack(ssrc)


def ntp_time(unix_ns: int) -> int:
    """Nanoseconds since 1970 as 32.32 bits of seconds since 1900 (RFC 5905 §6)."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    return (seconds + NTP_EPOCH_S) % (1 << 32) << 32 | (rest << 32) // 1_000_000_000


def middle(ntp: int) -> int:
    """The middle 32 bits of an NTP time, 1/65536 s each (RFC 3550 §4)."""
    return ntp >> 16 & 0xFFFFFFFF


def round_trip_s(arrival: int, block: ReportBlock) -> float | None:
    """The round trip that a block of ours has made (§6.4.1, figure 2).

    Args:
        arrival: middle 32 bits of the NTP time at which the block came.
        block: about our stream.

    Returns:
        Seconds; None when the peer has had no report of ours. Negative when the clocks say so.
    """
    if not block.last_report:
        return None
    trip = (arrival - block.last_report - block.delay + 0x80000000) % 0x100000000 - 0x80000000
    return trip / 65536
