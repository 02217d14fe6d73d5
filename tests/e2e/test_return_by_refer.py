"""A blind transfer's return by REFER: SIPp is the PBX that is asked to take the customer back."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.e2e.conftest import REFER_ADDRESS, REFER_NUMBER, Stage, plays
from tests.e2e.sipp_inline import BYE, pause, receive, reply, request, sdp, sipp, stream

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: The customer asks for the operator at once: what leads to the return does not matter here.
_UP = (
    request("INVITE", 1, sdp(address=REFER_ADDRESS), first=True)
    + receive("100", optional=True)
    + receive("180", optional=True)
    + receive("200")
    + request("ACK", 1)
    + pause(2.0)
    + stream("star.pcmu", 1)
    + receive("REFER", timeout_ms=40_000)
)


def later(method: str, cseq: int, body: str = "Content-Length: 0\n", extra: str = "") -> str:
    """A request of the PBX's after one of ours, whose To is not the other end."""
    to = "To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]"
    return request(method, cseq, body, extra=extra).replace("[last_To:]", to)


def notify(cseq: int, state: str, status: str) -> str:
    """How far the PBX's own call is (RFC 3515 §2.4.4)."""
    body = f"Content-Type: message/sipfrag;version=2.0\nContent-Length: [len]\n\nSIP/2.0 {status}\n"
    extra = f"Event: refer\nSubscription-State: {state}\n"
    return later("NOTIFY", cseq, body, extra) + receive("200")


async def returning(stage: Stage, steps: list[str]) -> tuple[str, dict[str, Any]]:
    call_id = f"refer-{os.urandom(6).hex()}"
    async with sipp(
        [_UP, *steps],
        target=f"127.0.0.1:{stage.switch.sip_port}",
        service=REFER_NUMBER,
        call_id=call_id,
        address=REFER_ADDRESS,
    ) as (task, _):
        complaint = await task
    return complaint, await stage.find_call(call_id)


async def accepted(stage: Stage) -> tuple[str, dict[str, Any]]:
    return await returning(
        stage,
        [
            reply("202 Accepted"),
            notify(2, "active;expires=60", "100 Trying"),
            notify(3, "terminated;reason=noresource", "200 OK"),
            BYE,
        ],
    )


@plays(accepted)
async def test_a_pbx_that_takes_the_customer_back_is_left_alone(result: tuple[str, dict[str, Any]]) -> None:
    complaint, call = result
    assert complaint == ""
    assert call["ended_by"] == "switch"
    assert [leg["party"] for leg in call["legs"]] == ["customer"]
    types = [entry["type"] for entry in call["timeline"]]
    assert [one for one in types if one.startswith("refer.")] == ["refer.sent", "refer.done"]


async def itself(stage: Stage) -> tuple[str, dict[str, Any]]:
    """Some PBXs hang up by themselves once they have taken over."""
    bye = later("BYE", 3) + receive("200")
    return await returning(stage, [reply("202 Accepted"), notify(2, "active;expires=60", "100 Trying"), bye])


@plays(itself)
async def test_a_pbx_that_hangs_up_as_it_takes_over_is_no_customer_who_left(
    result: tuple[str, dict[str, Any]],
) -> None:
    complaint, call = result
    assert complaint == ""
    assert call["ended_by"] == "pbx"


async def refused(stage: Stage) -> tuple[str, dict[str, Any]]:
    """The operator is dialled after all, and answers."""
    return await returning(stage, [reply("603 Decline"), pause(4.0), later("BYE", 2) + receive("200")])


@plays(refused)
async def test_a_pbx_that_will_not_is_done_without(result: tuple[str, dict[str, Any]]) -> None:
    complaint, call = result
    assert complaint == ""
    assert [leg["party"] for leg in call["legs"]] == ["customer", "operator"]
    detail = {entry["type"]: entry["detail"] for entry in call["timeline"]}
    assert detail["refer.failed"] == {"status": 603}
    assert detail["operator.rung"]["outcome"] == "answered"
