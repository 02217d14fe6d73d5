"""What the switch takes for granted of the pjsua2 that it loads: measured here, not believed."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sipivr.ua import edge_binding
from tests.ua.edge_client import CRYPTO, PATIENCE_S, SDP, EdgeHost, peer_of
from tests.ua.test_edge_binding import AS_SDP, SDP_OFFER

pytestmark = pytest.mark.skipif(not edge_binding.available(), reason="this pjsua2 has no edge.c")


@pytest.fixture(scope="module")
def host() -> Iterator[EdgeHost]:
    with EdgeHost() as running:
        yield running


def test_the_build_is_ours() -> None:
    build = edge_binding.build_info()
    assert build is not None
    assert build.pj_version == "2.17"
    assert build.ioqueue.startswith("epoll")
    assert build.max_calls >= 512
    assert build.max_packet_bytes >= 8_000
    assert build.max_handles >= 4_096
    assert build.has_tls
    assert build.has_ipv6
    assert not build.has_asserts, "an assertion is a remote denial of service"
    assert build.max_log_level < 4, "whole messages are logged at level 4, bodies with keys included"


def test_the_poll_handle_is_an_epoll_descriptor(host: EdgeHost) -> None:
    facts = host.order("facts")
    assert facts["version"] == "2.17"
    assert facts["poll_fd"] == "anon_inode:[eventpoll]"


def test_a_call_opens_no_media_socket_and_no_thread(host: EdgeHost) -> None:
    before = host.order("facts")
    with peer_of(host) as peer:
        for number in range(5):
            peer.send(peer.request("INVITE", call_id=f"media-{number}", headers=AS_SDP, body=SDP_OFFER))
            assert peer.receive_final().startswith(b"SIP/2.0 200 ")
        during = host.order("facts")
    assert len(during["calls"]) == 5
    assert during["udp_sockets"] == before["udp_sockets"]
    assert during["threads"] == before["threads"]


def answer_to(host: EdgeHost, offer: bytes) -> list[str]:
    with peer_of(host) as peer:
        peer.send(peer.request("INVITE", headers=AS_SDP, body=offer))
        answer = peer.receive_final()
    assert answer.startswith(b"SIP/2.0 200 "), answer
    return answer.partition(b"\r\n\r\n")[2].decode().splitlines()


def test_our_sdp_goes_out_but_for_its_version(host: EdgeHost) -> None:
    """pjmedia's negotiator counts the answer's o= version up by one; every other line is ours."""
    ours = SDP.format(version=1).splitlines()
    sent = answer_to(host, SDP_OFFER)
    assert sent[1] == "o=- 1 2 IN IP4 192.0.2.7"
    assert sent[:1] + sent[2:] == ours[:1] + ours[2:]


def test_savp_is_ours_to_answer(host: EdgeHost) -> None:
    """With SRTP off pjsua would answer 488 before Python sees the offer."""
    key = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
    sent = answer_to(host, SDP_OFFER.replace(b"RTP/AVP", b"RTP/SAVP") + key)
    assert "m=audio 40404 RTP/SAVP 8 101" in sent
    assert sent[-1] == CRYPTO.strip()


def test_tls_carries_sip(host: EdgeHost, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    self_signed(certificate, key)
    port = host.order("tls", certificate=str(certificate), key=str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    host.seen()
    with (
        peer_of(host) as peer,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="switch.test") as connection,
    ):
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}
        connection.sendall(peer.request("OPTIONS", transport="TLS"))
        assert connection.recv(65_535).startswith(b"SIP/2.0 200 ")
    assert {request["transport"] for request in host.requests()} == {"TLS"}


def self_signed(certificate: Path, key: Path) -> None:
    """Write a certificate for switch.test and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "switch.test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("switch.test")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def test_a_name_in_an_offer_blocks_nothing(host: EdgeHost) -> None:
    """pjmedia would look a c= line's name up with getaddrinfo; ``patches/0002`` takes that away."""
    with peer_of(host) as peer:
        offer = SDP_OFFER.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 name.invalid")
        peer.send(peer.request("INVITE", headers=AS_SDP, body=offer))
        peer.receive_final()
        peer.send(peer.request("OPTIONS"))
        while not peer.receive(1.0).startswith(b"SIP/2.0 200 "):
            pass
