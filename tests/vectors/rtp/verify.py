"""Has Wireshark's dissectors read the packets of this directory and compares: `python tests/vectors/rtp/verify.py`.

Needs the program tshark, which nothing else here does. Each packet goes into a capture file as UDP over IPv4, RTP to
port 40000 and RTCP to 40001. Compared are, for packets that are good, every field of `expected.json`; for the others,
that the dissector complains, takes the packet for something else, or shows less payload than there are bytes.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIELDS = (
    *("rtp.version", "rtp.marker", "rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.ssrc", "rtp.payload"),
    *("rtpevent.event_id", "rtpevent.end_of_event", "rtpevent.duration"),
    *("rtcp.version", "rtcp.pt", "rtcp.length_check", "_ws.malformed", "_ws.expert.message"),
)
#: Longer packets are good RTP; that we refuse them is our own limit.
LONGEST = 576
#: Where Wireshark is more forgiving than RFC 3550: it reads on whatever comes first, asks for no null item at the end
#: of a chunk, and overlooks a tail that is too short to be a part.
FORGIVEN = {"rtcp-sdes-first", "rtcp-sdes-no-end", "rtcp-odd-tail"}


def capture(packets: list[tuple[bytes, int]]) -> bytes:
    """A pcap file of raw IPv4 (link type 101)."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    for second, (payload, port) in enumerate(packets):
        udp = struct.pack("!HHHH", 30000, port, 8 + len(payload), 0) + payload
        address = b"\x7f\x00\x00\x01"
        ip = (
            struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), second, 0, 64, 17, 0, address, address) + udp
        )
        parts.append(struct.pack("<IIII", second, 0, len(ip), len(ip)) + ip)
    return b"".join(parts)


def dissect(packets: list[tuple[bytes, int]]) -> list[dict[str, str]]:
    """The fields of each packet, as tshark prints them."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "vectors.pcap"
        path.write_bytes(capture(packets))
        command = [
            "tshark",
            "-n",
            "-r",
            str(path),
            "-T",
            "fields",
            "-E",
            "separator=/t",
            "-E",
            "occurrence=a",
        ]
        command += [
            "-d",
            "udp.port==40000,rtp",
            "-d",
            "udp.port==40001,rtcp",
            "-o",
            "rtpevent.event_payload_type_value:101",
        ]
        for field in FIELDS:
            command += ["-e", field]
        lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\n")
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines[: len(packets)]]


def disagreement(packet: bytes, said: dict[str, Any], seen: dict[str, str]) -> str:
    """What Wireshark sees otherwise, or nothing."""
    if said["kind"] == "rtcp":
        clean = not seen["_ws.malformed"] and "Malformed" not in seen["_ws.expert.message"]
        clean &= set(seen["rtcp.version"].split(",")) == {"2"}
        clean &= seen["rtcp.length_check"] in ("1", "True") and not seen["_ws.expert.message"]
        return "" if clean == (said["valid"] and said["bodies"]) else f"clean is {clean}: {seen}"
    payload = bytes.fromhex(seen["rtp.payload"].replace(":", ""))
    if not said["valid"]:
        taken = seen["rtp.version"] == "2" and not seen["_ws.malformed"] and not seen["_ws.expert.message"]
        taken &= bool(payload)
        return f"taken: {seen}" if taken and len(packet) < LONGEST else ""
    wanted = {
        "rtp.version": 2,
        "rtp.marker": said["marker"],
        "rtp.p_type": said["payload_type"],
        "rtp.seq": said["sequence"],
        "rtp.timestamp": said["timestamp"],
        "rtp.ssrc": said["ssrc"],
    }
    for field, value in wanted.items():
        text = seen[field].lower().replace("true", "1").replace("false", "0")
        if int(text or "-1", 0) != value:
            return f"{field} is {seen[field]}"
    inside = packet[said["offset"] : said["offset"] + said["size"]]
    event = said["payload_type"] == 101 and len(inside) >= 4
    if event and int(seen["rtpevent.event_id"].split(",")[0] or -1) != inside[0]:
        return f"event is {seen['rtpevent.event_id']}"
    if payload and payload != inside:
        return f"payload of {len(payload)} bytes"
    return ""


def main() -> int:
    """Compares all and says what differs."""
    expected = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
    names = sorted(expected)
    packets = [(HERE / f"{name}.bin").read_bytes() for name in names]
    ports = [40001 if expected[name]["kind"] == "rtcp" else 40000 for name in names]
    wrong = 0
    for name, packet, seen in zip(
        names, packets, dissect(list(zip(packets, ports, strict=True))), strict=True
    ):
        said = "" if name in FORGIVEN else disagreement(packet, expected[name], seen)
        wrong += bool(said)
        if said:
            print(f"{name}: {said}")
    print(f"{len(names) - wrong - len(FORGIVEN)} of {len(names)} agree, {len(FORGIVEN)} forgiven")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
