"""Payments over SRTP: a trunk that demands it, one that does without, and clear RTP thrown at a secured leg."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass

import numpy as np
import pytest

from bench.telephone.customer import VISA, Customer
from bench.telephone.phone import PhoneCall
from media.protocol import KeyWay
from media.rtp.packet import header
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM, TrunkSRTP
from sipivr.ua.negotiation import MediaTerms
from sipivr.ua.sdes import SRTPPolicy
from tests.e2e.conftest import Stage, plays
from tests.e2e.visit import Ended

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECURED = MediaTerms(srtp=SRTPPolicy.REQUIRED)
INJECTED = 60


@dataclass(frozen=True)
class SecuredSwitch:
    """What became of calls to a switch whose trunk demands SRTP."""

    paid: dict[str, Ended]
    refused: str
    charged: dict[str, tuple[str, int]]
    heard_level: float
    keys: list[bytes]
    log: str
    ladders: str
    database: bytes


def demand_srtp(store: WritableStore) -> None:
    write.put_trunk(
        store,
        SYSTEM,
        id="trk_loopback",
        name="This machine",
        networks=("127.0.0.0/8", "::1/128"),
        merchant="mer_demo",
        trust_identity=True,
        srtp=TrunkSRTP.REQUIRED,
    )


async def refusal(stage: Stage, terms: MediaTerms | None = None) -> str:
    call = await stage.dial(terms=terms)
    with pytest.raises(ConnectionError) as caught:
        await call.answered(20)
    return str(caught.value)


async def inject(call: PhoneCall) -> None:
    """Keys and noise in clear, from the very address that the switch knows as the customer's.

    Few at a time: a burst takes the place of authentic packets of the same tick, which then count as dropped, too.
    """
    for number in range(INJECTED // 2):
        await call.ears.listen(20)
        call.send_datagram(header(0, number, number * 160, 99) + bytes(160))
        call.send_datagram(header(101, number, number * 1600, 99, marker=True) + bytes((1, 10, 6, 64)))


async def pay(own: Stage, way: KeyWay) -> tuple[PhoneCall, Ended, list[bytes]]:
    session = await own.session()
    call = await own.call_up(terms=SECURED)
    assert call.agreed is not None and call.agreed.srtp is not None
    keys = [call.agreed.srtp.send, call.agreed.srtp.receive]
    customer = Customer(call, way=way, hurried=True)
    await customer.identify(session["identification_number"])
    await inject(call)
    await customer.enter_card(VISA)
    await customer.confirm()
    cause = await call.ended(40)
    return call, Ended(session, cause, await own.find_call(call.sip.call_id, figures=True)), keys


async def pay_over_srtp(stage: Stage) -> SecuredSwitch:
    async with stage.another("srtp", plant=demand_srtp) as own:
        ways = (KeyWay.RFC4733, KeyWay.INBAND)
        visits = await asyncio.gather(*(pay(own, way) for way in ways))
        paid = {way.value: ended for way, (_, ended, _) in zip(ways, visits, strict=True)}
        refused = await refusal(own)
        charged, ladders = {}, ""
        for way, ended in paid.items():
            now = await own.session_now(ended.session)
            charged[way] = (now["status"], len(await own.charges(ended.session)))
            ladders += (await own.switch.api.get(f"/v1/calls/{ended.call['id']}/ladder")).text
        return SecuredSwitch(
            paid=paid,
            refused=refused,
            charged=charged,
            heard_level=min(
                float(np.abs(call.heard.samples.astype(np.int32)).max()) for call, _, _ in visits
            ),
            keys=[key for _, _, keys in visits for key in keys],
            log=own.switch.log_path.read_text("utf-8"),
            ladders=ladders,
            database=b"".join(path.read_bytes() for path in own.database.parent.glob("switch.db*")),
        )


async def ask_for_srtp_where_there_is_none(stage: Stage) -> str:
    return await refusal(stage, SECURED)


@plays(pay_over_srtp)
@pytest.mark.parametrize("way", ["rfc4733", "inband"])
async def test_a_payment_over_srtp(result: SecuredSwitch, way: str) -> None:
    call = result.paid[way].call
    assert result.charged[way] == ("paid", 1)
    assert (call["outcome"], call["ended_by"], call["legs"][0]["dtmf"]) == ("paid", "switch", way)
    assert result.heard_level > 1000


@plays(pay_over_srtp)
@pytest.mark.parametrize("way", ["rfc4733", "inband"])
async def test_clear_rtp_from_the_customers_address_is_dropped_and_counted(
    result: SecuredSwitch, way: str
) -> None:
    rtp = result.paid[way].call["legs"][0]["rtp"]
    assert rtp["srtp_failed"] == INJECTED
    assert rtp["packets_lost"] < 50


@plays(pay_over_srtp)
async def test_a_trunk_that_demands_srtp_refuses_clear_rtp(result: SecuredSwitch) -> None:
    assert result.refused.startswith("488")


@plays(ask_for_srtp_where_there_is_none)
async def test_a_trunk_without_srtp_refuses_it(result: str) -> None:
    assert result.startswith("488")


@plays(pay_over_srtp)
async def test_no_key_is_kept_anywhere(result: SecuredSwitch) -> None:
    assert "a=crypto" in result.ladders and "(withheld)" in result.ladders
    assert len(result.keys) == 4
    for key in result.keys:
        text = base64.b64encode(key).decode()
        for needle in (text, text.rstrip("="), key.hex()):
            assert needle not in result.log
            assert needle not in result.ladders
            assert needle.encode() not in result.database
        assert key not in result.database


@plays(pay_over_srtp)
async def test_keys_in_clear_signalling_are_said_once(result: SecuredSwitch) -> None:
    assert result.log.count("SRTP keys pass through SIP over UDP in clear") == 1
