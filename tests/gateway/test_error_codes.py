"""Every error code of the gateway, over HTTP: what the adapter makes of it is what the documentation says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sipivr.gateway.gmo import GMOGateway
from sipivr.gateway.gmo_errors import MEANINGS, RetryRule, meaning_of
from sipivr.gateway.messages import MESSAGES
from sipivr.gateway.port import Declined, Entry, Order, OutcomeUnknown
from tests.gateway.conftest import SHOP, SimulatorProcess, card_named

DOCUMENT = (Path(__file__).parents[2] / "docs" / "gateway-errors.md").read_text("utf-8")
ROWS = {
    code: (category, retry, key)
    for codes, category, retry, key in re.findall(
        r"^\| (`[^|]+) \| `(\w+)` \| `(\w+)` \| `([a-z._]+)` \|", DOCUMENT, re.M
    )
    for code in re.findall(r"`([^`]+)`", codes)
}


def test_the_documentation_has_every_code_and_no_other() -> None:
    assert set(ROWS) == set(MEANINGS)


@pytest.mark.parametrize("code", MEANINGS)
async def test_code(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: Callable[..., Order], code: str
) -> None:
    category, retry, key = ROWS[code]
    meaning = meaning_of(code)
    assert (meaning.category.value, meaning.retry.value, meaning.message_key) == (category, retry, key)
    message = MESSAGES[key]
    assert message.ja in DOCUMENT
    assert message.en in DOCUMENT
    if code.startswith("token_"):
        return  # codes of another call: see test_registered_cards
    order = make_order()
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    simulator.fault(call="ExecTran", kind="error", code=code, order_id=order.order_id)
    outcome = await gateway.execute(SHOP, order, entry, card_named("visa-approved"))
    if retry == RetryRule.LOOK_UP:
        assert outcome == OutcomeUnknown("gateway", (code,))
    else:
        assert isinstance(outcome, Declined)
        assert (outcome.codes, outcome.category.value, outcome.message_key) == ((code,), category, key)
