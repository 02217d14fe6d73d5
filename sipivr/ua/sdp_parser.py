"""From the bytes of an SDP body to `SessionDescription` (RFC 8866), strict in what it uses, bounded in all.

Whatever the bytes are, the outcome is a value or an `SDPError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from sipivr.ua.sdp import (
    CryptoLine,
    Direction,
    MediaDescription,
    PayloadFormat,
    SDPError,
    SessionDescription,
)

MAX_BYTES: Final = 16_384
MAX_LINES: Final = 512
MAX_MEDIA: Final = 16
MAX_FORMATS: Final = 64
MAX_CRYPTO: Final = 8

#: RFC 3551 §6: payload types that need no rtpmap.
_STATIC: Final = {
    0: ("PCMU", 8000),
    3: ("GSM", 8000),
    4: ("G723", 8000),
    8: ("PCMA", 8000),
    9: ("G722", 8000),
    13: ("CN", 8000),
    18: ("G729", 8000),
}
_DIRECTIONS: Final = {d.value: d for d in Direction}
_TOKEN: Final = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,32}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,20}", re.ASCII)
_HOST: Final = re.compile(r"[0-9A-Za-z.:_-]{1,255}", re.ASCII)


@dataclass(slots=True)
class _Section:
    """Lines of one level as they come in."""

    kind: str = ""
    port: int = 0
    protocol: str = ""
    raw_formats: tuple[str, ...] = ()
    address: str = ""
    direction: Direction | None = None
    ptime_ms: int | None = None
    maxptime_ms: int | None = None
    rtcp_mux: bool = False
    rtcp_port: int | None = None
    maps: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    parameters: dict[int, str] = field(default_factory=dict)
    crypto: list[CryptoLine] = field(default_factory=list)


def parse_sdp(body: bytes | str) -> SessionDescription:
    """Reads one body.

    Raises:
        SDPError: it is malformed, too large, or names a host where an address is needed.
    """
    session = _Section()
    sections: list[_Section] = []
    origin: tuple[int, int, str] | None = None
    for kind, value in _lines(body):
        section = sections[-1] if sections else session
        if kind == "m":
            if len(sections) == MAX_MEDIA:
                raise SDPError("The session description has too many media sections.")
            sections.append(_media_line(value))
        elif kind == "o":
            if origin is not None or sections:
                raise SDPError("The o= line is misplaced.")
            origin = _origin(value)
        elif kind == "c":
            section.address = _connection(value)
        elif kind == "a":
            _attribute(section, value)
    if origin is None:
        raise SDPError("The session description has no o= line.")
    media = tuple(_finish(section, session) for section in sections)
    return SessionDescription(origin[0], origin[1], origin[2], media)


def _lines(body: bytes | str) -> list[tuple[str, str]]:
    if isinstance(body, str):
        body = body.encode("utf-8", "replace")
    if len(body) > MAX_BYTES:
        raise SDPError("The session description is too large.")
    if b"\0" in body:
        raise SDPError("The session description holds a NUL byte.")
    lines = body.decode("utf-8", "replace").replace("\r\n", "\n").strip("\n").split("\n")
    if len(lines) > MAX_LINES:
        raise SDPError("The session description has too many lines.")
    if lines[0].strip() != "v=0":
        raise SDPError("The session description does not begin with v=0.")
    if any(line[1:2] != "=" for line in lines):
        raise SDPError("A line of the session description is not of the form x=value.")
    return [(line[0], line[2:].strip()) for line in lines]


def _integer(word: str, largest: int, what: str) -> int:
    if not _NUMBER.fullmatch(word) or int(word) > largest:
        raise SDPError(f"The {what} is no number or out of range.")
    return int(word)


def _origin(value: str) -> tuple[int, int, str]:
    words = value.split()
    if len(words) != 6 or not _HOST.fullmatch(words[5]):
        raise SDPError("The o= line is malformed.")
    limit = 10**20
    return _integer(words[1], limit, "session id"), _integer(words[2], limit, "session version"), words[5]


def _connection(value: str) -> str:
    words = value.split()
    if len(words) != 3 or words[0] != "IN" or words[1] not in {"IP4", "IP6"}:
        raise SDPError("A c= line is malformed.")
    try:
        # RFC 8866 §5.7: a multicast TTL may follow a slash; unicast is all we do.
        address = ip_address(words[2])
    except ValueError:
        raise SDPError("A c= line holds no numeric address.") from None
    if address.is_multicast or address.version != int(words[1][2]) or "%" in words[2]:
        raise SDPError("A c= line holds no unicast address of its family.")
    return str(address)


def _media_line(value: str) -> _Section:
    words = value.split()
    if len(words) < 4 or not _TOKEN.fullmatch(words[0]) or len(words[2]) > 64:
        raise SDPError("An m= line is malformed.")
    if len(words) - 3 > MAX_FORMATS:
        raise SDPError("An m= line has too many formats.")
    port, slash, count = words[1].partition("/")
    if slash:
        _integer(count, 65535, "number of ports")
    return _Section(
        kind=words[0],
        port=_integer(port, 65535, "port of an m= line"),
        protocol=words[2].upper(),
        raw_formats=tuple(word[:32] for word in words[3:]),
    )


def _attribute(section: _Section, value: str) -> None:
    name, _, word = value.partition(":")
    word = word.strip()
    if name in _DIRECTIONS:
        section.direction = _DIRECTIONS[name]
    elif name == "rtpmap":
        _rtpmap(section, word)
    elif name == "fmtp":
        number, _, rest = word.partition(" ")
        if _NUMBER.fullmatch(number) and len(section.parameters) < MAX_FORMATS:
            section.parameters[int(number)] = rest.strip()[:256]
    elif name in {"ptime", "maxptime"}:
        # Peers write "20.0" too; what cannot be read is as if it were not there.
        whole = word.partition(".")[0]
        if _NUMBER.fullmatch(whole) and 0 < int(whole) <= 1000:
            setattr(section, f"{name}_ms", int(whole))
    elif name == "rtcp-mux":
        section.rtcp_mux = True
    elif name == "rtcp":
        first = word.split(" ", 1)[0]
        if _NUMBER.fullmatch(first) and 0 < int(first) <= 65535:
            section.rtcp_port = int(first)
    elif name == "crypto":
        _crypto(section, word)


def _rtpmap(section: _Section, word: str) -> None:
    match = re.fullmatch(r"([0-9]{1,3})\s+([^\s/]{1,32})/([0-9]{1,6})(?:/([0-9]{1,2}))?\s*", word, re.ASCII)
    if not match:
        raise SDPError("An rtpmap is malformed.")
    if len(section.maps) < MAX_FORMATS:
        section.maps[int(match[1])] = (match[2], int(match[3]), int(match[4] or 1))


def _crypto(section: _Section, word: str) -> None:
    if len(section.crypto) == MAX_CRYPTO:
        raise SDPError("The session description has too many crypto lines.")
    match = re.fullmatch(r"([0-9]{1,9})\s+([A-Za-z0-9_]{1,64})\s+(\S.{0,511})", word, re.ASCII)
    if not match:
        raise SDPError("A crypto line is malformed.")
    section.crypto.append(CryptoLine(int(match[1]), match[2], match[3]))


def _finish(section: _Section, session: _Section) -> MediaDescription:
    formats: list[PayloadFormat] = []
    if section.protocol.startswith("RTP/"):
        for word in section.raw_formats:
            number = _integer(word, 127, "payload type")
            name, rate = _STATIC.get(number, ("", 0))
            mapped = section.maps.get(number, (name, rate, 1))
            formats.append(PayloadFormat(number, *mapped, section.parameters.get(number, "")))
    address = section.address or session.address
    if section.port and section.kind == "audio" and not address:
        raise SDPError("The audio section has no c= line.")
    return MediaDescription(
        kind=section.kind,
        port=section.port,
        protocol=section.protocol,
        formats=tuple(formats),
        raw_formats=section.raw_formats,
        address=address,
        direction=section.direction or session.direction or Direction.SENDRECV,
        ptime_ms=section.ptime_ms or session.ptime_ms,
        maxptime_ms=section.maxptime_ms or session.maxptime_ms,
        rtcp_mux=section.rtcp_mux,
        rtcp_port=section.rtcp_port,
        crypto=tuple(section.crypto),
    )
