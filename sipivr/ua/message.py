"""A bounded reading of one SIP message's bytes (RFC 3261 §7), for the edge, identity and the ladder.

It is not pjsip's parser and decides nothing about a dialog: it only has to read the same headers from the
same bytes without ever failing in any other way than `SIPMessageError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Largest message read, bytes; pjsip refuses more than `PJSIP_MAX_PKT_LEN`.
MAX_MESSAGE_BYTES: Final = 65_535
MAX_HEADERS: Final = 256

#: RFC 3261 §7.3.3, RFC 3892, RFC 4028, RFC 6665 and the registry of compact forms.
_COMPACT: Final = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
_HEADER_END: Final = re.compile(rb"\r?\n\r?\n")
_FOLD: Final = re.compile(r"\r?\n[ \t]+")
_LINE: Final = re.compile(r"\r?\n")
_STATUS_LINE: Final = re.compile(r"SIP/2\.0 +([1-6][0-9]{2})(?: (.*))?", re.ASCII)
_REQUEST_LINE: Final = re.compile(r"([A-Za-z0-9.!%*_+`'~-]{1,32}) +(\S+) +SIP/2\.0", re.ASCII)


class SIPMessageError(Exception):
    """The bytes are no SIP message; `str()` is a sentence without any of its contents."""


@dataclass(frozen=True, slots=True)
class SIPMessage:
    """One message.

    Attributes:
        method: of a request, "" for a response.
        request_uri: of a request, "" for a response.
        status, reason: of a response, 0 and "" for a request.
        headers: in order, names lower-case with compact forms expanded, folded lines joined.
        body: as many bytes as Content-Length says, or all that followed the headers.
    """

    method: str
    request_uri: str
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> tuple[str, ...]:
        """Values of every header of that (lower-case) name, in order, not split at commas."""
        return tuple(value for key, value in self.headers if key == name)

    def first(self, name: str) -> str | None:
        """First value of that (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def cseq_method(self) -> str:
        """The method that a response answers (RFC 3261 §8.1.1.5)."""
        words = (self.first("cseq") or "").split()
        return words[1] if len(words) > 1 else ""

    @property
    def content_type(self) -> str:
        """`type/subtype` in lower case, "" when there is none."""
        return (self.first("content-type") or "").partition(";")[0].strip().lower()

    @property
    def sdp(self) -> bytes | None:
        """The SDP body, also from within a multipart body (RFC 5621), None when there is none."""
        if not self.body.strip():
            return None
        if self.content_type == "application/sdp":
            return self.body
        if self.content_type.startswith("multipart/"):
            return _sdp_part(self.first("content-type") or "", self.body)
        return None


def parse_message(raw: bytes) -> SIPMessage:
    """Reads a message.

    Raises:
        SIPMessageError: it is none.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise SIPMessageError("The message is too large.")
    raw = raw.lstrip(b"\r\n")
    end = _HEADER_END.search(raw)
    head = raw[: end.start()] if end else raw
    body = raw[end.end() :] if end else b""
    text = _FOLD.sub(" ", head.decode("utf-8", "replace"))
    start_line, *lines = _LINE.split(text)
    if len(lines) > MAX_HEADERS:
        raise SIPMessageError("The message has too many headers.")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            key = name.strip().lower()
            headers.append((_COMPACT.get(key, key), value.strip()))
    method, uri, status, reason = _start(start_line)
    message = SIPMessage(method, uri, status, reason, tuple(headers), body)
    length = message.first("content-length")
    if length is not None and length.isascii() and length.isdigit() and len(length) <= 6:
        message = SIPMessage(method, uri, status, reason, message.headers, body[: int(length)])
    return message


def _start(line: str) -> tuple[str, str, int, str]:
    if match := _STATUS_LINE.fullmatch(line):
        return "", "", int(match[1]), match[2] or ""
    if match := _REQUEST_LINE.fullmatch(line):
        return match[1], match[2], 0, ""
    raise SIPMessageError("The first line is neither a request line nor a status line.")


def _sdp_part(content_type: str, body: bytes) -> bytes | None:
    match = re.search(r'boundary="?([^";]{1,70})"?', content_type, re.IGNORECASE)
    if not match:
        return None
    delimiter = b"--" + match[1].encode("utf-8", "replace")
    for part in body.split(delimiter, 16)[1:]:
        head, _, content = part.lstrip(b"\r\n").partition(b"\r\n\r\n")
        if re.search(rb"^content-type:\s*application/sdp\b", head, re.IGNORECASE | re.MULTILINE):
            return content
    return None


def header_parameters(value: str) -> dict[str, str]:
    """The `;name=value` parameters of a header value outside `<>` and quotes, names in lower case."""
    tail = value
    if "<" in value:
        tail = value.rpartition(">")[2]
    parameters = {}
    for item in tail.split(";")[1:]:
        name, _, word = item.partition("=")
        parameters[name.strip().lower()] = word.strip().strip('"')
    return parameters


def split_list(value: str) -> list[str]:
    """Splits a header value at commas outside quotes and angle brackets (RFC 3261 §7.3.1)."""
    items: list[str] = []
    start = 0
    quoted = bracketed = escaped = False
    for index, character in enumerate(value):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character == "<":
            bracketed = True
        elif character == ">":
            bracketed = False
        elif character == "," and not bracketed:
            items.append(value[start:index].strip())
            start = index + 1
    items.append(value[start:].strip())
    return [item for item in items if item]
