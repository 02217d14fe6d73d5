"""The connector's messages: JSON out of one wipeable buffer, answers into typed values. No I/O here."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from sipivr.gateway.port import Category, Declined, TradeStatus
from sipivr.gateway.registered_cards import RegisteredCard

MAX_BODY_BYTES: Final = 8_192

#: Codes and references come from outside and go into records: short, and plain characters only.
_Code: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{1,12}\Z")]
_Reference: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.:-]{0,64}\Z")]

#: What the operator reads where the receiver gives a class only.
MESSAGE_KEYS: Final = {
    Category.REENTER_PAN: "card.number_wrong",
    Category.REENTER_EXPIRY: "card.expiry_wrong",
    Category.REENTER_SECURITY_CODE: "card.security_code_wrong",
    Category.ANOTHER_CARD: "card.unusable",
    Category.TRY_LATER: "gateway.try_later",
    Category.STOP: "gateway.request",
}


class MalformedAnswer(ValueError):
    """Not an answer of this contract. Carries nothing of it."""


class JSONBody:
    """A flat JSON object under construction; wipe it when the answer is there."""

    __slots__ = ("_buffer", "_used")

    def __init__(self) -> None:
        self._buffer = bytearray(MAX_BODY_BYTES)
        self._buffer[0] = ord("{")
        self._used = 1

    def __repr__(self) -> str:
        return f"JSONBody({self._used} bytes)"

    def __len__(self) -> int:
        return self._used

    def add(self, name: str, value: str | int | bool | None) -> None:
        """Add a member that is no card data; None is left out."""
        if value is not None:
            self._name(name)
            self._append(msgspec.json.encode(value))

    def add_digits(self, name: str, digits: bytes | bytearray | memoryview) -> None:
        """Add a string of ASCII digits without making a `str` of it.

        Raises:
            ValueError: There is something else than digits in it.
        """
        if any(not 0x30 <= octet <= 0x39 for octet in digits):
            raise ValueError(f"{name}: not digits")
        self._name(name)
        self._append(b'"')
        self._append(digits)
        self._append(b'"')

    def close(self) -> None:
        """End the object."""
        self._append(b"}")

    def view(self) -> memoryview:
        """Return the body, without copying it."""
        return memoryview(self._buffer)[: self._used]

    def wipe(self) -> None:
        """Overwrite everything."""
        self._buffer[:] = bytes(MAX_BODY_BYTES)
        self._used = 0

    def _name(self, name: str) -> None:
        self._append(f'{"," if self._used > 1 else ""}"{name}":'.encode("ascii"))

    def _append(self, octets: bytes | bytearray | memoryview) -> None:
        end = self._used + len(octets)
        if end > MAX_BODY_BYTES:
            raise ValueError("body too long")
        self._buffer[self._used : end] = octets
        self._used = end


class CardRow(msgspec.Struct, frozen=True):
    """One registered card of an answer."""

    sequence: Annotated[int, msgspec.Meta(ge=0, le=9_999)]
    tail: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{3,4}\Z")]
    expires: Annotated[str, msgspec.Meta(pattern=r"\A([0-9]{4})?\Z")] = ""
    preferred: bool = False

    def value(self) -> RegisteredCard:
        """As the port has it."""
        return RegisteredCard(self.sequence, self.tail, self.expires, self.preferred)


class Answer(msgspec.Struct, frozen=True):
    """Any answer; which members matter depends on the operation (docs/connector.md). It does not print."""

    result: Literal["ok", "refused", "unknown", "order_id_taken", "not_found", "exists"]
    codes: Annotated[tuple[_Code, ...], msgspec.Meta(max_length=20)] = ()
    category: Category = Category.STOP
    order_id: _Reference = ""
    access_id: _Reference = ""
    access_pass: _Reference = ""
    approval_number: _Reference = ""
    transaction_id: _Reference = ""
    forward: _Reference = ""
    processed_at: dt.datetime | None = None
    status: TradeStatus = TradeStatus.OTHER
    job: _Reference = ""
    amount_yen: Annotated[int, msgspec.Meta(ge=0, le=99_999_999)] = 0
    tax_yen: Annotated[int, msgspec.Meta(ge=0, le=9_999_999)] = 0
    intent_id: Annotated[str, msgspec.Meta(max_length=100)] = ""
    member_id: Annotated[str, msgspec.Meta(max_length=60)] = ""
    name: Annotated[str, msgspec.Meta(max_length=50)] = ""
    cards: Annotated[tuple[CardRow, ...], msgspec.Meta(max_length=100)] = ()

    def __repr__(self) -> str:
        return f"Answer({self.result}, codes={self.codes})"

    @property
    def declined(self) -> Declined:
        """A refusal as the port has it."""
        return Declined(self.codes or ("refused",), self.category, MESSAGE_KEYS[self.category])


def parse_answer(body: bytes) -> Answer:
    """Parse an answer.

    Raises:
        MalformedAnswer: Not JSON, or a member outside its format.
    """
    answer: Answer | None
    try:
        answer = msgspec.json.decode(body, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None
    if answer is None or (answer.processed_at is not None and answer.processed_at.tzinfo is None):
        # Without the cause: a validation error may quote the answer, and a hostile answer may quote the card.
        raise MalformedAnswer("not an answer of this contract")
    return answer
