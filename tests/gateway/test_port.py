"""Values of the port and the pure rules on look-ups."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from sipivr.gateway.gmo_errors import MEANINGS, Effect, RetryRule, meaning_of, most_decisive
from sipivr.gateway.messages import MESSAGES
from sipivr.gateway.port import (
    Approved,
    Category,
    Entry,
    Job,
    LookUpFailed,
    NoSuchTrade,
    Order,
    OrderIdTaken,
    PayMethod,
    Secret,
    Trade,
    TradeStatus,
    gateway_order_id,
)
from sipivr.gateway.resolution import AskAgain, EnterAgain, NotCharged, judge_entry, judge_outcome

ORDER = Order("order-x", 1_000, Job.CAPTURE, "intent-1")


def trade(**more: Any) -> Trade:
    values: dict[str, Any] = {
        "order_id": "order-x",
        "status": TradeStatus.CAPTURE,
        "job": "CAPTURE",
        "amount_yen": 1_000,
        "tax_yen": 0,
        "access_id": "a",
        "access_pass": Secret("p"),
        "approval_number": "123",
        "transaction_id": "t",
        "forward": "f",
        "processed_at": None,
        "intent_id": "intent-1",
    }
    return Trade(**{**values, **more})


def test_secret_does_not_wander() -> None:
    secret = Secret("sandbox001")
    assert "sandbox" not in f"{secret!r}{secret}{secret!s:>20}"
    assert "sandbox" not in repr(Entry("o", "a", secret))
    for wander in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            wander(secret)  # type: ignore[operator]
    assert secret == Secret("sandbox001") != Secret("other")


@pytest.mark.parametrize(
    ("order_id", "attempt", "expected"),
    [("A1", 1, "A1"), ("A1", 2, "A1-2"), ("x" * 24, 99, "x" * 24 + "-99"), ("A-123", 3, "A-123-3")],
)
def test_order_id_suffix(order_id: str, attempt: int, expected: str) -> None:
    assert gateway_order_id(order_id, attempt) == expected


@pytest.mark.parametrize("order_id", ["", "x" * 25, "a_b", "注文", "A-1", "A-12", "a b", "A\n"])
def test_order_id_refused(order_id: str) -> None:
    with pytest.raises(ValueError, match="order_id"):
        gateway_order_id(order_id, 1)


@pytest.mark.parametrize("attempt", [0, -1, 100])
def test_attempt_refused(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempt"):
        gateway_order_id("A", attempt)


@pytest.mark.parametrize(
    "values",
    [
        {"order_id": "x" * 28},
        {"order_id": "a&b"},
        {"amount_yen": 0},
        {"amount_yen": 100_000_000},
        {"tax_yen": -1},
        {"tax_yen": 10_000_000},
        {"job": Job.CHECK},
        {"intent_id": "a&b"},
        {"intent_id": ""},
        {"method": PayMethod.INSTALMENTS},
        {"pay_times": 3},
    ],
)
def test_order_refuses(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=":"):
        Order(**{"order_id": "o", "amount_yen": 1, "job": Job.AUTH, "intent_id": "i", **values})


def test_every_message_exists_in_both_languages() -> None:
    keys = {meaning.message_key for meaning in MEANINGS.values()}
    keys |= {meaning_of(code).message_key for code in ("X", "E99", "42C1", "42G1", "E01")}
    assert keys <= set(MESSAGES)
    assert all(message.ja and message.en for message in MESSAGES.values())


@pytest.mark.parametrize(
    ("code", "category", "retry"),
    [
        ("E91020001", Category.TRY_LATER, RetryRule.LOOK_UP),
        ("E91029999", Category.TRY_LATER, RetryRule.LOOK_UP),
        ("E91099999", Category.TRY_LATER, RetryRule.LOOK_UP),
        ("E90010001", Category.TRY_LATER, RetryRule.LOOK_UP),
        ("E11010001", Category.STOP, RetryRule.LOOK_UP),
        ("Z00000000", Category.TRY_LATER, RetryRule.LOOK_UP),
        ("42G440000", Category.REENTER_SECURITY_CODE, RetryRule.NEW_ATTEMPT),
        ("42G830000", Category.REENTER_EXPIRY, RetryRule.NEW_ATTEMPT),
        ("42G650000", Category.REENTER_PAN, RetryRule.NEW_ATTEMPT),
        ("42G123456", Category.ANOTHER_CARD, RetryRule.NEW_ATTEMPT),
        ("42C500000", Category.TRY_LATER, RetryRule.NEW_ATTEMPT),
        ("E01030002", Category.STOP, RetryRule.NEVER),
        ("E01999999", Category.STOP, RetryRule.NEVER),
    ],
)
def test_meanings(code: str, category: Category, retry: RetryRule) -> None:
    meaning = meaning_of(code)
    assert (meaning.category, meaning.retry) == (category, retry)


def test_the_design_table_is_covered() -> None:
    named = """
    E01010001 E01020001 E01030002 E01040001 E01040003 E01040010 E01040013 E01050001 E01050002 E01050004
    E01060001 E01060005 E01060006 E01060010 E01060021 E01090001 E01090008 E01100001 E01100008 E01110002
    E01110010 E01170001 E01170003 E01170006 E01170011 E01180001 E01180003 E01180006 E01180008 E01180011
    E01190001 E01190008 E01200001 E01200007 E01200008 E01210002 E01220001 E01220005 E01220008 E01230001
    E01230006 E01230009 E01240002 E01260001 E01260002 E01260010 E01270001 E01270005 E01270006 E01270010
    E01390002 E01390010 E01410010 E01420010 E01460008 E01630010 E01640010 E01650012 E11010001 E11010002
    E11010003 E11010010 E11010017 E11010099 E11310005 E41170002 E41170099 E61010001 E61010002 E61010003
    E61040001 E90010001 E91020001 E91029999 E91099999 E92000001 E92000002 EX1000301 EX1000302 EX1000303
    EX1000304 42G020000 42G040000 42G030000 42G050000 42G070000 42G550000 42G120000 42G220000 42G300000
    42G540000 42G560000 42G600000 42G610000 42G950000 42G960000 42G970000 42G980000 42G990000 42G420000
    42G440000 42G450000 42G650000 42G830000 42G920000
    """
    assert not set(named.split()) - set(MEANINGS)


def test_of_several_codes_the_most_restrictive_decides() -> None:
    assert most_decisive(["E01180006", "E01170011"])[0] == ("E01170011", "E01180006")
    codes, meaning = most_decisive(["E01170011", "E91020001", "E01030002"])
    assert codes[0] == "E91020001"
    assert meaning.effect is Effect.UNKNOWN
    with pytest.raises(ValueError, match="no codes"):
        most_decisive([])


def test_entry_is_adopted_only_if_it_is_plainly_ours() -> None:
    unprocessed = trade(status=TradeStatus.UNPROCESSED, intent_id="")
    assert judge_entry(unprocessed, ORDER, sent_unanswered=True) == Entry("order-x", "a", Secret("p"))
    for found, sent in (
        (unprocessed, False),
        (trade(), True),
        (trade(status=TradeStatus.UNPROCESSED, amount_yen=999), True),
        (trade(status=TradeStatus.UNPROCESSED, tax_yen=1), True),
        (trade(status=TradeStatus.UNPROCESSED, job="AUTH"), True),
        (trade(status=TradeStatus.UNPROCESSED, order_id="other"), True),
    ):
        assert judge_entry(found, ORDER, sent_unanswered=sent) == OrderIdTaken(())
    assert judge_entry(NoSuchTrade(), ORDER, sent_unanswered=True) == EnterAgain()
    assert judge_entry(LookUpFailed("timeout"), ORDER, sent_unanswered=True) == AskAgain()


@pytest.mark.parametrize("since_sent_s", [0.0, 899.9])
@pytest.mark.parametrize(
    "found", [NoSuchTrade(), trade(status=TradeStatus.UNPROCESSED), LookUpFailed("timeout")]
)
def test_nothing_is_final_too_early(found: Any, since_sent_s: float) -> None:
    assert judge_outcome(found, ORDER, since_sent_s=since_sent_s) == AskAgain()


def test_outcomes() -> None:
    def judged(found: Any, since_sent_s: float = 900.0) -> Any:
        return judge_outcome(found, ORDER, since_sent_s=since_sent_s)

    assert judged(NoSuchTrade()) == NotCharged("no_such_trade")
    assert judged(trade(status=TradeStatus.UNPROCESSED)) == NotCharged("unprocessed")
    assert judged(LookUpFailed("x"), 1e9) == AskAgain()
    assert judged(trade(status=TradeStatus.OTHER), 1e9) == AskAgain()
    assert judged(trade(status=TradeStatus.AUTHENTICATED), 1e9) == AskAgain()
    assert judged(trade(intent_id="other"), 0) == OrderIdTaken(())
    assert judged(trade(status=TradeStatus.VOID), 0) == NotCharged("reversed")
    for status in (TradeStatus.CAPTURE, TradeStatus.SALES):
        assert judged(trade(status=status), 0) == Approved("order-x", "123", "t", "f", None)
    check = Order("order-x", 0, Job.CHECK, "intent-1")
    found = trade(status=TradeStatus.CHECK, amount_yen=0)
    assert isinstance(judge_outcome(found, check, since_sent_s=0), Approved)
