"""Other people's telephones: baresip and SIPp pay, in both laws, and what they hear is what was said.

The switch hears them if their keys pay. They hear the switch if its prompts are in what they recorded, whole and
unbroken: baresip decodes and records by itself; SIPp records nothing, so a socket of ours listens in its place, and
its echo comes back to our own telephone, whose media engine is that of the switch.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.harness import prompt_cache
from bench.telephone.customer import VISA, Customer
from bench.telephone.ears import level_dbfs
from media.protocol import Codec, KeyWay
from sipivr.prompts import Money, PromptLibrary, PromptVariable
from tests.e2e.baresip import Baresip, MediaEncryption, baresip
from tests.e2e.conftest import ROOMY_NUMBER, SRTP_ADDRESS, SRTP_ONLY_ADDRESS, Stage, plays
from tests.e2e.hearing import find
from tests.e2e.rtp_ear import HeardStream
from tests.e2e.sipp import SIPpCustomer, sipp_echo
from tests.e2e.visit import check_paid

pytestmark = pytest.mark.asyncio(loop_scope="session")

Spoken = tuple[tuple[str, dict[str, PromptVariable]], ...]

AMOUNT: Final = Money(12_300, "JPY")
#: What each of the calls hears to its end, in this order, whoever interrupts what else.
UNCUT: Final[Spoken] = (
    ("pan_prompt", {}),
    ("confirm_amount", {"amount": AMOUNT}),
    ("confirm_choice", {}),
    ("payment_approved", {"amount": AMOUNT}),
    ("key_entry_over", {}),
)
#: The comfort noise of an open capture lies between digital silence (−67 in A-law) and the faintest speech.
MASK_DBFS: Final = (-60.0, -50.0)
#: After a full field keys are dropped for 600 ms; then the next prompt speaks and may be interrupted.
FIELD_PACE_S: Final = 1.5
ECHOED: Final = "159D*0#"


async def check_heard(samples: NDArray[np.int16], spoken: Spoken = UNCUT) -> None:
    """Every prompt is there, unbroken, one after the other. They come from the same cache as the switch's."""
    library = PromptLibrary(prompt_cache())
    try:
        paths = [await library.render("ja", key, variables) for key, variables in spoken]
    finally:
        await library.aclose()
    end = 0
    for (key, _), path in zip(spoken, paths, strict=True):
        prompt = np.fromfile(path, "<i2").astype(np.int16)
        # Not in the loop of those who are still playing.
        found = await asyncio.to_thread(find, samples[end:], prompt)
        assert found.likeness == 1.0, f"{key}: {found.likeness:.0%} as it was played"
        end += found.end


def check_reports(leg: dict[str, Any]) -> None:
    """RTCP went both ways: the other end has heard of our stream, and answered our reports."""
    assert leg["remote_lost"] == 0
    assert leg["remote_jitter_ms"] >= 0
    assert leg["round_trip_ms"] is not None
    assert min(leg["mos"], leg["remote_mos"]) > 4


# -- baresip ---------------------------------------------------------------------------------------------


@dataclass
class BaresipCall:
    """A call of baresip that is over."""

    session: dict[str, Any]
    call: dict[str, Any]
    heard: NDArray[np.int16]
    log: str
    held_as: str = ""


async def pay_from_baresip(
    stage: Stage, *, codec: Codec, way: KeyWay, held: bool = False, **terms: Any
) -> BaresipCall:
    """A whole payment; `held`: the call is put on hold and taken back in the middle of the card number."""
    session = await stage.session()
    directory = stage.directory / f"baresip-{session['id']}"
    directory.mkdir()
    async with baresip(directory, caller=stage.switch.caller, codec=codec, **terms) as peer:
        await peer.dial(stage.switch.uri(ROOMY_NUMBER))
        done = BaresipCall(session, {}, peer.heard, "")
        customer = Customer(peer, way=way, hurried=True)
        if held:
            await customer.identify(session["identification_number"])
            await customer.prompted(to_its_end=True)
            await pay_unheard(stage, peer, done, way)
        else:
            await customer.pay(session["identification_number"])
        await peer.ended()
        done.heard, done.log = peer.heard, peer.log()
        done.call = await stage.find_call(peer.call_id, figures=True)
        return done


async def pay_unheard(stage: Stage, peer: Baresip, done: BaresipCall, way: KeyWay) -> None:
    """Half of the card number, hold, un-hold, the rest of the card at a person's pace, and 1 until it counts."""
    await peer.key(VISA.number[:8], way)
    await peer.hold()
    done.held_as = stage.status_of(peer.call_id)
    await peer.resume()
    for keys in (VISA.number[8:], VISA.expiry, VISA.security_code):
        await peer.key(keys, way)
        await asyncio.sleep(FIELD_PACE_S)
    while stage.status_of(peer.call_id) == "capturing" and not await stage.payments_of(done.session):
        await peer.key("1", way)
        await asyncio.sleep(FIELD_PACE_S)


BARESIP: Final[dict[str, Any]] = {
    "PCMU, tones": partial(pay_from_baresip, codec=Codec.PCMU, way=KeyWay.INBAND),
    "PCMA, tones": partial(pay_from_baresip, codec=Codec.PCMA, way=KeyWay.INBAND),
    "PCMA, telephone-event, 40 ms, rtcp-mux, held": partial(
        pay_from_baresip,
        codec=Codec.PCMA,
        way=KeyWay.RFC4733,
        held=True,
        ptime_ms=40,
        rtcp_mux=True,
    ),
}
HELD: Final = BARESIP["PCMA, telephone-event, 40 ms, rtcp-mux, held"]


@pytest.mark.parametrize("how", [pytest.param(name, marks=plays(BARESIP[name])) for name in BARESIP])
async def test_baresip_pays_and_hears_every_prompt_unbroken(
    stage: Stage, result: BaresipCall, how: str
) -> None:
    await check_paid(
        stage,
        {"session": result.session, "call": result.call},
        "inband" if "tones" in how else "rfc4733",
    )
    leg = result.call["legs"][0]
    assert leg["codec"] == how[:4]
    assert leg["rtp"]["packets_lost"] == 0
    check_reports(leg)
    # After a hold baresip records no more.
    await check_heard(result.heard, UNCUT[:1] if result.held_as else UNCUT)


@plays(HELD)
async def test_a_hold_in_the_middle_of_the_card_number_leaves_the_capture_as_it_was(
    result: BaresipCall,
) -> None:
    assert result.held_as == "capturing"
    told = [entry["type"] for entry in result.call["timeline"]]
    assert told.count("capture.opening") == 1


@plays(HELD)
async def test_what_baresip_was_answered_is_what_it_asked_for(result: BaresipCall) -> None:
    answer = result.log[result.log.index("SIP/2.0 200 OK") :]
    answer = answer[: answer.index("stream: update")]
    assert "a=rtcp-mux" in answer
    assert "a=ptime:40" in answer
    assert "a=recvonly" in result.log, "the answer to its hold"


# -- baresip with SRTP -----------------------------------------------------------------------------------


SRTP: Final[dict[str, Any]] = {
    "PCMU, telephone-event, RTP/AVP with keys": partial(
        pay_from_baresip,
        codec=Codec.PCMU,
        way=KeyWay.RFC4733,
        encryption=MediaEncryption.OPTIONAL,
        address=SRTP_ADDRESS,
    ),
    "PCMA, tones, RTP/SAVP": partial(
        pay_from_baresip,
        codec=Codec.PCMA,
        way=KeyWay.INBAND,
        encryption=MediaEncryption.MANDATORY,
        address=SRTP_ONLY_ADDRESS,
    ),
    "PCMU, telephone-event, RTP/SAVP, rtcp-mux, held": partial(
        pay_from_baresip,
        codec=Codec.PCMU,
        way=KeyWay.RFC4733,
        held=True,
        rtcp_mux=True,
        encryption=MediaEncryption.MANDATORY,
        address=SRTP_ONLY_ADDRESS,
    ),
}
KEYS: Final = re.compile(r"inline:([A-Za-z0-9+/=]+)")


@pytest.mark.parametrize("how", [pytest.param(name, marks=plays(SRTP[name])) for name in SRTP])
async def test_baresip_pays_and_hears_every_prompt_by_srtp(
    stage: Stage, result: BaresipCall, how: str
) -> None:
    # It would have gone on in clear where it may; where it may not, this is what it says before it hears anything.
    assert "SRTP is Enabled" in result.log
    await check_paid(
        stage, {"session": result.session, "call": result.call}, "inband" if "tones" in how else "rfc4733"
    )
    assert result.call["legs"][0]["rtp"]["packets_lost"] == 0
    check_reports(result.call["legs"][0])
    await check_heard(result.heard, UNCUT[:1] if result.held_as else UNCUT)


@pytest.mark.parametrize("how", [pytest.param(name, marks=plays(SRTP[name])) for name in SRTP])
async def test_the_ladder_of_an_encrypted_call_holds_no_media_key(
    stage: Stage, result: BaresipCall, how: str
) -> None:
    keys = set(KEYS.findall(result.log))
    assert len(keys) >= 2, "baresip's and ours"
    ladder = (await stage.switch.api.get(f"/v1/calls/{result.call['id']}/ladder")).text
    assert "INVITE" in ladder
    assert not [key for key in keys if key in ladder]


@dataclass
class Called:
    """What became of a call that baresip tried."""

    answer: str
    encrypted: bool


async def call_from_baresip(stage: Stage, *, encryption: MediaEncryption, address: str) -> Called:
    """Calls; hangs up if it is answered."""
    directory = stage.directory / f"baresip-{encryption.name}-{address}"
    directory.mkdir()
    caller = stage.switch.caller
    async with baresip(directory, caller=caller, encryption=encryption, address=address) as peer:
        peer.command("dial", stage.switch.uri(ROOMY_NUMBER))
        answer = await peer.answered_or_refused()
        if answer == "answered":
            await peer.ears.listen(1000)
            peer.command("hangup")
            await peer.ended()
        return Called(answer, "SRTP is Enabled" in peer.log())


UNEQUAL: Final[dict[str, Any]] = {
    "SRTP demanded of a trunk without": partial(
        call_from_baresip, encryption=MediaEncryption.MANDATORY, address="127.0.0.1"
    ),
    "SRTP possible on a trunk without": partial(
        call_from_baresip, encryption=MediaEncryption.OPTIONAL, address="127.0.0.1"
    ),
    "clear on a trunk that may": partial(
        call_from_baresip, encryption=MediaEncryption.OFF, address=SRTP_ADDRESS
    ),
    "clear on a trunk that must": partial(
        call_from_baresip, encryption=MediaEncryption.OFF, address=SRTP_ONLY_ADDRESS
    ),
}
REFUSED: Final = Called("488 Not Acceptable Here", encrypted=False)
IN_CLEAR: Final = Called("answered", encrypted=False)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param(name, expected, marks=plays(UNEQUAL[name]))
        for name, expected in zip(UNEQUAL, (REFUSED, IN_CLEAR, IN_CLEAR, REFUSED), strict=True)
    ],
)
async def test_a_trunk_decides_whether_clear_media_will_do(
    result: Called, how: str, expected: Called
) -> None:
    assert result == expected


# -- SIPp ------------------------------------------------------------------------------------------------


async def pay_from_sipp(stage: Stage, *, codec: Codec, way: KeyWay, held: bool = False) -> dict[str, Any]:
    session = await stage.session()
    peer = SIPpCustomer(stage.switch, session["identification_number"], way, codec, held=held)
    await peer.run()
    heard = peer.ear.stream(codec) if peer.ear is not None else None
    return {"session": session, "call": await stage.find_call(peer.call_id), "heard": heard}


SIPP: Final[dict[str, Any]] = {
    "PCMU, tones": partial(pay_from_sipp, codec=Codec.PCMU, way=KeyWay.INBAND),
    "PCMA, tones": partial(pay_from_sipp, codec=Codec.PCMA, way=KeyWay.INBAND),
    "PCMU, telephone-event, held": partial(pay_from_sipp, codec=Codec.PCMU, way=KeyWay.RFC4733, held=True),
    "PCMA, telephone-event": partial(pay_from_sipp, codec=Codec.PCMA, way=KeyWay.RFC4733),
}


@pytest.mark.parametrize("how", [pytest.param(name, marks=plays(SIPP[name])) for name in SIPP])
async def test_sipp_pays(stage: Stage, result: dict[str, Any], how: str) -> None:
    await check_paid(stage, result, "inband" if "tones" in how else "rfc4733")
    assert result["call"]["legs"][0]["codec"] == how[:4]


@plays(SIPP["PCMA, telephone-event"])
async def test_what_sipp_is_sent_is_one_unbroken_stream_of_every_prompt(result: dict[str, Any]) -> None:
    heard: HeardStream = result["heard"]
    assert heard.payload_types == {Codec.PCMA.value}
    assert heard.packet_ms == {20}
    assert len(heard.ssrcs) == 1
    assert not heard.breaks
    await check_heard(heard.samples, UNCUT[1:])


@plays(SIPP["PCMU, telephone-event, held"])
async def test_after_a_hold_the_mask_is_still_on_and_the_stream_goes_on(result: dict[str, Any]) -> None:
    heard: HeardStream = result["heard"]
    assert heard.payload_types == {Codec.PCMU.value}
    assert len(heard.ssrcs) == 1
    (resumed,) = heard.breaks
    # Nobody speaks while a card number is half keyed.
    for quiet in (heard.samples[resumed - 2000 : resumed], heard.samples[resumed : resumed + 2000]):
        assert MASK_DBFS[0] < level_dbfs(quiet) < MASK_DBFS[1]
    await check_heard(heard.samples[resumed:], UNCUT[1:])


async def hear_the_echo(stage: Stage, *, codec: Codec) -> dict[str, str]:
    """Keys tones into SIPp, which returns them; what our own telephone then hears."""
    async with sipp_echo(codec) as uri:
        caller = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.e2e.echo_caller", uri, ECHOED),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await caller.communicate())[0].decode()
        assert caller.returncode == 0, said
        return dict(json.loads(said.splitlines()[-1]))


ECHO: Final[dict[Codec, Any]] = {codec: partial(hear_the_echo, codec=codec) for codec in Codec}


@pytest.mark.parametrize("codec", [pytest.param(codec, marks=plays(ECHO[codec])) for codec in Codec])
async def test_sipp_returns_what_our_engine_says(result: dict[str, str], codec: Codec) -> None:
    assert result == {"codec": codec.name, "heard": ECHOED}
