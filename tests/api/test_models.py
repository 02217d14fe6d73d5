"""What requests may hold, and what no schema may have."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from api import inputs
from api.limits import RateLimiter

GOOD = {"shop": "shop_1", "order_id": "A1001", "amount": 12300}


def test_a_good_request():
    session = inputs.PaymentSessionCreate.model_validate(GOOD | {"metadata": {"desk": "3 番"}})
    assert (session.currency, session.metadata) == ("JPY", {"desk": "3 番"})


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": 100_000_000},
        {"amount": "12300"},
        {"amount": 12300.0},
        {"amount": True},
        {"order_id": "A_1"},
        {"order_id": "A" * 25},
        {"order_id": "A1001-2"},
        {"order_id": ""},
        {"shop": "../x"},
        {"currency": "yen"},
        {"metadata": {"a b": "x"}},
        {"metadata": {"a": "x" * 501}},
        {"metadata": {"a": "x\x1b[2J"}},
        {"metadata": {str(n): "x" for n in range(21)}},
        {"amuont": 1},
    ],
)
def test_bad_requests(change):
    with pytest.raises(ValidationError):
        inputs.PaymentSessionCreate.model_validate(GOOD | change)


@pytest.mark.parametrize(
    "text", ["4111111111111111", "pan 4111 1111 1111 1111.", "3782-822463-10005", "x5555555555554444y"]
)
def test_what_looks_like_a_card_number_is_refused(text):
    with pytest.raises(ValidationError) as caught:
        inputs.PaymentSessionCreate.model_validate(GOOD | {"metadata": {"note": text}})
    assert [e["type"] for e in caught.value.errors()] == ["card_data"]


@pytest.mark.parametrize(
    "text", ["4111111111111112", "20261123060000", "+81 50-1234-5678", "1234567890123456789012"]
)
def test_other_digits_pass(text):
    inputs.PaymentSessionCreate.model_validate(GOOD | {"metadata": {"note": text}})


def test_a_limit_opens_again_after_its_window():
    now = [0.0]
    limiter = RateLimiter(2, lambda: now[0])
    assert [limiter.take("a").allowed for _ in range(3)] == [True, True, False]
    assert limiter.take("b").remaining == 1
    now[0] = 30.5
    refused = limiter.take("a")
    assert refused.headers() == {
        "RateLimit-Policy": '"key";q=2;w=60',
        "RateLimit": '"key";r=0;t=30',
        "Retry-After": "30",
    }
    now[0] = 60.0
    assert limiter.take("a").allowed


def test_subjects_are_bounded():
    limiter = RateLimiter(1, lambda: 0.0, max_subjects=3)
    for n in range(10):
        limiter.take(str(n))
    assert len(limiter._windows) == 3
