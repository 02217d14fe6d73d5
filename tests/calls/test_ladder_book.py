"""Ladders of calls are kept until they are taken; everything else is forgotten."""

from __future__ import annotations

from sipivr.calls.ladder_book import MAX_MESSAGES, MAX_UNCLAIMED, UNCLAIMED_S, LadderBook
from sipivr.ua.ladder import LadderEntry, Way


def entry(call_id: str, method: str = "INVITE", status: int = 0, at: float = 1_000.0) -> LadderEntry:
    way = Way.SENT if status else Way.RECEIVED
    return LadderEntry(
        at, way, "UDP", "192.0.2.1:5060", "192.0.2.2:5060", method, status, call_id, "1", (), "", ""
    )


def test_a_claimed_dialog_keeps_all_it_says_until_it_is_taken() -> None:
    book = LadderBook()
    book.add(entry("a"))
    book.claim("a")
    book.add(entry("a", status=200))
    book.add(entry("a", "BYE"))
    taken = book.take("a", call="call_1", leg="leg_1")
    assert [message.summary for message in taken] == ["INVITE", "200 (INVITE)", "BYE"]
    assert len(book) == 0


def test_a_claim_may_come_before_its_invite() -> None:
    book = LadderBook()
    book.claim("a")
    book.add(entry("a"))
    assert len(book.take("a", call="call_1", leg=None)) == 1


def test_what_comes_after_the_end_begins_no_ladder() -> None:
    book = LadderBook()
    for late in (entry("a", "ACK"), entry("a", "BYE", 200), entry("a", status=486), entry("b", "OPTIONS")):
        book.add(late)
    assert len(book) == 0


def test_a_refused_dialog_is_forgotten_at_its_end() -> None:
    book = LadderBook()
    book.add(entry("a"))
    book.add(entry("a", status=404))
    book.forget("a")
    book.add(entry("a", "ACK"))
    assert len(book) == 0


def test_forgetting_does_not_touch_a_call() -> None:
    book = LadderBook()
    book.claim("a")
    book.add(entry("a"))
    book.forget("a")
    book.expire(10_000.0)
    assert len(book.take("a", call="call_1", leg=None)) == 1


def test_nobodys_dialogs_expire_and_are_bounded() -> None:
    book = LadderBook()
    book.add(entry("old", at=1_000.0))
    book.add(entry("new", at=1_001.0))
    book.expire(1_000.0 + UNCLAIMED_S)
    assert len(book) == 1
    for number in range(MAX_UNCLAIMED + 10):
        book.add(entry(f"flood {number}"))
    assert len(book) == MAX_UNCLAIMED


def test_a_dialog_that_repeats_itself_is_bounded() -> None:
    book = LadderBook()
    book.claim("a")
    for _ in range(MAX_MESSAGES + 5):
        book.add(entry("a", "INFO"))
    assert (len(book.take("a", call="call_1", leg=None)), book.dropped) == (MAX_MESSAGES, 5)
