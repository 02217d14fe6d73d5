"""What a call of the protocol came to, before it is delivered, and the simulator's own clock and ids."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from dataclasses import dataclass, replace

from sipivr.simulator.cards import Delivery
from sipivr.simulator.protocol import JST, error_answer, form_answer


@dataclass(slots=True)
class Result:
    """The answer's body, how the ledger notes it, and its delivery."""

    body: bytes
    answer: str
    delivery: Delivery = Delivery.NORMAL
    content_type: str = "text/plain;charset=Windows-31J"


def ok(fields: dict[str, str]) -> Result:
    """Answer with fields."""
    return Result(form_answer(fields), "OK")


def failed(codes: list[str]) -> Result:
    """Answer with error codes."""
    return Result(error_answer(codes), "|".join(codes))


def delivered(result: Result, delivery: Delivery) -> Result:
    """Return the result with another delivery."""
    return replace(result, delivery=delivery)


class Clock:
    """The gateway's time: the machine's, moved by an offset so that a test can cross a month."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.offset_s

    def now(self) -> dt.datetime:
        """The time in Japan."""
        return dt.datetime.now(JST) + dt.timedelta(seconds=self.offset_s)

    def stamp(self) -> str:
        """``yyyyMMddHHmmss``."""
        return self.now().strftime("%Y%m%d%H%M%S")

    def tran_id(self) -> str:
        """28 digits. A run of nines lies across every stretch long enough for a card number, and no test card has
        four in a row: an id never spells a card, so a search for cards finds cards only.
        """
        return self.now().strftime("%y%m%d%H%M") + "9" * 12 + f"{secrets.randbelow(1_000_000):06}"


def approval() -> str:
    """Seven digits."""
    return f"{secrets.randbelow(10_000_000):07}"


def access_word() -> str:
    """32 characters; the letters at fixed places keep a run of digits shorter than any card number."""
    text = secrets.token_hex(16)
    return f"{text[:8]}a{text[9:18]}c{text[19:27]}e{text[28:]}"
