"""Each class of the gateway's refusals leads the customer where it says: the field again, another card, or the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from bench.telephone.customer import VISA
from tests.e2e.conftest import Stage, plays
from tests.e2e.visit import Ended, check, visit

pytestmark = pytest.mark.asyncio(loop_scope="session")


def refused_with(code: str, again: tuple[str, ...]) -> Callable[[Stage], Awaitable[Ended]]:
    """A customer whose first card is refused with `code`, and who then keys what is asked for."""

    async def scenario(stage: Stage) -> Ended:
        customer = await visit(stage)
        await stage.fault(customer.session, call="ExecTran", kind="error", code=code)
        await customer.identify()
        await customer.pay()
        await stage.until(
            "SELECT 1 FROM payment WHERE session = ? AND status = 'declined'", customer.session["id"]
        )
        for keys in again:
            await customer.answer(keys)
        if again:
            await customer.customer.confirm()
        return await customer.ended(60)

    return scenario


number_wrong = refused_with("42G650000", (VISA.number, VISA.expiry, VISA.security_code))
expiry_wrong = refused_with("42G830000", (VISA.expiry, VISA.security_code))
code_wrong = refused_with("42G440000", (VISA.security_code,))
card_unusable = refused_with("42G120000", (VISA.number, VISA.expiry, VISA.security_code))
congested = refused_with("E92000001", ())
shop_settings = refused_with("E61010003", ())


async def paid_after(stage: Stage, result: Ended, code: str) -> None:
    await check(stage, result, outcome="paid", session="paid", charges=1)
    first, second = await stage.payments_of(result.session)
    assert [first["status"], second["status"]] == ["declined", "approved"]
    assert first["error_codes"] == [code]


@plays(number_wrong)
async def test_a_wrong_number_is_asked_for_again(stage: Stage, result: Ended) -> None:
    await paid_after(stage, result, "42G650000")


@plays(expiry_wrong)
async def test_a_wrong_expiry_is_asked_for_again_without_the_number(stage: Stage, result: Ended) -> None:
    await paid_after(stage, result, "42G830000")


@plays(code_wrong)
async def test_a_wrong_security_code_is_asked_for_again_alone(stage: Stage, result: Ended) -> None:
    await paid_after(stage, result, "42G440000")


@plays(card_unusable)
async def test_another_card_is_asked_for(stage: Stage, result: Ended) -> None:
    await paid_after(stage, result, "42G120000")


@plays(congested)
async def test_try_later_ends_the_call(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="declined", session="declined")


@plays(shop_settings)
async def test_a_stop_ends_the_call(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="declined", session="declined")
