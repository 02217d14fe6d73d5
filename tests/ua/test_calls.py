"""Whole SIP calls against a switch in a process of its own: SIPp, raw bytes, and a second switch."""

import pytest

from tests.ua.peers import (
    Socket,
    Switch,
    ack,
    expect,
    expect_request,
    invite,
    respond,
    sdp,
    send,
    sipp,
)

CRYPTO = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
PROVISIONAL = (expect(100, optional=True), expect(180, optional=True), expect(183, optional=True))


@pytest.fixture(scope="module")
def switch():
    made = Switch()
    assert made.edge, "these tests need the wheel with edge.c"
    yield made
    made.stop()
    assert made.process.returncode == 0, made.log


@pytest.fixture(scope="module")
def other():
    made = Switch()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def clean(switch, request):
    yield
    switch.clear()
    if "other" in request.fixturenames:
        request.getfixturevalue("other").clear()


def up(user: str, body: str = "", *headers: str) -> tuple[str, ...]:
    """INVITE to ACK."""
    return (invite(user, body or sdp(), *headers), *PROVISIONAL, expect(200), ack(user))


def bye(user: str, cseq: int = 2) -> tuple[str, ...]:
    return send("BYE", user, cseq), expect(200)


@pytest.mark.parametrize("transport", ["u1", "t1"])
def test_answer_and_bye_from_the_peer(switch, transport):
    sipp(switch, *up("answer"), *bye("answer"), transport=transport)
    incoming = switch.wait("incoming")
    assert (incoming["trunk"], incoming["transport"]) == ("loopback", {"u1": "UDP", "t1": "TCP"}[transport])
    assert switch.wait("agreed")["port"] == 40000
    switch.wait("answered")
    ended = switch.wait("ended")
    assert (ended["status"], ended["by_remote"], ended["answered"]) == (200, True, True)
    assert switch.statistics()["foreign_sdp"] == 0


def test_our_sdp_goes_out(switch):
    sipp(
        switch,
        invite("later", sdp()),
        *PROVISIONAL,
        expect(200, contains="m=audio 2[0-9]+ RTP/AVP 0"),
        ack("later"),
        *bye("later"),
    )


def test_bye_from_us(switch):
    sipp(switch, *up("bye"), expect_request("BYE"), respond(200, "OK"))
    assert switch.wait("ended")["by_remote"] is False


@pytest.mark.parametrize("status", [486, 403, 404, 480, 503])
def test_refusals(switch, status):
    sipp(
        switch,
        invite(f"refuse{status}", sdp()),
        expect(100, optional=True),
        expect(status, contains="X-Why: test"),
        ack("refuse"),
    )
    ended = switch.wait("ended")
    assert (ended["status"], ended["by_remote"], ended["answered"]) == (status, False, False)


def test_early_media(switch):
    sipp(
        switch,
        invite("early", sdp()),
        expect(100, optional=True),
        expect(183, contains="m=audio 2[0-9]+ RTP/AVP 0"),
        expect(200, contains="m=audio 2[0-9]+ RTP/AVP 0"),
        ack("early"),
        *bye("early"),
    )


def test_reliable_provisional_responses(switch):
    rseq = (
        '<recv response="183" rrs="true"><action><ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" '
        'check_it="true" assign_to="2"/></action></recv>'
    )
    sipp(
        switch,
        invite("early", sdp(), "Supported: 100rel"),
        expect(100, optional=True),
        rseq,
        send("PRACK", "early", 2, "", "RAck: [$2] 1 INVITE"),
        '<recv response="200"/>',
        '<recv response="200"/>',
        ack("early"),
        *bye("early", 3),
    )


def test_cancel(switch):
    peer = Socket()
    raw = peer.request("INVITE", "ring", body=sdp())
    peer.send(raw, switch.udp)
    while not (peer.receive() or b"SIP/2.0 180").startswith(b"SIP/2.0 180"):
        pass
    head = raw.split(b"\r\n\r\n")[0].replace(b"INVITE", b"CANCEL")
    lines = [li for li in head.split(b"\r\n") if not li.lower().startswith((b"content", b"contact"))]
    peer.send(b"\r\n".join([*lines, b"Content-Length: 0", b"", b""]), switch.udp)
    statuses = {int(peer.receive().split(b" ")[1]) for _ in range(2)}
    assert statuses == {200, 487}
    ended = switch.wait("ended")
    assert (ended["status"], ended["by_remote"]) == (487, True)


def test_hold_and_resume(switch):
    hold = sdp(extra="a=sendonly\r\n")
    moved = sdp(port=41000)
    sipp(
        switch,
        *up("answer"),
        send("INVITE", "answer", 2, hold),
        expect(100, optional=True),
        expect(200, contains="a=recvonly"),
        ack("answer", 2),
        send("INVITE", "answer", 3, moved),
        expect(100, optional=True),
        expect(200, contains="a=sendrecv"),
        ack("answer", 3),
        *bye("answer", 4),
    )
    held = switch.wait("reoffered")
    assert (held["holds"], held["direction"]) == (True, "recvonly")
    resumed = switch.wait("reoffered")
    assert (resumed["holds"], resumed["direction"], resumed["port"]) == (False, "sendrecv", 41000)
    assert switch.statistics()["foreign_sdp"] == 0


def test_hold_by_address(switch):
    sipp(
        switch,
        *up("answer"),
        send("INVITE", "answer", 2, sdp(c="0.0.0.0")),
        expect(100, optional=True),
        expect(200),
        ack("answer", 2),
        *bye("answer", 3),
    )
    assert switch.wait("reoffered")["holds"] is True


def test_update_moves_the_stream(switch):
    sipp(switch, *up("answer"), send("UPDATE", "answer", 2, sdp(port=42000)), expect(200), *bye("answer", 3))
    assert switch.wait("reoffered")["port"] == 42000


def test_an_empty_reinvite_gets_our_offer(switch):
    sipp(
        switch,
        *up("answer"),
        send("INVITE", "answer", 2),
        expect(100, optional=True),
        expect(200, contains="m=audio 2"),
        ack("answer", 2, sdp(port=43000)).replace("Contact:", "Content-Type: application/sdp\nContact:", 0),
        *bye("answer", 3),
    )
    assert switch.wait("reoffered")["empty"] is True


def test_a_change_that_is_refused_leaves_the_call(switch):
    sipp(
        switch,
        *up("no-change"),
        send("INVITE", "no-change", 2, sdp(port=44000)),
        expect(100, optional=True),
        expect(488),
        ack("no-change", 2),
        *bye("no-change", 3),
    )
    assert switch.wait("ended")["status"] == 200


def test_our_reinvite(switch):
    sipp(
        switch,
        *up("reinvite"),
        expect_request("INVITE"),
        respond(200, "OK", sdp(port=45000)),
        expect_request("ACK"),
        expect_request("BYE"),
        respond(200, "OK"),
    )
    assert switch.wait("reanswered")["port"] == 45000
    assert switch.statistics()["foreign_sdp"] == 0


def test_our_reinvite_refused(switch):
    sipp(
        switch,
        *up("reinvite"),
        expect_request("INVITE"),
        respond(488, "Not Acceptable Here"),
        expect_request("ACK"),
        *bye("reinvite"),
    )
    assert switch.wait("reoffer_failed")["status"] == 488
    assert switch.wait("ended")["by_remote"] is True


def test_delayed_offer(switch):
    sipp(
        switch,
        send("INVITE", "answer", 1, dialog=False),
        *PROVISIONAL,
        expect(200, contains="m=audio 2[0-9]+ RTP/AVP 0 8 101"),
        ack("answer", 1, sdp(port=46000)),
        *bye("answer"),
    )
    assert switch.wait("incoming")["offer"] is False
    assert switch.wait("answered")["port"] == 46000


@pytest.mark.parametrize(
    ("kind", "body", "key", "status"),
    [
        ("application/dtmf-relay", "Signal=7\r\nDuration=180\r\n", 7, 200),
        ("application/dtmf-relay", "Signal=*\r\nDuration=100\r\n", 10, 200),
        # pjsua knows no application/dtmf and has no way for us to answer: the key counts all the same.
        ("application/dtmf", "9", 9, 500),
    ],
)
def test_keys_by_info(switch, kind, body, key, status):
    sipp(
        switch,
        *up("answer"),
        send("INFO", "answer", 2, body, f"Content-Type: {kind}").replace(' retrans="500"', ""),
        expect(status),
        *bye("answer", 3),
    )
    assert switch.wait("info_key")["key"] == key
    switch.tell("ladder")
    entries = switch.wait("ladder")["entries"]
    assert not any("Signal" in entry or "dtmf" in entry for entry in entries)


def test_a_bye_without_ack_ends_the_leg(switch):
    sipp(switch, invite("answer", sdp()), *PROVISIONAL, expect(200), *bye("answer"))
    switch.wait("ended")


def test_refer_is_refused_at_the_edge(switch):
    sipp(
        switch,
        *up("answer"),
        send("REFER", "answer", 2, "", "Refer-To: <sip:0399998888@127.0.0.1>"),
        expect(405),
        *bye("answer", 3),
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (sdp(formats="18"), 488),
        (sdp(formats="0", extra=CRYPTO).replace("RTP/AVP", "RTP/SAVP"), 488),
        (sdp().replace("m=audio 40000", "m=audio x"), 400),
        ("v=0\r\n", 400),
        ("not sdp at all", 400),
        (sdp().replace("c=IN IP4 127.0.0.1\r\n", ""), None),
        (sdp(port=0), None),
    ],
)
def test_bad_descriptions(switch, body, status):
    peer = Socket()
    found = peer.status(peer.request("INVITE", "answer", body=body), switch.udp)
    assert found == status or (status is None and found in {400, 488})
    assert switch.statistics()["calls"] == 0


def test_a_body_that_is_no_sdp(switch):
    peer = Socket()
    raw = peer.request("INVITE", "answer", body=sdp()).replace(b"application/sdp", b"text/plain")
    assert peer.status(raw, switch.udp) == 415


def test_replaces_takes_no_call_over(switch):
    peer = Socket()
    raw = peer.request("INVITE", "answer", "Replaces: x;to-tag=1;from-tag=2", body=sdp())
    assert peer.status(raw, switch.udp) == 403
    told = switch.wait("turned_away")
    assert (told["reason"], told["called"]) == ("replaces", "answer")


@pytest.mark.parametrize("method", ["SUBSCRIBE", "PUBLISH", "MESSAGE", "NOTIFY", "REFER", "REGISTER"])
def test_methods_that_are_refused(switch, method):
    peer = Socket()
    assert peer.status(peer.request(method), switch.udp) == 405


def test_options_are_answered_to_trunks(switch):
    peer = Socket()
    assert peer.status(peer.request("OPTIONS"), switch.udp) == 200


def test_an_unknown_source_gets_no_byte(switch):
    stranger, friend = Socket("127.0.0.2"), Socket()
    before = switch.statistics()["edge"]["foreign"]
    for method in ("INVITE", "OPTIONS", "REGISTER", "ACK", "BYE"):
        stranger.send(stranger.request(method, body=sdp()), switch.udp)
    stranger.send(b"\r\n\r\n", switch.udp)
    # The friend's answer comes after all of the stranger's packets have been dealt with.
    assert friend.status(friend.request("OPTIONS"), switch.udp) == 200
    assert stranger.receive(0.2) is None
    assert switch.statistics()["edge"]["foreign"] >= before + 5


def test_garbage_does_no_harm(switch):
    peer = Socket()
    good = peer.request("INVITE", "answer", body=sdp())
    for raw in (
        b"\0" * 100,
        b"INVITE",
        b"INVITE sip:\xff\xfe SIP/2.0\r\n\r\n",
        good[:200],
        good.replace(b"Content-Length: ", b"Content-Length: -"),
        good.replace(b"CSeq: 1 INVITE", b"CSeq: 99999999999999999999 INVITE"),
        good.replace(b"Via:", b"Via: ,,,;;;"),
        b"SIP/2.0 200 OK\r\nVia: x\r\n\r\n",
        bytes(range(256)) * 20,
    ):
        peer.send(raw, switch.udp)
    peer = Socket()
    assert peer.status(peer.request("OPTIONS"), switch.udp) == 200


def test_new_calls_are_refused_while_draining(switch):
    switch.tell("refuse_new", reason="draining")
    switch.wait("done")
    peer = Socket()
    raw = peer.request("INVITE", "answer", body=sdp())
    peer.send(raw, switch.udp)
    answer = peer.receive()
    assert answer.startswith(b"SIP/2.0 503")
    assert b"Retry-After: 5" in answer
    assert switch.wait("turned_away")["reason"] == "draining"
    switch.tell("refuse_new", reason=None)
    switch.wait("done")


@pytest.mark.parametrize("plan", ["raise", "raise-later"])
def test_a_fault_ends_that_call_only(switch, plan):
    steps = [invite(plan, sdp()), *PROVISIONAL]
    if plan == "raise":
        steps += [expect(500), ack(plan)]
    else:
        steps += [expect(200), ack(plan), expect_request("BYE"), respond(200, "OK")]
    sipp(switch, *steps)
    assert switch.wait("fault")["error"] == "a fault of the handler"
    assert switch.wait("ended")["status"] == 500
    sipp(switch, *up("answer"), *bye("answer"))


@pytest.mark.parametrize(
    ("host", "transport"), [("127.0.0.1", ""), ("127.0.0.1", ";transport=tcp"), ("localhost", "")]
)
def test_we_dial_another_switch(switch, other, host, transport):
    port = other.tcp if transport else other.udp
    target = f"sip:answer@{host}:{port}{transport}"
    switch.tell("dial", target=target, **{"from": "sip:0399998888@ours.example"})
    leg = switch.wait("dialled")["leg"]
    switch.wait("ringing")
    switch.wait("answered", leg=leg)
    theirs = other.wait("incoming")["leg"]
    other.wait("answered")
    switch.tell("info", leg=leg, body="Signal=3\r\nDuration=120\r\n")
    assert other.wait("info_key")["key"] == 3
    other.tell("hang_up", leg=theirs)
    assert switch.wait("ended", leg=leg)["by_remote"] is True
    assert other.wait("ended")["by_remote"] is False


@pytest.mark.parametrize(("plan", "status"), [("refuse486", 486), ("refuse603", 603), ("refuse404", 404)])
def test_what_we_dial_refuses(switch, other, plan, status):
    switch.tell("dial", target=f"sip:{plan}@127.0.0.1:{other.udp}", **{"from": "sip:a@ours.example"})
    leg = switch.wait("dialled")["leg"]
    ended = switch.wait("ended", leg=leg)
    assert (ended["status"], ended["by_remote"]) == (status, True)


def test_early_media_of_what_we_dial(switch, other):
    switch.tell("dial", target=f"sip:early@127.0.0.1:{other.udp}", **{"from": "sip:a@ours.example"})
    leg = switch.wait("dialled")["leg"]
    assert switch.wait("early_media", leg=leg)["status"] == 183
    switch.wait("answered", leg=leg)
    switch.tell("hang_up", leg=leg)
    assert switch.wait("ended", leg=leg)["by_remote"] is False


def test_we_cancel(switch, other):
    switch.tell("dial", target=f"sip:ring@127.0.0.1:{other.udp}", **{"from": "sip:a@ours.example"})
    leg = switch.wait("dialled")["leg"]
    switch.wait("ringing", leg=leg)
    switch.tell("hang_up", leg=leg)
    assert switch.wait("ended", leg=leg)["status"] == 487
    assert other.wait("ended", status=487)["by_remote"] is True


def test_we_dial_without_an_offer(switch, other):
    switch.tell(
        "dial", target=f"sip:answer@127.0.0.1:{other.udp}", empty=True, **{"from": "sip:a@ours.example"}
    )
    leg = switch.wait("dialled")["leg"]
    assert switch.wait("reoffered", leg=leg)["direction"] == "sendrecv"
    switch.wait("answered", leg=leg)
    assert other.wait("answered")["port"] is not None
    switch.tell("hang_up", leg=leg)
    switch.wait("ended", leg=leg)


@pytest.mark.parametrize("target", ["not a uri", "tel:+81312345678", "sip:x@no-such-host.invalid"])
def test_what_cannot_be_dialled(switch, target):
    switch.tell("dial", target=target, **{"from": "sip:a@ours.example"})
    assert switch.wait("dial_failed")["status"] in {400, 503}


def test_nothing_is_left_behind(switch):
    statistics = switch.statistics()
    assert statistics["calls"] == 0
    assert statistics["foreign_sdp"] == 0
