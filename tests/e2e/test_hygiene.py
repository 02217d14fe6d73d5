"""After calls of every kind nothing of them is left: no leg, file, timer, task, prompt or ladder.

`python -m bench soak` plays two hundred; here a few dozen, on the switch that all scenarios have warmed up, once
the last of them is over.
"""

from __future__ import annotations

import asyncio

import pytest

from bench import census
from bench.soak import Callers
from tests.e2e.conftest import OFF_NUMBER, ROOMY_NUMBER, Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

IN_A_ROW = 20
AT_ONCE = 6


async def test_calls_leave_nothing_behind(stage: Stage) -> None:
    await asyncio.gather(*stage.tasks.values(), return_exceptions=True)
    callers = Callers(stage.switch, stage.phone, ("num_roomy", ROOMY_NUMBER), OFF_NUMBER)
    await callers.at_once(AT_ONCE, "identifies")
    was = await census.before(stage.switch, stage.phone)
    callers.outcomes.clear()
    # The long kinds are played beside the row; in it they would take as long as all others together.
    await asyncio.gather(
        callers.in_a_row(IN_A_ROW, skip=("pays", "card_number")),
        callers.at_once(AT_ONCE - 1),
        callers.play("card_number"),
    )
    _, left = await census.at_rest(stage.switch, stage.phone, was)
    assert callers.surprises == []
    assert callers.played == IN_A_ROW + AT_ONCE
    assert callers.outcomes["pays: paid"] == AT_ONCE - 1
    assert left == []
