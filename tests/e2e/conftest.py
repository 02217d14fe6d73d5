"""One switch and one telephone for all tests; the scenarios that they need are played at once.

A call takes as long as people take, so scenarios run side by side: a test names its scenario by
`@plays(scenario)` and asks for `result`. All scenarios of the tests that were collected start together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from bench.harness import Switch, running_switch
from bench.telephone.phone import PhoneCall, Telephone
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM, Mode

#: Numbers besides the seeded one.
BUSY_NUMBER = "0312345001"  # five lines, for the sixth call
OFF_NUMBER = "0312345002"
ROOMY_NUMBER = "0312345003"  # lines for all scenarios at once


@dataclass
class Stage:
    """What scenarios play on."""

    switch: Switch
    phone: Telephone
    tasks: dict[Callable[..., Any], asyncio.Task[Any]] = field(default_factory=dict)

    async def dial(self, number: str = ROOMY_NUMBER, caller: str | None = None) -> PhoneCall:
        return await self.phone.dial(self.switch.uri(number), caller=caller or self.switch.caller)

    async def call_up(self, number: str = ROOMY_NUMBER) -> PhoneCall:
        call = await self.dial(number)
        await call.answered()
        return call

    async def session(self, **fields: Any) -> dict[str, Any]:
        return await self.switch.create_session(number="num_roomy", **fields)

    async def find_call(self, sip_call_id: str) -> dict[str, Any]:
        """The record of a call, once it has ended."""
        async with asyncio.timeout(15):
            while True:
                page = await self.switch.get("/v1/calls?limit=100")
                for entry in page["data"]:
                    call = await self.switch.get(f"/v1/calls/{entry['id']}")
                    legs = [leg["sip_call_id"] for leg in call["legs"]]
                    if sip_call_id in legs and call["ended_at"]:
                        return call
                await asyncio.sleep(0.2)

    async def session_now(self, session: dict[str, Any]) -> dict[str, Any]:
        return await self.switch.get(f"/v1/payment_sessions/{session['id']}")

    async def payment_of(self, session: dict[str, Any]) -> dict[str, Any]:
        now = await self.session_now(session)
        return await self.switch.get(f"/v1/payments/{now['payment']}")

    async def charges(self, session: dict[str, Any]) -> list[dict[str, Any]]:
        """What the simulator's own ledger shows as charged for the session's order."""
        return [
            trade
            for trade in await self.switch.ledger()
            if trade["order_id"].startswith(session["order_id"]) and trade["status"] != "UNPROCESSED"
        ]


Scenario = Callable[[Stage], Awaitable[Any]]


def plays(scenario: Scenario) -> pytest.MarkDecorator:
    """The test asks what became of this scenario."""
    return pytest.mark.plays.with_args(scenario)


def plant(store: WritableStore) -> None:
    merchant = "mer_demo"
    write.put_number(store, SYSTEM, id="num_busy", merchant=merchant, e164="+81312345001", line_limit=5)
    write.put_number(store, SYSTEM, id="num_off", merchant=merchant, e164="+81312345002", active=False)
    write.put_number(store, SYSTEM, id="num_roomy", merchant=merchant, e164="+81312345003", line_limit=40)
    write.put_merchant(store, SYSTEM, id="mer_other", name="Other", mode=Mode.TEST)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("switch")
    async with running_switch(directory, plant=plant) as switch, Telephone(lines=40) as phone:
        made = Stage(switch, phone)
        wanted = {marker.args[0] for item in request.session.items for marker in item.iter_markers("plays")}
        made.tasks = {scenario: asyncio.create_task(scenario(made)) for scenario in wanted}
        yield made
        for task in made.tasks.values():
            task.cancel()
        assert not phone.faults


@pytest_asyncio.fixture(loop_scope="session")
async def result(request: pytest.FixtureRequest, stage: Stage) -> Any:
    marker = request.node.get_closest_marker("plays")
    try:
        async with asyncio.timeout(150):
            return await stage.tasks[marker.args[0]]
    except BaseException:
        print(stage.switch.log_tail(80))
        raise
