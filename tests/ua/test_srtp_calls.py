"""SRTP keys through real dialogs: two switches of ours, and raw offers, with pjsua between."""

from __future__ import annotations

import itertools

import pytest

from tests.ua.peers import Switch, ack, expect, invite, sdp, send, sipp
from tests.ua.test_calls import PROVISIONAL, bye

KEY = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
CRYPTO = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
SECURE = sdp(extra=CRYPTO).replace("RTP/AVP", "RTP/SAVP")
GCM = f"a=crypto:1 AEAD_AES_128_GCM inline:{'A' * 36}AQ==\r\n"
FOREIGN = f"a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:{'B' * 61}A==\r\na=crypto:2 F8_128_HMAC_SHA1_80 inline:{KEY}\r\n"
MIXED = sdp(extra=CRYPTO)


@pytest.fixture(scope="module")
def switches():
    """A switch for each policy."""
    made = {policy: Switch(srtp=policy) for policy in ("off", "optional", "required")}
    yield made
    for switch in made.values():
        switch.stop()


@pytest.fixture(autouse=True)
def clean(switches):
    yield
    for switch in switches.values():
        assert switch.statistics()["foreign_sdp"] == 0
        assert switch.statistics()["faults"] == 0
        switch.clear()
    assert not any(KEY in line for switch in switches.values() for line in switch.log)


def matching(one: list[str] | None, other: list[str] | None) -> bool:
    """Whether what one end sends with the other one opens."""
    if one is None or other is None:
        return one is other
    return one == [other[0], other[2], other[1]]


def dial(caller: Switch, called: Switch, user: str = "answer", **fields) -> int:
    caller.tell("dial", target=f"sip:{user}@127.0.0.1:{called.udp}", **{"from": "sip:a@127.0.0.1"}, **fields)
    return caller.wait("dialled")["leg"]


@pytest.mark.parametrize(("one", "other"), list(itertools.product(["off", "optional", "required"], repeat=2)))
def test_policies_that_meet(switches, one, other):
    caller, called = switches[one], switches[other]
    leg = dial(caller, called)
    if {one, other} == {"off", "required"} or (one, other) == ("optional", "required"):
        assert caller.wait("ended", leg=leg)["status"] == 488
        return
    agreed, answered = called.wait("agreed"), caller.wait("answered", leg=leg)
    assert matching(agreed["srtp"], answered["srtp"])
    assert (agreed["srtp"] is None) == ("off" in {one, other})
    caller.tell("hang_up", leg=leg)
    called.wait("ended", leg=agreed["leg"])


@pytest.mark.parametrize(
    ("policy", "body", "status"),
    [
        ("off", SECURE, 488),
        ("off", MIXED, 200),
        ("optional", SECURE, 200),
        ("optional", MIXED, 200),
        ("optional", sdp(), 200),
        ("required", SECURE, 200),
        ("required", MIXED, 488),
        ("required", sdp(), 488),
        ("required", SECURE.replace(f"{KEY}", f"{KEY}|1:4"), 488),
        ("required", SECURE.replace(KEY, f"{KEY} UNENCRYPTED_SRTP"), 488),
        ("required", SECURE.replace(KEY, f"{KEY}|2^31 WSH=128"), 200),
        ("required", SECURE.replace("SHA1_80", "SHA1_32"), 200),
        ("required", SECURE.replace(CRYPTO, GCM + CRYPTO.replace(":1 ", ":2 ")), 200),
        ("required", SECURE.replace(CRYPTO, FOREIGN + CRYPTO.replace(":1 ", ":7 ")), 200),
        # pjsua itself, which knows none of these lines.
        ("required", SECURE.replace(CRYPTO, GCM), 406),
        ("required", SECURE.replace("AES_CM_128", "AES_192_CM"), 406),
        ("required", SECURE.replace(CRYPTO, ""), 406),
    ],
)
def test_offers_from_outside(switches, policy, body, status):
    switch = switches[policy]
    steps = [invite("answer", body), *PROVISIONAL]
    if status == 200:
        profile = "SAVP" if "SAVP" in body else "AVP"
        sipp(switch, *steps, expect(200, contains=f"RTP/{profile} "), ack("answer"), *bye("answer"))
        assert (switch.wait("agreed")["srtp"] is None) == (policy == "off" or "crypto" not in body)
    else:
        sipp(switch, *steps, expect(status), ack("answer"))


def test_a_delayed_offer_is_secured(switches):
    # The called one offers in its 200, the caller answers in its ACK.
    caller, called = switches["optional"], switches["required"]
    leg = dial(caller, called, empty=True)
    theirs = caller.wait("reoffered", leg=leg)
    ours = called.wait("answered")
    assert theirs["srtp"] is not None
    assert matching(theirs["srtp"], ours["srtp"])
    caller.tell("hang_up", leg=leg)
    called.wait("ended")


@pytest.mark.parametrize("line", [CRYPTO, CRYPTO.replace("crypto:1", "crypto:2").replace("_80", "_32")])
def test_any_suite_of_our_offer_may_be_answered(switches, line):
    answer = sdp(extra=line).replace("RTP/AVP", "RTP/SAVP")
    sipp(
        switches["required"],
        invite("answer", ""),
        *PROVISIONAL,
        expect(200, contains="RTP/SAVP"),
        ack("answer", 1, answer),
        *bye("answer"),
    )
    assert switches["required"].wait("answered")["srtp"][0] == line.split()[1]


def test_a_reinvite_keeps_the_keys_unless_they_are_renewed(switches):
    caller, called = switches["required"], switches["optional"]
    leg = dial(caller, called)
    first = caller.wait("answered", leg=leg)["srtp"]
    called.wait("agreed")
    caller.tell("reinvite", leg=leg)
    again = caller.wait("reanswered", leg=leg)["srtp"]
    assert again == first
    assert matching(called.wait("reoffered")["srtp"], again)
    caller.tell("reinvite", leg=leg, renew=True)
    renewed = caller.wait("reanswered", leg=leg)["srtp"]
    assert (renewed[0], renewed[2]) == (first[0], first[2])
    assert renewed[1] != first[1]
    assert matching(called.wait("reoffered")["srtp"], renewed)
    caller.tell("hang_up", leg=leg)
    called.wait("ended")


def test_a_peers_new_key_is_taken_and_ours_goes_on(switches):
    other = "A" * 40
    sipp(
        switches["required"],
        invite("answer", SECURE),
        *PROVISIONAL,
        expect(200),
        ack("answer"),
        send("INVITE", "answer", 2, SECURE.replace(KEY, other)),
        expect(100, optional=True),
        expect(200, contains="RTP/SAVP"),
        ack("answer", 2),
        *bye("answer", 3),
    )
    before, after = (switches["required"].wait(event)["srtp"] for event in ("agreed", "reoffered"))
    assert before[:2] == after[:2]
    assert before[2] != after[2]


def test_the_ladder_and_the_log_hold_no_key(switches):
    switch = switches["required"]
    sipp(switch, invite("answer", SECURE), *PROVISIONAL, expect(200), ack("answer"), *bye("answer"))
    switch.wait("ended")
    switch.tell("ladder")
    entries = "\n".join(switch.wait("ladder")["entries"])
    assert entries.count("a=crypto:1 AES_CM_128_HMAC_SHA1_80 (withheld)") >= 2
    assert "inline" not in entries
    assert not any("inline" in line for line in switch.log)
