"""Inline calls with SIPp on one side: hold, new addresses, delayed offers, PRACK, timers, CANCEL and REFER meanwhile.

The customer keys tones all the time. Whatever SIP does, no decoder finds one of them in what the operator heard.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import numpy as np
import pytest

from bench.telephone.phone import PhoneCall
from media.arrays import Int16
from tests.e2e.conftest import NGN_ADDRESS, Stage, plays
from tests.e2e.sipp_inline import (
    BYE,
    MUSIC_HZ,
    pause,
    receive,
    request,
    response,
    sdp,
    sipp,
    stream,
)
from tests.e2e.test_inline import keys_read

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Time for the capture to begin before SIPp does what it is here for.
BEFORE_S: Final = 5.0
#: And for the mask to have lifted, had it been about to.
AFTER_S: Final = 4.0
#: When the operator's PBX holds: the capture is open by then.
HOLD_AT_S: Final = 13.0

_RINGING: Final = (
    receive("100", optional=True) + receive("180", optional=True) + receive("183", optional=True)
)
_UP: Final = receive("200") + request("ACK", 1) + stream("keys.pcmu")


_VIA: Final = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]"


def reinvite(cseq: int, body: str, extra: str = "") -> str:
    """Another INVITE in the dialog, and what belongs to it."""
    return (
        request("INVITE", cseq, body, extra=extra)
        + receive("100", optional=True)
        + receive("200")
        + request("ACK", cseq)
    )


def invite(extra: str = "") -> str:
    return request("INVITE", 1, sdp(), first=True, extra=extra) + _RINGING + _UP + pause(BEFORE_S)


def invite_reliably(extra: str) -> str:
    """180 comes with RSeq and is acknowledged by PRACK before the call is answered."""
    ringing = '<action><ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" check_it="true" assign_to="rseq"/></action>'
    return (
        request("INVITE", 1, sdp(), first=True, extra=extra)
        + receive("100", optional=True)
        + receive("180", inside=ringing)
        + request("PRACK", 2, extra="RAck: [$rseq] 1 INVITE\n")
        + receive("200")
        + receive("200")
        + request("ACK", 1)
        + stream("keys.pcmu")
        + pause(BEFORE_S)
    )


CUSTOMERS: Final[dict[str, list[str]]] = {
    "hold": [
        invite(),
        reinvite(2, sdp("sendonly", version=2)),
        pause(AFTER_S),
        reinvite(3, sdp(version=3)),
        pause(AFTER_S),
    ],
    "inactive": [
        invite(),
        reinvite(2, sdp("inactive", version=2)),
        pause(AFTER_S),
        reinvite(3, sdp(version=3)),
        pause(AFTER_S),
    ],
    "address": [
        invite(),
        # Where nobody listens: only what comes from the customer matters here, and that stays.
        reinvite(2, sdp(version=2, port="[media_port+4]")),
        pause(AFTER_S),
        reinvite(3, sdp(version=3)),
        pause(AFTER_S),
    ],
    "delayed": [
        request("INVITE", 1, first=True) + _RINGING + receive("200"),
        request("ACK", 1, sdp()) + stream("keys.pcmu") + pause(BEFORE_S),
        # And once more inside the call.
        request("INVITE", 2) + receive("100", optional=True) + receive("200"),
        request("ACK", 2, sdp(version=2)),
        pause(AFTER_S),
    ],
    "timer": [
        invite("Supported: timer\nSession-Expires: 90;refresher=uac\nMin-SE: 90\n"),
        request("UPDATE", 2, extra="Supported: timer\nSession-Expires: 90;refresher=uac\n") + receive("200"),
        pause(AFTER_S),
        reinvite(3, sdp(version=1), "Supported: timer\nSession-Expires: 90;refresher=uac\n"),
        pause(AFTER_S),
    ],
    # Provisional responses: never reliable, reliable if the switch wishes, reliable or not at all (RFC 3262).
    "plain": [invite(), pause(AFTER_S)],
    "prack": [invite_reliably("Supported: 100rel\n"), pause(AFTER_S)],
    "require": [invite_reliably("Require: 100rel\n"), pause(AFTER_S)],
    # A second re-INVITE before the first has its ACK: 500 (RFC 3261 §14.2), and neither changes anything.
    "overlap": [
        invite(),
        request("INVITE", 2, sdp(version=2)) + receive("100", optional=True) + receive("200"),
        request("INVITE", 3, sdp("sendonly", version=3)) + receive("100", optional=True) + receive("500"),
        # Of the refused one's transaction (RFC 3261 §17.1.1.3), then that of the other.
        request("ACK", 3).replace(_VIA, "[last_Via:]") + request("ACK", 2),
        pause(AFTER_S),
        reinvite(4, sdp(version=4)),
        pause(AFTER_S),
    ],
    "refer": [
        invite(),
        request("REFER", 2, extra="Refer-To: <sip:thief@127.0.0.1:5099>\n") + receive("405"),
        pause(AFTER_S),
    ],
}
_LEAVE: Final = request("BYE", 9) + receive("200")


async def from_sipp(stage: Stage, name: str) -> dict[str, Any]:
    """SIPp calls; the desk answers; a capture runs while SIPp does what it does."""
    call_id = f"sipp-{os.urandom(6).hex()}"
    desk = f"desk-sipp-{name}"
    point(stage, f"sipp_{name}", stage.phone.uri(desk))
    steps = [*CUSTOMERS[name], _LEAVE]
    async with sipp(
        steps,
        target=f"127.0.0.1:{stage.switch.sip_port}",
        service=stage.inline(f"sipp_{name}"),
        call_id=call_id,
    ) as (task, _):
        operator = await stage.phone.call_at(desk, 20)
        session = await stage.session(language="en")
        (id,) = await stage.until(
            "SELECT id FROM call WHERE id = (SELECT call FROM leg WHERE sip_call_id = ?)"
            " AND answered_at IS NOT NULL",
            call_id,
        )
        await operator.ears.listen(500)
        answer = await stage.switch.api.post(
            f"/v1/calls/{id}/capture", json={"payment_session": session["id"]}
        )
        complaint = await task
    await operator.ended(10)
    return {
        "status": answer.status_code,
        "complaint": complaint,
        "read": keys_read(operator.heard.samples),
        "call": await stage.find_call(call_id),
        "events": operator.keys_heard,
        "session": await stage.session_now(session),
    }


def point(stage: Stage, name: str, uri: str) -> None:
    """Where the calls of an inline number go."""
    rules = {"destinations": [{"target": uri, "trunk": "trk_desks"}]}
    stage.change("UPDATE number SET rules = ? WHERE id = ?", json.dumps(rules), f"num_{name}")


FROM_SIPP: Final[dict[str, Callable[[Stage], Awaitable[Any]]]] = {
    name: partial(from_sipp, name=name) for name in CUSTOMERS
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=plays(FROM_SIPP[name])) for name in CUSTOMERS])
async def test_whatever_the_customers_end_does_the_mask_stays(result: dict[str, Any], name: str) -> None:
    assert result["complaint"] == ""
    assert result["status"] == 200
    assert (result["read"], result["events"]) == ([], [])
    call = result["call"]
    types = [entry["type"] for entry in call["timeline"]]
    assert types.count("capture.opening") == 1
    # It never lifted before the customer left.
    assert types.index("capture.closed") > types.index("operator.answered")
    assert (call["ended_by"], call["outcome"]) == ("customer", "customer_hung_up")
    assert result["session"]["status"] == "open"


# -- SIPp as the operator's end -------------------------------------------------------------------------

_ANSWER: Final = receive("INVITE") + response("180 Ringing") + response("200 OK", sdp()) + receive("ACK")


def back(method: str, cseq: int, body: str) -> str:
    """A request of the called side in the dialog: From and To change places."""
    return f"""  <send{"" if method == "ACK" else ' retrans="500"'}><![CDATA[
{method} [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:[service]@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]
To[$remote]
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:[service]@[local_ip]:[local_port]>
Max-Forwards: 70
{body}]]></send>
"""


_CATCH: Final = '<action><ereg regexp=".*" search_in="hdr" header="From" assign_to="remote"/></action>'
_ANSWER_AND_MUSIC: Final = (
    '  <recv request="INVITE" timeout="20000" rrs="true">'
    + _CATCH
    + "</recv>\n"
    + response("180 Ringing")
    + response("200 OK", sdp())
    + receive("ACK")
    + stream("music.pcmu")
    + pause(HOLD_AT_S)
)


def back_invite(cseq: int, direction: str) -> str:
    return (
        back("INVITE", cseq, sdp(direction, version=cseq))
        + receive("100", optional=True)
        + receive("200")
        + back("ACK", cseq, "Content-Length: 0\n")
    )


async def held_by_operator(stage: Stage) -> dict[str, Any]:
    """The operator's PBX holds with music in the middle of a capture, and takes the call back."""
    steps = [
        _ANSWER_AND_MUSIC,
        back_invite(1, "sendonly"),
        pause(AFTER_S),
        back_invite(2, "sendrecv"),
        BYE,
    ]
    async with sipp(steps, service="pbx") as (task, port):
        point(stage, "sipp_pbx", f"sip:pbx@127.0.0.1:{port}")
        customer = await stage.call_up(stage.inline("sipp_pbx"))
        (id,) = await stage.until("SELECT call FROM leg WHERE sip_call_id = ?", customer.sip.call_id)
        await customer.ears.listen(1_000)
        talking = music_level(customer.heard.samples[-6_000:])
        session = await stage.session(language="en")
        answer = await stage.switch.api.post(
            f"/v1/calls/{id}/capture", json={"payment_session": session["id"]}
        )
        await stage.capture_open(customer)
        await customer.key("4")  # cuts the prompt, which has something at any frequency
        open_ = await level_at(customer, HOLD_AT_S - 1)
        held = await level_at(customer, HOLD_AT_S + AFTER_S - 1)
        again = await level_at(customer, HOLD_AT_S + AFTER_S + 1.5)
        customer.hang_up()
        complaint = await task
    return {
        "status": answer.status_code,
        "complaint": complaint,
        "levels": (talking, open_, held, again),
        "ladder": (await stage.switch.api.get(f"/v1/calls/{id}/ladder")).text,
        "call": await stage.find_call(customer.sip.call_id),
    }


async def level_at(customer: PhoneCall, second: float) -> float:
    """The music's level in the customer's ear so many seconds after the answer: SIPp goes by a timetable."""
    await customer.ears.listen(int(second * 1000) - customer.ears.heard_ms)
    return music_level(customer.heard.samples[-6_000:])


def music_level(samples: Int16) -> float:
    """The operator's tone in the recording, relative to its own level, dB."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) / (len(samples) / 4)
    line = round(MUSIC_HZ * len(samples) / 8000)
    return float(20 * np.log10(max(spectrum[line - 2 : line + 3].max(), 1e-3) / 6000))


@plays(held_by_operator)
async def test_music_on_hold_does_not_reach_a_customer_who_keys(result: dict[str, Any]) -> None:
    assert (result["status"], result["complaint"]) == (200, ""), result["ladder"]
    talking, open_, held, again = result["levels"]
    # At the end a reminder may speak, and under a prompt the operator is softer.
    assert talking > -3 and open_ > -3 and again > -15, result["levels"]
    assert held < -40, result["levels"]
    assert [leg["party"] for leg in result["call"]["legs"]] == ["customer", "operator"]


# -- the customer gives up ------------------------------------------------------------------------------


async def cancelled(stage: Stage) -> dict[str, Any]:
    """CANCEL while a desk rings, and while the announcement plays."""
    found = {}
    ringing = await stage.dial(stage.inline("cancel"))
    desk = await stage.phone.ringing_at("silent-cancel", 20)
    ringing.hang_up()
    cause = await desk.ended(10)
    found["ringing"] = (cause.by_remote, await stage.find_call(ringing.sip.call_id))
    told = await stage.dial(stage.inline("nobody"))
    await told.ears.speech(timeout_s=30)
    told.hang_up()
    found["told"] = (True, await stage.find_call(told.sip.call_id))
    return found


@plays(cancelled)
async def test_a_customer_who_gives_up_leaves_nobody_ringing(result: dict[str, Any]) -> None:
    by_remote, call = result["ringing"]
    assert by_remote
    assert [leg["ended_at"] is not None for leg in call["legs"]] == [True, True]
    assert (call["answered_at"], call["ended_by"]) == (None, "customer")
    assert result["told"][1]["outcome"] == "no_operator"


# -- a Japanese carrier ---------------------------------------------------------------------------------

_TIMER: Final = "Supported: timer\nSession-Expires: 300;refresher=uac\n"
#: The number that was dialled stands in different places; {number} is E.164 without the plus.
NGN: Final[dict[str, tuple[str, str, str]]] = {
    # service of the request-URI, headers, the caller on the desk's display
    "sip": ("+{number}", "P-Asserted-Identity: <sip:+81312340001@ngn.example;user=phone>\n", "+81312340001"),
    "tel": (
        "+{number}",
        "P-Asserted-Identity: <tel:+81312340001>\nPrivacy: none\n",
        "+81312340001",
    ),
    "private": (
        "+{number}",
        "P-Asserted-Identity: <sip:+81312340001@ngn.example;user=phone>\nPrivacy: id\n",
        "anonymous",
    ),
    "forwarded": (
        "0399990000",
        "P-Asserted-Identity: <tel:+81312340001>\n"
        "History-Info: <sip:+{number}@ngn.example>;index=1,<sip:0399990000@ngn.example>;index=1.1\n",
        "+81312340001",
    ),
}


async def from_ngn(stage: Stage) -> dict[str, Any]:
    """One call after another; each refreshes its session by UPDATE."""
    number = "81" + stage.inline("ngn")[1:]
    found = {}
    for name, (service, headers, _) in NGN.items():
        call_id = f"ngn-{os.urandom(6).hex()}"
        steps = [
            request("INVITE", 1, sdp(), first=True, extra=headers.format(number=number) + _TIMER),
            _RINGING + receive("200") + request("ACK", 1) + pause(1.0),
            request("UPDATE", 2, extra=_TIMER) + receive("200") + pause(0.5),
            _LEAVE,
        ]
        async with sipp(
            steps,
            target=f"127.0.0.1:{stage.switch.sip_port}",
            service=service.format(number=number),
            call_id=call_id,
            address=NGN_ADDRESS,
        ) as (task, _):
            operator = await stage.phone.call_at("desk-ngn", 20)
            complaint = await task
        found[name] = (complaint, operator.caller, await stage.find_call(call_id))
    return found


@plays(from_ngn)
@pytest.mark.parametrize("name", NGN)
async def test_a_japanese_carriers_call_is_understood(result: dict[str, Any], name: str) -> None:
    complaint, shown, call = result[name]
    assert complaint == ""
    assert shown == NGN[name][2]
    private = name == "private"
    assert (call["caller"] is None, call["caller_withheld"]) == (private, "private" if private else None)
    assert [leg["codec"] for leg in call["legs"]] == ["PCMU", "PCMU"]
