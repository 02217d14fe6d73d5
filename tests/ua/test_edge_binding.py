"""``edge.c`` and its binding, by bytes on real sockets against a pjsua2 in a process of its own."""

from __future__ import annotations

import ipaddress
import random
import re
import socket
from collections.abc import Iterator

import pytest

from sipivr.ua import edge_binding
from sipivr.ua.edge_binding import EdgeBinding, EdgeError, EdgeVerdict
from tests.ua.edge_client import PATIENCE_S, REFUSAL, EdgeHost, Peer, peer_of

pytestmark = pytest.mark.skipif(not edge_binding.available(), reason="this pjsua2 has no edge.c")

SDP_OFFER = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 30000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
)
AS_SDP = "Content-Type: application/sdp\r\n"


@pytest.fixture
def host() -> Iterator[EdgeHost]:
    with EdgeHost() as running:
        yield running


@pytest.fixture
def peer(host: EdgeHost) -> Iterator[Peer]:
    with peer_of(host) as one:
        yield one


def header(message: bytes, name: str) -> str:
    found = re.search(rf"^{name}:\s*(.*?)\r$", message.decode(), re.MULTILINE | re.IGNORECASE)
    assert found, message
    return found[1]


def tag_of(message: bytes) -> str:
    return header(message, "To").partition(";tag=")[2]


def set_up_call(peer: Peer, call_id: str) -> str:
    """Make a call that the host answers; return the host's tag."""
    peer.send(peer.request("INVITE", call_id=call_id, headers=AS_SDP, body=SDP_OFFER))
    answer = peer.receive_final()
    assert answer.startswith(b"SIP/2.0 200 "), answer
    tag = tag_of(answer)
    peer.send(peer.request("ACK", call_id=call_id, to_tag=tag))
    return tag


class TestVerdicts:
    def test_a_passed_request_is_answered_by_pjsip(self, host: EdgeHost, peer: Peer) -> None:
        peer.send(peer.request("OPTIONS"))
        assert peer.receive().startswith(b"SIP/2.0 200 OK\r\n")
        assert host.counters()["passed"] == 1

    @pytest.mark.parametrize(
        "method", ["OPTIONS", "INVITE", "SUBSCRIBE", "MESSAGE", "REGISTER", "BYE", "CANCEL", "X"]
    )
    def test_a_dropped_request_gets_nothing_at_all(self, host: EdgeHost, peer: Peer, method: str) -> None:
        host.decide("drop")
        peer.send(peer.request(method))
        host.wait_for(dropped=1)
        assert peer.hears_nothing()
        assert host.counters()["sent"] == 0

    def test_an_answer_is_stateless_and_carries_retry_after(self, host: EdgeHost, peer: Peer) -> None:
        host.decide("answer", status=503, retry_after_s=7)
        invite = peer.request("INVITE", headers=AS_SDP, body=SDP_OFFER)
        peer.send(invite)
        first = peer.receive()
        assert first.startswith(b"SIP/2.0 503 Service Unavailable\r\n")
        assert header(first, "Retry-After") == "7"
        assert header(first, "CSeq") == "1 INVITE"
        # Neither a 100 before it nor a retransmission after it; the same request again is asked about again.
        assert peer.hears_nothing()
        peer.send(invite)
        assert peer.receive() == first
        assert host.counters()["answered"] == 2

    def test_no_retry_after_unless_asked_for(self, host: EdgeHost, peer: Peer) -> None:
        host.decide("answer", status=403)
        peer.send(peer.request("INVITE"))
        answer = peer.receive()
        assert answer.startswith(b"SIP/2.0 403 Forbidden\r\n")
        assert b"Retry-After" not in answer

    def test_an_ack_is_never_answered(self, host: EdgeHost, peer: Peer) -> None:
        host.decide("answer", status=481)
        peer.send(peer.request("ACK", to_tag="x"))
        assert host.wait_for(dropped=1)["answered"] == 0
        assert peer.hears_nothing()

    @pytest.mark.parametrize("code", [-1, 2, 100, 200, 299, 700, 2**31 - 1])
    def test_a_verdict_that_is_none_drops(self, host: EdgeHost, peer: Peer, code: int) -> None:
        host.decide("code", code=code)
        peer.send(peer.request("OPTIONS"))
        host.wait_for(failed_closed=1)
        assert peer.hears_nothing()

    @pytest.mark.parametrize(("kind", "error"), [("raise", "RuntimeError"), ("forget", "AttributeError")])
    def test_a_handler_that_fails_drops(self, host: EdgeHost, peer: Peer, kind: str, error: str) -> None:
        host.decide(kind)
        peer.send(peer.request("OPTIONS"))
        counters = host.wait_for(dropped=1)
        assert (counters["passed"], counters["handler_failures"]) == (0, 1)
        assert peer.hears_nothing()
        assert any(error in entry.get("failure", "") for entry in host.seen())

    def test_a_response_follows_no_maddr(self, host: EdgeHost, peer: Peer) -> None:
        with peer_of(host) as third_party:
            for name in ("127.0.0.9", "name.invalid"):
                peer.send(peer.request("OPTIONS", via=f";maddr={name}"))
                assert peer.receive().startswith(b"SIP/2.0 200 ")
            assert third_party.hears_nothing()

    def test_over_tcp_too(self, host: EdgeHost, peer: Peer) -> None:
        host.decide("answer", status=503)
        with socket.create_connection(host.tcp, timeout=PATIENCE_S) as connection:
            for part in (
                b"\r\n\r\n",
                peer.request("OPTIONS", transport="TCP"),
                peer.request("INVITE", transport="TCP"),
            ):
                connection.sendall(part)
            received = b""
            while received.count(b"SIP/2.0 503 ") < 2:
                received += connection.recv(65_535)
        assert {request["transport"] for request in host.requests()} == {"TCP"}
        assert host.counters()["keepalives"] == 1


class TestFacts:
    def test_what_the_handler_is_told(self, host: EdgeHost, peer: Peer) -> None:
        message = peer.request("OPTIONS", call_id="the-call@example")
        peer.send(message)
        peer.receive()
        (request,) = host.requests()
        assert request == {
            "transport": "UDP",
            "source_address": "127.0.0.1",
            "source_port": peer.port,
            "local_address": "127.0.0.1",
            "local_port": host.udp[1],
            "raw": message,
            "method": "OPTIONS",
            "call_id": "the-call@example",
            "header_count": 8,
            "crypto_count": 0,
            "has_replaces": False,
            "has_to_tag": False,
            "in_dialog": False,
            "in_transaction": False,
        }

    def test_counts_crypto_lines_wherever_they_hide(self, host: EdgeHost, peer: Peer) -> None:
        host.decide("drop")
        line = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
        part = b"--x\r\nContent-Type: application/sdp\r\n\r\n" + SDP_OFFER + line * 70 + b"--x--\r\n"
        peer.send(peer.request("INVITE", headers=AS_SDP, body=SDP_OFFER + line * 9))
        peer.send(peer.request("INVITE", headers="Content-Type: multipart/mixed;boundary=x\r\n", body=part))
        peer.send(peer.request("INVITE", headers=AS_SDP, body=SDP_OFFER + b"A=Crypto:1 X\ra=crypto"))
        host.wait_for(dropped=3)
        assert [request["crypto_count"] for request in host.requests()] == [9, 70, 2]

    def test_knows_dialogs_transactions_and_replaces(self, host: EdgeHost, peer: Peer) -> None:
        tag = set_up_call(peer, "running")
        peer.send(peer.request("OPTIONS", call_id="running", to_tag=tag))
        peer.send(peer.request("OPTIONS", call_id="running", to_tag="guessed"))
        peer.send(peer.request("INVITE", headers=f"Replaces: running;to-tag={tag};from-tag=t1\r\n"))
        peer.receive()
        peer.receive()
        facts = [
            (entry["method"], entry["has_to_tag"], entry["in_dialog"], entry["has_replaces"])
            for entry in host.requests()
        ]
        assert facts[:2] == [("INVITE", False, False, False), ("ACK", True, True, False)]
        assert sorted(facts[2:]) == [
            ("INVITE", False, False, True),
            ("OPTIONS", True, False, False),
            ("OPTIONS", True, True, False),
        ]

    def test_knows_a_retransmission_from_a_new_request(self, host: EdgeHost, peer: Peer) -> None:
        invite = peer.request("INVITE", headers=AS_SDP, body=SDP_OFFER)
        peer.send(invite)
        peer.receive_final()
        # The 2xx has ended the INVITE's transaction for RFC 3261; RFC 6026 keeps it to swallow this.
        peer.send(invite)
        host.wait_for(passed=2)
        assert [request["in_transaction"] for request in host.requests()] == [False, True]


class TestTap:
    def test_shows_the_very_bytes_in_both_directions(self, host: EdgeHost, peer: Peer) -> None:
        asked = peer.request("OPTIONS", call_id="ladder")
        peer.send(asked)
        answered = peer.receive()
        messages = [entry["message"] for entry in host.seen() if "message" in entry]
        assert [(m["direction"], m["raw"], m["call_id"]) for m in messages] == [
            ("received", asked, "ladder"),
            ("sent", answered, "ladder"),
        ]
        assert {(m["transport"], m["remote_address"], m["remote_port"]) for m in messages} == {
            ("UDP", "127.0.0.1", peer.port)
        }
        assert {(m["local_address"], m["local_port"]) for m in messages} == {host.udp}

    def test_shows_requests_that_we_send_and_their_responses(self, host: EdgeHost, peer: Peer) -> None:
        set_up_call(peer, "ours")
        host.seen()
        host.order("hangup")
        bye = peer.receive()
        assert bye.startswith(b"BYE ")
        names = ("Via", "From", "To", "Call-ID", "CSeq")
        lines = "".join(f"{name}: {header(bye, name)}\r\n" for name in names)
        answer = f"SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n".encode()
        peer.send(answer)
        host.wait_for(responses=1)
        messages = [entry["message"] for entry in host.seen() if "message" in entry]
        assert [(m["direction"], m["raw"]) for m in messages] == [("sent", bye), ("received", answer)]

    def test_shows_dropped_requests(self, host: EdgeHost, peer: Peer) -> None:
        host.decide("drop")
        peer.send(peer.request("OPTIONS"))
        host.wait_for(dropped=1)
        assert [entry["message"]["direction"] for entry in host.seen() if "message" in entry] == ["received"]

    def test_nuls_come_through(self, host: EdgeHost, peer: Peer) -> None:
        host.decide("drop")
        message = peer.request(
            "MESSAGE", headers="Content-Type: application/x\r\n", body=b"\x00a\x00\xff" * 9
        )
        peer.send(message)
        host.wait_for(dropped=1)
        assert [request["raw"] for request in host.requests()] == [message]


class TestSources:
    def test_foreign_data_is_not_even_parsed(self, host: EdgeHost, peer: Peer) -> None:
        with peer_of(host, "127.0.0.2") as stranger:
            host.order("sources", networks=["127.0.0.1/32", "2001:db8::/32"])
            stranger.send(stranger.request("OPTIONS"))
            stranger.send(b"This is no SIP at all, but it is long enough to be taken for some.")
            counters = host.wait_for(foreign=2)
            assert (counters["unparsed"], counters["dropped"], counters["passed"]) == (0, 0, 0)
            peer.send(peer.request("OPTIONS"))
            assert peer.receive().startswith(b"SIP/2.0 200 ")
            assert stranger.hears_nothing()

            host.order("sources", networks=[])
            peer.send(peer.request("OPTIONS"))
            host.wait_for(foreign=3)
            host.order("sources", networks=["127.0.0.0/30"])
            stranger.send(stranger.request("OPTIONS"))
            assert stranger.receive().startswith(b"SIP/2.0 200 ")
            host.order("sources", networks=["127.0.0.0/31"])
            stranger.send(stranger.request("OPTIONS"))
            host.wait_for(foreign=4)
            host.order("sources", networks=None)
            stranger.send(stranger.request("OPTIONS"))
            assert stranger.receive().startswith(b"SIP/2.0 200 ")

    def test_a_foreign_connection_is_closed(self, host: EdgeHost, peer: Peer) -> None:
        host.order("sources", networks=["192.0.2.0/24"])
        with socket.create_connection(host.tcp, timeout=PATIENCE_S) as connection:
            connection.sendall(peer.request("OPTIONS", transport="TCP"))
            assert connection.recv(1) == b""
        assert host.counters()["foreign"] == 1


class TestNames:
    """Contact names of peers: never looked up in PJSIP, answered from outside when someone offers to."""

    def call_from_a_named_contact(self, host: EdgeHost, peer: Peer) -> None:
        invite = peer.request("INVITE", call_id="named", headers=AS_SDP, body=SDP_OFFER)
        peer.send(re.sub(rb"Contact: <sip:peer@[^>]*>", b"Contact: <sip:peer@pbx.invalid:5099>", invite))
        tag = tag_of(peer.receive_final())
        peer.send(peer.request("ACK", call_id="named", to_tag=tag))
        host.wait_for(passed=2)
        host.seen()
        host.order("hangup")

    def test_a_name_is_resolved_outside(self, host: EdgeHost, peer: Peer) -> None:
        host.order("lookups")
        self.call_from_a_named_contact(host, peer)
        (lookup,) = [entry["lookup"] for entry in host.seen() if "lookup" in entry]
        assert lookup["name"] == "pbx.invalid"
        assert (lookup["port"], lookup["is_secure"]) == (5099, False)
        assert peer.hears_nothing()
        address = {"address": "127.0.0.1", "port": peer.port, "transport": "UDP"}
        assert host.order("resolved", lookup_id=lookup["lookup_id"], addresses=[address]) is True
        bye = peer.receive()
        assert bye.startswith(b"BYE sip:peer@pbx.invalid:5099 SIP/2.0\r\n")
        assert host.order("resolved", lookup_id=lookup["lookup_id"], addresses=[address]) is False

    def test_a_name_that_does_not_resolve_ends_that_call(self, host: EdgeHost, peer: Peer) -> None:
        host.order("lookups")
        self.call_from_a_named_contact(host, peer)
        (lookup,) = [entry["lookup"] for entry in host.seen() if "lookup" in entry]
        assert host.order("resolved", lookup_id=lookup["lookup_id"], addresses=[]) is True
        assert host.order("facts")["calls"] == []

    def test_without_a_resolver_a_name_fails_at_once(self, host: EdgeHost, peer: Peer) -> None:
        self.call_from_a_named_contact(host, peer)
        assert host.order("facts")["calls"] == []
        assert peer.hears_nothing()


class TestHostileBytes:
    def test_a_refused_replaces_sends_no_freed_memory(self, host: EdgeHost, peer: Peer) -> None:
        """``patches/0001``: the reason phrase pointed into a string that was gone."""
        tag = set_up_call(peer, "victim")
        replaces = f"Replaces: victim;to-tag={tag};from-tag=t1\r\n"
        peer.send(peer.request("INVITE", headers=replaces + AS_SDP, body=SDP_OFFER))
        answer = peer.receive_final()
        assert answer.partition(b"\r\n")[0] == f"SIP/2.0 603 {REFUSAL}".encode()

    def test_data_that_is_no_sip_is_counted_and_survived(self, host: EdgeHost, peer: Peer) -> None:
        whole = peer.request("INVITE", headers=AS_SDP, body=SDP_OFFER)
        for junk in (
            b"",
            b"\x00",
            b"\x00" * 8_000,
            b"INVITE",
            b"\xff" * 65_000,
            b"SIP/2.0 999999999999 x\r\n\r\n",
        ):
            peer.send(junk)
        for name in (b"Via", b"From", b"To", b"Call-ID", b"CSeq"):
            peer.send(re.sub(rb"(?m)^" + name + rb":.*\r\n", b"", whole))
        peer.send(b"\r\n" * 20 + peer.request("OPTIONS"))
        assert peer.receive().startswith(b"SIP/2.0 200 ")
        counters = host.counters()
        assert counters["passed"] == 1
        assert counters["keepalives"] == 1
        # PJSIP's UDP transport ignores what is shorter than 32 bytes, uncounted.
        assert counters["unparsed"] == 7

    def test_mutated_messages_end_nothing(self, host: EdgeHost, peer: Peer) -> None:
        generator = random.Random(20261123)
        seed = peer.request(
            "INVITE", headers=AS_SDP + "Replaces: a;to-tag=b;from-tag=c\r\nRequire: x\r\n", body=SDP_OFFER
        )
        for number in range(400):
            message = bytearray(seed.replace(b"call-", b"fuzz%d-" % number))
            for _ in range(generator.randrange(1, 12)):
                place = generator.randrange(len(message))
                match generator.randrange(4):
                    case 0:
                        message[place] = generator.randrange(256)
                    case 1:
                        del message[place : place + generator.randrange(40)]
                    case 2:
                        message[place:place] = bytes([message[place]]) * generator.randrange(300)
                    case _:
                        message[place:place] = b"\r\n"
            host.decide(generator.choice(["pass", "drop"]))
            peer.send(bytes(message))
        with peer_of(host) as calm:
            host.decide("pass")
            calm.send(calm.request("OPTIONS"))
            assert calm.receive().startswith(b"SIP/2.0 200 ")

    def test_a_huge_header_list_arrives_whole(self, host: EdgeHost, peer: Peer) -> None:
        host.decide("drop")
        peer.send(peer.request("OPTIONS", headers="X: 1\r\n" * 1_000))
        host.wait_for(dropped=1)
        assert [request["header_count"] for request in host.requests()] == [1_008]


class TestBinding:
    def test_an_answer_is_a_refusal(self) -> None:
        assert EdgeVerdict.answer(486) == EdgeVerdict(486)
        for status in (0, 1, 200, 299, 700):
            with pytest.raises(ValueError, match=str(status)):
                EdgeVerdict.answer(status)
        with pytest.raises(ValueError, match="Retry-After"):
            EdgeVerdict.answer(503, retry_after_s=-1)

    def test_bytes_stay_out_of_reprs(self) -> None:
        request = edge_binding.EdgeRequest(
            "UDP",
            "192.0.2.1",
            5060,
            "192.0.2.2",
            5060,
            b"Signal=4",
            "INFO",
            "c",
            8,
            0,
            False,
            True,
            True,
            False,
        )
        message = edge_binding.EdgeMessage(
            edge_binding.EdgeDirection.SENT, "UDP", "192.0.2.1", 5060, "192.0.2.2", 5060, b"Signal=4", "c"
        )
        assert "Signal" not in repr(request) + repr(message)

    def test_cannot_start_without_an_endpoint(self) -> None:
        with pytest.raises(EdgeError):
            EdgeBinding().start(lambda request: EdgeVerdict.PASS)

    def test_networks_of_either_family_are_taken(self) -> None:
        binding = EdgeBinding()
        try:
            binding.set_sources([ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")])
        finally:
            binding.set_sources(None)
