"""The GMO-PG protocol type on the wire: form bodies out, ``k=v&k=v`` answers in. No I/O here.

Requests are form-encoded, values in Shift_JIS and then percent-encoded. Answers are text in Windows-31J
whose values are *not* encoded, and errors come with HTTP 200 as two parallel lists
(``ErrCode=E01|E01&ErrInfo=E01050002|E01060006``).

A body that carries a card is one `bytearray` of fixed size, so that no growing leaves a copy behind, and is
overwritten after use. What the HTTP and TLS libraries copy on their way out of the process is beyond us.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes

#: Longest request body; the longest that we send is below 700 bytes.
MAX_BODY_BYTES: Final = 8_192

ANSWER_ENCODING: Final = "cp932"  # Windows-31J by its Python name
REQUEST_ENCODING: Final = "shift_jis"


class MalformedAnswer(ValueError):
    """Not an answer of this protocol. Carries nothing of the answer: a hostile one may echo the card."""


class FormBody:
    """A form body under construction; wipe it when the answer is there."""

    __slots__ = ("_buffer", "_used")

    def __init__(self) -> None:
        self._buffer = bytearray(MAX_BODY_BYTES)
        self._used = 0

    def __repr__(self) -> str:
        return f"FormBody({self._used} bytes)"

    def __len__(self) -> int:
        return self._used

    def add(self, name: str, text: str) -> None:
        """Add a field that is no card data.

        Raises:
            ValueError: `text` has characters that Shift_JIS has not, or the body is full.
        """
        try:
            encoded = text.encode(REQUEST_ENCODING)
        except UnicodeEncodeError:
            # Without the cause: its message and `object` would carry the text.
            encoded = None
        if encoded is None:
            raise ValueError(f"{name}: not in Shift_JIS")
        self._append_name(name)
        self._append(quote_from_bytes(encoded, safe="").encode("ascii"))

    def add_digits(self, name: str, digits: bytes | bytearray | memoryview) -> None:
        """Add a field of ASCII digits without making a `str` of it.

        Raises:
            ValueError: There is something else than digits in it, or the body is full.
        """
        if any(not 0x30 <= octet <= 0x39 for octet in digits):
            raise ValueError(f"{name}: not digits")
        self._append_name(name)
        self._append(digits)

    def view(self) -> memoryview:
        """Return the body so far, without copying it."""
        return memoryview(self._buffer)[: self._used]

    def wipe(self) -> None:
        """Overwrite everything."""
        self._buffer[:] = bytes(MAX_BODY_BYTES)
        self._used = 0

    def _append_name(self, name: str) -> None:
        self._append(f"{'&' if self._used else ''}{name}=".encode("ascii"))

    def _append(self, octets: bytes | bytearray | memoryview) -> None:
        end = self._used + len(octets)
        if end > MAX_BODY_BYTES:
            raise ValueError("body too long")
        self._buffer[self._used : end] = octets
        self._used = end


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A parsed answer: its fields, and the detail codes if it is an error."""

    fields: dict[str, str]
    errors: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Answer({sorted(self.fields)}, errors={self.errors})"

    def __getitem__(self, name: str) -> str:
        try:
            return self.fields[name]
        except KeyError:
            raise MalformedAnswer(f"no {name}") from None

    def get(self, name: str) -> str:
        """Return the field, or an empty string; ``null`` is how the gateway echoes what was not sent."""
        text = self.fields.get(name, "")
        return "" if text == "null" else text


def parse_answer(body: bytes) -> Answer:
    """Parse an answer.

    Values are not encoded, so a value may hold ``=`` (split at the first) and even ``&`` (a piece without
    ``=`` belongs to the value before it). Decode before splitting: ``|`` is a possible second byte of a
    two-byte character in this encoding.

    Raises:
        MalformedAnswer: Undecodable, no field at all, a field twice, or error lists that are not parallel.
    """
    try:
        text: str | None = body.decode(ANSWER_ENCODING)
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise MalformedAnswer("not Windows-31J")
    fields: dict[str, str] = {}
    last = ""
    for piece in text.strip("\r\n").split("&"):
        name, equals, value = piece.partition("=")
        if not equals:
            if not last:
                raise MalformedAnswer("no field")
            fields[last] += "&" + piece
            continue
        if not name or name in fields:
            raise MalformedAnswer("field without a name, or twice")
        fields[name] = value
        last = name
    return Answer(fields, _errors(fields))


def _errors(fields: dict[str, str]) -> tuple[str, ...]:
    if "ErrCode" not in fields and "ErrInfo" not in fields:
        return ()
    classes = fields.get("ErrCode", "").split("|")
    details = fields.get("ErrInfo", "").split("|")
    if len(classes) != len(details) or not all(classes) or not all(details):
        raise MalformedAnswer("error lists are not parallel")
    # Codes go into records and logs, so nothing but a code may pass for one.
    if not all(len(code) <= 16 and code.isascii() and code.isalnum() for code in details):
        raise MalformedAnswer("not an error code")
    return tuple(details)


def check_string(answer: Answer, shop_pass: str) -> str:
    """Compute ExecTran's CheckString; MD5 because the protocol says so."""
    names = ("OrderID", "Forward", "Method", "PayTimes", "Approve", "TranID", "TranDate")
    text = "".join(answer.fields.get(name, "") for name in names) + shop_pass
    return hashlib.md5(text.encode(ANSWER_ENCODING), usedforsecurity=False).hexdigest()


def check_string_holds(answer: Answer, shop_pass: str) -> bool:
    """Tell whether the answer's CheckString is there and right."""
    given = answer.fields.get("CheckString", "").lower().encode("utf-8", "replace")
    return hmac.compare_digest(given, check_string(answer, shop_pass).encode("ascii"))
