"""Writes the packets of this directory and what is in them (`expected.json`), from the RFCs' bit layouts alone.

Imports nothing of the project, so that it cannot share a mistake with what it tests. Run it as
`python tests/vectors/rtp/make.py`; it makes the same bytes each time.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SSRC = 0x1A2B3C4D
PCMU, CN, PCMA, EVENT = 0, 13, 8, 101
VOICE = bytes((0xFF, 0x7E, 0xE3, 0x6B) * 40)


def rtp(
    payload: bytes,
    *,
    version: int = 2,
    padding: bytes | None = None,
    extension: bytes | None = None,
    csrc: tuple[int, ...] = (),
    count: int | None = None,
    marker: bool = False,
    payload_type: int = PCMU,
    sequence: int = 0x1234,
    timestamp: int = 0x89ABCDEF,
) -> bytes:
    """One packet, RFC 3550 §5.1. `padding` and `extension` are taken as they are, also wrong ones."""
    first = version << 6 | (padding is not None) << 5 | (extension is not None) << 4
    first |= len(csrc) if count is None else count
    head = struct.pack("!BBHII", first, marker << 7 | payload_type, sequence, timestamp, SSRC)
    sources = b"".join(struct.pack("!I", each) for each in csrc)
    return head + sources + (extension or b"") + payload + (padding or b"")


def event(code: int, second: int, duration: int) -> bytes:
    """RFC 4733 §2.3: event, E and R and volume, duration."""
    return struct.pack("!BBH", code, second, duration)


def good(packet: bytes, offset: int, size: int, **changes: Any) -> tuple[bytes, dict[str, Any]]:
    """A packet that a receiver takes, and what it says."""
    fields = {
        "marker": False,
        "payload_type": PCMU,
        "sequence": 0x1234,
        "timestamp": 0x89ABCDEF,
        "ssrc": SSRC,
    }
    return packet, {"kind": "rtp", "valid": True, **fields, "offset": offset, "size": size, **changes}


def bad(packet: bytes, why: str) -> tuple[bytes, dict[str, Any]]:
    """A packet that is none."""
    return packet, {"kind": "rtp", "valid": False, "why": why}


ONE_BYTE = b"\xbe\xde\x00\x01" + b"\x10\xaa\x00\x00"  # RFC 8285 §4.2
FIFTEEN = tuple(range(1, 16))

RTP = {
    "rtp-pcmu-20ms": good(rtp(VOICE), 12, 160),
    "rtp-pcma-marker": good(
        rtp(VOICE, payload_type=PCMA, marker=True), 12, 160, payload_type=PCMA, marker=True
    ),
    "rtp-pcmu-10ms": good(rtp(VOICE[:80]), 12, 80),
    "rtp-pcmu-60ms": good(rtp(VOICE * 3), 12, 480),
    "rtp-largest-numbers": good(
        rtp(VOICE, sequence=0xFFFF, timestamp=0xFFFFFFFF), 12, 160, sequence=0xFFFF, timestamp=0xFFFFFFFF
    ),
    "rtp-no-payload": good(rtp(b""), 12, 0),
    "rtp-one-byte": good(rtp(VOICE[:1]), 12, 1),
    "rtp-comfort-noise": good(rtp(b"\x3c", payload_type=CN), 12, 1, payload_type=CN),
    "rtp-3-sources": good(rtp(VOICE, csrc=(1, 2, 3)), 24, 160),
    "rtp-15-sources": good(rtp(VOICE, csrc=FIFTEEN), 72, 160),
    "rtp-extension": good(rtp(VOICE, extension=ONE_BYTE), 20, 160),
    "rtp-extension-empty": good(rtp(VOICE, extension=b"\x12\x34\x00\x00"), 16, 160),
    "rtp-padding-1": good(rtp(VOICE, padding=b"\x01"), 12, 160),
    "rtp-padding-4": good(rtp(VOICE, padding=b"\x00\x00\x00\x04"), 12, 160),
    "rtp-padding-only": good(rtp(b"", padding=b"\x00\x00\x00\x04"), 12, 0),
    "rtp-sources-extension-padding": good(
        rtp(VOICE, csrc=(7, 8), extension=ONE_BYTE, padding=b"\x00\x02"), 28, 160
    ),
    "rtp-empty": bad(b"", "no byte"),
    "rtp-cut-1": bad(rtp(VOICE)[:1], "one byte"),
    "rtp-cut-11": bad(rtp(VOICE)[:11], "shorter than the fixed header"),
    "rtp-version-0": bad(rtp(VOICE, version=0), "version (as STUN, RFC 7983)"),
    "rtp-version-1": bad(rtp(VOICE, version=1), "version"),
    "rtp-version-3": bad(rtp(VOICE, version=3), "version"),
    "rtp-sources-cut": bad(rtp(VOICE[:8], count=15), "15 sources promised, two there"),
    "rtp-extension-cut": bad(rtp(b"\xbe\xde", extension=b""), "half of the extension's header"),
    "rtp-extension-too-long": bad(rtp(VOICE, extension=b"\xbe\xde\x00\x64"), "100 words promised"),
    "rtp-extension-65535": bad(rtp(VOICE, extension=b"\xbe\xde\xff\xff"), "65,535 words promised"),
    "rtp-padding-0": bad(rtp(VOICE, padding=b"\x00"), "padding counts itself, so it is never 0"),
    "rtp-padding-too-long": bad(rtp(VOICE, padding=b"\xff"), "more padding than packet"),
    "rtp-padding-into-header": bad(rtp(b"\x01\x02", padding=b"\x04"), "padding reaches into the header"),
    "rtp-padding-into-extension": bad(
        rtp(b"", extension=ONE_BYTE, padding=b"\x00\x03"), "padding reaches into the extension"
    ),
    "rtp-too-long": bad(rtp(VOICE * 9), "1,452 bytes: no telephone's packet is longer than 60 ms"),
}


def key(payload: bytes, **changes: Any) -> tuple[bytes, dict[str, Any]]:
    """A telephone-event packet."""
    packet = rtp(payload, payload_type=EVENT, marker=bool(changes.get("marker")))
    return good(packet, 12, len(payload), payload_type=EVENT, **changes)


EVENTS = {
    "event-start": key(event(5, 0x0A, 160), marker=True),
    "event-update": key(event(5, 0x0A, 480)),
    "event-end": key(event(5, 0x8A, 800)),
    "event-longest": key(event(11, 0x0A, 0xFFFF)),
    "event-no-duration": key(event(5, 0x0A, 0)),
    "event-reserved-bit": key(event(5, 0x4A, 160)),
    "event-flash": key(event(16, 0x0A, 160)),
    "event-255": key(event(255, 0xFF, 0xFFFF)),
    "event-two": key(event(1, 0x8A, 160) + event(2, 0x0A, 160)),
    "event-and-a-half": key(event(1, 0x8A, 160) + b"\x02\x0a"),
    "event-cut-3": key(event(5, 0x0A, 160)[:3]),
    "event-cut-1": key(event(5, 0x0A, 160)[:1]),
    "event-no-payload": key(b""),
}


def rtcp(
    kind: int,
    body: bytes,
    count: int = 0,
    *,
    version: int = 2,
    padding: bool = False,
    words: int | None = None,
) -> bytes:
    """One packet, RFC 3550 §6.4: its length is in words, less one."""
    words = len(body) // 4 if words is None else words
    return struct.pack("!BBH", version << 6 | padding << 5 | count, kind, words) + body


def report(*, fraction: int = 12, lost: int = 345) -> bytes:
    """One report block; `lost` is signed, 24 bits."""
    block = struct.pack("!IB", 0x0BADCAFE, fraction) + (lost & 0xFFFFFF).to_bytes(3, "big")
    return block + struct.pack("!IIII", 0x00011234, 87, 0xAABBCCDD, 0x00010000)


SENDER = struct.pack("!IIIIII", SSRC, 0xE1234567, 0x80000000, 0x89ABCDEF, 1000, 160_000)
SR = rtcp(200, SENDER + report(), 1)
RR = rtcp(201, struct.pack("!I", SSRC) + report(), 1)
CNAME = b"\x01\x08leg@here"
SDES = rtcp(202, struct.pack("!I", SSRC) + CNAME + b"\x00\x00", 1)
BYE = rtcp(203, struct.pack("!I", SSRC) + b"\x03end", 1)
APP = rtcp(204, struct.pack("!I", SSRC) + b"abcd" + bytes(4))


def chain(packet: bytes) -> tuple[bytes, dict[str, Any]]:
    """A compound that passes RFC 3550 A.2 and whose parts are whole."""
    return packet, {"kind": "rtcp", "valid": True, "bodies": True}


def loose(packet: bytes, why: str) -> tuple[bytes, dict[str, Any]]:
    """A compound that passes A.2, with a part that does not hold what it promises."""
    return packet, {"kind": "rtcp", "valid": True, "bodies": False, "why": why}


def broken(packet: bytes, why: str) -> tuple[bytes, dict[str, Any]]:
    """One that A.2 rejects."""
    return packet, {"kind": "rtcp", "valid": False, "why": why}


RTCP = {
    "rtcp-sr-sdes": chain(SR + SDES),
    "rtcp-rr-sdes": chain(RR + SDES),
    "rtcp-rr-empty-sdes": chain(rtcp(201, struct.pack("!I", SSRC)) + SDES),
    "rtcp-sr-sdes-bye": chain(SR + SDES + BYE),
    "rtcp-sr-rr-sdes-app": chain(SR + RR + SDES + APP),
    "rtcp-sr-31-blocks": chain(rtcp(200, SENDER + report() * 31, 31) + SDES),
    "rtcp-rr-negative-loss": chain(
        rtcp(201, struct.pack("!I", SSRC) + report(fraction=0, lost=-2), 1) + SDES
    ),
    "rtcp-padding-on-last": chain(
        SR + rtcp(202, struct.pack("!I", SSRC) + CNAME + bytes(2) + b"\0\0\0\4", 1, padding=True)
    ),
    "rtcp-bye-unknown-source": chain(RR + SDES + rtcp(203, b"\xde\xad\xbe\xef", 1)),
    "rtcp-unknown-type": chain(SR + SDES + rtcp(207, bytes(8))),
    "rtcp-count-beyond": loose(rtcp(200, SENDER + report(), 9) + SDES, "nine blocks promised, one there"),
    "rtcp-sdes-no-end": loose(SR + rtcp(202, struct.pack("!I", SSRC) + b"\x01\x06abcdef", 1), "no null item"),
    "rtcp-sdes-item-beyond": loose(
        SR + rtcp(202, struct.pack("!I", SSRC) + b"\x01\xffab", 1), "item of 255 bytes, two there"
    ),
    "rtcp-bye-reason-beyond": loose(
        RR + SDES + rtcp(203, struct.pack("!I", SSRC) + b"\xffend", 1), "reason of 255 bytes, three there"
    ),
    "rtcp-bye-31-sources": loose(RR + SDES + rtcp(203, b"", 31), "31 sources promised, none there"),
    "rtcp-sr-no-sender": loose(rtcp(200, struct.pack("!I", SSRC)) + SDES, "no sender information"),
    "rtcp-empty-report": loose(rtcp(201, b"") + SDES, "a report from nobody"),
    "rtcp-cut-header": broken(SR[:3], "three bytes"),
    "rtcp-cut-report": broken((SR + SDES)[:40], "ends within the report"),
    "rtcp-cut-last": broken((SR + SDES)[:-3], "ends within the last part"),
    "rtcp-length-beyond": broken(rtcp(200, SENDER, words=0xFFFF), "65,535 words promised"),
    "rtcp-length-short": broken(rtcp(200, SENDER, words=1), "the next part would begin within the report"),
    "rtcp-version-1": broken(rtcp(200, SENDER + report(), 1, version=1) + SDES, "version"),
    "rtcp-version-1-second": broken(SR + rtcp(202, SDES[4:], 1, version=1), "version of the second part"),
    "rtcp-sdes-first": broken(SDES + SR, "begins with neither SR nor RR"),
    "rtcp-padding-on-first": broken(
        rtcp(201, struct.pack("!I", SSRC) + b"\0\0\0\4", padding=True) + SDES, "padding before the last"
    ),
    "rtcp-odd-tail": broken(SR + SDES + b"\x81", "one byte more"),
}

VECTORS = RTP | EVENTS | RTCP


def main() -> None:
    """Writes every file."""
    for name, (packet, _) in VECTORS.items():
        (HERE / f"{name}.bin").write_bytes(packet)
    expected = {name: said for name, (_, said) in VECTORS.items()}
    (HERE / "expected.json").write_text(
        json.dumps(expected, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
