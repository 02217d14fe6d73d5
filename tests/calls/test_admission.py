"""Admission: the checks in their order, each with its own answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipivr.calls.admission import STATUS, Admitted, Facts, Refusal, Refused, decide
from sipivr.calls.lines import Lines
from sipivr.calls.rate import CallRate
from sipivr.store.number_rules import Destination, NumberRules
from sipivr.store.records import Merchant, Mode, Number, NumberUse, Trunk
from sipivr.store.trunk_rules import TrunkRules

MERCHANT = Merchant("mer_1", "Acme", Mode.TEST, "ja", True)
NUMBER = Number("num_1", "mer_1", "+81312345678", NumberUse.TRANSFER_IN, 5, "ja", True)
TRUNK = Trunk("trk_1", "PBX", ("127.0.0.0/8",), None, True)
LIMITED = replace(TRUNK, rules=TrunkRules(channel_limit=2))
GOOD = Facts(
    trunk=TRUNK,
    draining=False,
    overloaded=False,
    number=NUMBER,
    merchant=MERCHANT,
    caller="+81311112222",
    caller_allowed=True,
    calls_on_trunk=10,
    calls_on_number=4,
)


NOWHERE = replace(NUMBER, use=NumberUse.INLINE)
ALONE = replace(NUMBER, use=NumberUse.SELF_SERVICE)
INLINE = replace(
    NOWHERE,
    rules=NumberRules(destinations=(Destination(target="sip:200@192.0.2.9:5060", trunk="trk_1"),)),
)


@pytest.mark.parametrize("number", [INLINE, ALONE])
def test_any_caller_may_call_an_inline_or_a_self_service_number(number: Number) -> None:
    stranger = replace(GOOD, number=number, caller=None, caller_allowed=False)
    assert decide(stranger) == Admitted(number, MERCHANT)


def test_a_call_that_passes_every_check_is_admitted() -> None:
    assert decide(GOOD) == Admitted(NUMBER, MERCHANT)
    assert decide(replace(GOOD, trunk=LIMITED, calls_on_trunk=1)) == Admitted(NUMBER, MERCHANT)


@pytest.mark.parametrize(
    ("facts", "refusal", "status"),
    [
        (replace(GOOD, trunk=None), Refusal.TRUNK_UNKNOWN, 403),
        (replace(GOOD, trunk=replace(TRUNK, active=False)), Refusal.TRUNK_UNKNOWN, 403),
        (replace(GOOD, draining=True), Refusal.DRAINING, 503),
        (replace(GOOD, overloaded=True), Refusal.OVERLOAD, 503),
        (replace(GOOD, trunk=LIMITED, calls_on_trunk=2), Refusal.TRUNK_CHANNEL_LIMIT, 503),
        (replace(GOOD, number=None, merchant=None), Refusal.NUMBER_UNKNOWN, 404),
        (replace(GOOD, trunk=replace(TRUNK, merchant="mer_2")), Refusal.NUMBER_UNKNOWN, 404),
        (replace(GOOD, number=replace(NUMBER, active=False)), Refusal.NUMBER_DISABLED, 404),
        (replace(GOOD, merchant=replace(MERCHANT, active=False)), Refusal.MERCHANT_INACTIVE, 480),
        (replace(GOOD, looped=True, draining=True), Refusal.LOOP, 482),
        (replace(GOOD, number=NOWHERE, caller=None), Refusal.NO_DESTINATION, 480),
        (replace(GOOD, number=INLINE, caller_blocked=True), Refusal.CALLER_BLOCKED, 403),
        (replace(GOOD, number=ALONE, caller_blocked=True), Refusal.CALLER_BLOCKED, 403),
        (replace(GOOD, number=INLINE, calls_on_number=5), Refusal.LINE_LIMIT, 486),
        (replace(GOOD, caller=None, caller_allowed=False), Refusal.CALLER_ANONYMOUS, 403),
        (replace(GOOD, caller_allowed=False), Refusal.CALLER_NOT_ALLOWED, 403),
        (replace(GOOD, calls_on_number=5), Refusal.LINE_LIMIT, 486),
    ],
)
def test_each_check_has_its_own_answer(facts: Facts, refusal: Refusal, status: int) -> None:
    verdict = decide(facts)
    assert isinstance(verdict, Refused)
    assert (verdict.refusal, verdict.status) == (refusal, status)
    assert ("Retry-After" in verdict.headers) == (status == 503)


def test_the_first_check_that_fails_answers() -> None:
    verdict = decide(replace(GOOD, overloaded=True, number=None, caller_allowed=False))
    assert isinstance(verdict, Refused)
    assert verdict.refusal is Refusal.OVERLOAD


def test_every_refusal_has_a_status() -> None:
    assert set(STATUS) == set(Refusal)


def test_lines_are_counted_and_left_empty() -> None:
    lines = Lines()
    assert not lines
    for id in ("a", "a", "b"):
        lines.take(id)
    assert (lines.taken("a"), lines.taken("b"), lines.taken("c"), lines.total) == (2, 1, 0, 3)
    for id in ("a", "b", "b", "a"):  # one too many does no harm
        lines.free(id)
    assert (bool(lines), lines.total) == (False, 0)


def test_the_rate_lets_one_second_of_calls_through_and_refills() -> None:
    rate = CallRate(3)
    assert [rate.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert rate.take(10.34)
    assert not rate.take(10.34)
    assert [rate.take(100.0) for _ in range(4)] == [True, True, True, False]
