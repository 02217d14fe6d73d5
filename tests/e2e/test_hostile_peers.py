"""Peers that send what they should not: each is refused or not heard, and no call notices."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

import pytest

from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM
from tests.e2e.conftest import Stage, plays
from tests.e2e.raw_sip import OFFER, RawPeer, raw_peer
from tests.e2e.visit import Ended, check, visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Long enough for an answer that should not come: pjsip answers within milliseconds.
SILENCE_S = 1.5

G729 = """v=0
o=- 1 1 IN IP4 {address}
s=-
c=IN IP4 {address}
t=0 0
m=audio 40000 RTP/AVP 18
a=rtpmap:18 G729/8000
"""


async def offers(stage: Stage, body: str, headers: tuple[str, ...] = ()) -> int:
    """The answer to an INVITE of the allowed caller with this body."""
    peer = await raw_peer(("127.0.0.1", stage.switch.sip_port))
    try:
        invite = peer.request(
            "INVITE", stage.switch.uri("0312345003"), caller=stage.switch.caller, body=body, headers=headers
        )
        return await peer.final(invite)
    finally:
        peer.close()


#: What is wrong → the scenario, the statuses that answer it, the refusal in the record.
OFFERS: dict[str, tuple[Any, set[int], str | None]] = {
    "no SDP at all in the body": (partial(offers, body="this is no session description\n"), {400, 488}, None),
    "SDP without its origin": (
        partial(offers, body=OFFER.replace("o=- 1 1 IN IP4 {address}\n", "")),
        {400, 488},
        None,
    ),
    "a port that is none": (partial(offers, body=OFFER.replace("40000", "99999999")), {400, 488}, None),
    "an address that is none": (
        partial(offers, body=OFFER.replace("IP4 {address}\nt", "IP4 nowhere.invalid\nt")),
        {400, 488},
        None,
    ),
    "no audio": (partial(offers, body=OFFER.replace("m=audio", "m=video")), {488}, "sdp_unusable"),
    "no common codec": (partial(offers, body=G729), {488}, "sdp_unusable"),
    "Replaces": (
        partial(offers, body=OFFER, headers=("Replaces: any@call;to-tag=1;from-tag=2",)),
        {403},
        "edge_replaces",
    ),
    "Require": (partial(offers, body=OFFER, headers=("Require: teleportation",)), {420}, None),
}


@pytest.mark.parametrize(
    ("statuses", "refusal"),
    [
        pytest.param(statuses, refusal, marks=plays(play), id=name)
        for name, (play, statuses, refusal) in OFFERS.items()
    ],
)
async def test_an_unusable_invite(stage: Stage, result: int, statuses: set[int], refusal: str | None) -> None:
    assert result in statuses
    if refusal is not None:
        # Whatever refused it, the merchant sees which number was called.
        await stage.until(
            "SELECT 1 FROM call WHERE refusal = ? AND status = 'refused' AND number = 'num_roomy'", refusal
        )


# -- a call that goes on meanwhile ------------------------------------------------------------------------


def garbage(chance: random.Random, whole: bytes) -> bytes:
    """A datagram that is nothing, or nearly SIP, or nearly RTP."""
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 1400))
    if kind == 1:
        return whole[: chance.randrange(1, len(whole))]
    if kind == 2:
        at = chance.randrange(len(whole))
        return whole[:at] + chance.randbytes(4) + whole[at + 4 :]
    if kind == 3:
        return b"\r\n" * chance.randrange(1, 40)
    if kind == 4:
        return whole.replace(b"\r\nVia:", b"\r\n" + b"Via: SIP/2.0/UDP x;branch=y\r\n" * 200 + b"Via:")
    return bytes([0x80, chance.choice([0, 8, 96, 101, 200])]) + chance.randbytes(170)


async def pester(peer: RawPeer, invite: bytes, targets: list[tuple[str, int]]) -> None:
    chance = random.Random(20261123)
    while True:
        for target in targets:
            peer.send(garbage(chance, invite), target)
        await asyncio.sleep(0.01)  # the pace of a nuisance; floods are measured elsewhere


async def pays_among_garbage(stage: Stage) -> Ended:
    customer = await visit(stage)
    agreed = customer.call.agreed
    assert agreed is not None
    peer = await raw_peer(("127.0.0.1", stage.switch.sip_port))
    # A number that is not there: what survives the mangling is refused, not answered.
    invite = peer.request("INVITE", stage.switch.uri("0398765431"), caller="+81399999998", body=OFFER)
    targets = [("127.0.0.1", stage.switch.sip_port), (agreed.remote_address, agreed.remote_port)]
    nuisance = asyncio.create_task(pester(peer, invite, targets))
    try:
        await customer.identify()
        await customer.pay()
        return await customer.ended()
    finally:
        nuisance.cancel()
        peer.close()


@plays(pays_among_garbage)
async def test_garbage_leaves_calls_alone(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="paid", session="paid", charges=1)


# -- strangers --------------------------------------------------------------------------------------------

STRANGER = "127.0.0.9"


def narrow(store: WritableStore) -> None:
    """One trunk with one address."""
    write.put_trunk(
        store,
        SYSTEM,
        id="trk_loopback",
        name="One address",
        networks=("127.0.0.1/32",),
        merchant="mer_demo",
        trust_identity=True,
    )


async def probes(stage: Stage) -> tuple[list[bytes], list[bytes]]:
    """What a stranger hears, and what the trunk hears to the same."""
    async with stage.another("narrow", plant=narrow) as own:
        heard = []
        for address in (STRANGER, "127.0.0.1"):
            peer = await raw_peer(("127.0.0.1", own.switch.sip_port), address)
            for method in ("OPTIONS", "INVITE", "REGISTER", "SUBSCRIBE", "MESSAGE", "BYE", "CANCEL", "ACK"):
                body = OFFER if method == "INVITE" else ""
                peer.send(
                    peer.request(method, own.switch.uri("0312345003"), caller=own.switch.caller, body=body)
                )
            peer.send(b"\r\n\r\n")
            peer.send(b"\0" * 8)
            await asyncio.sleep(SILENCE_S)
            heard.append(list(peer.received))
            peer.close()
        return heard[0], heard[1]


@plays(probes)
async def test_a_stranger_hears_nothing(stage: Stage, result: tuple[list[bytes], list[bytes]]) -> None:
    stranger, trunk = result
    assert stranger == []
    assert any(answer.startswith(b"SIP/2.0 200") for answer in trunk)
