import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.ua.info import info_key
from sipivr.ua.ladder import Way, ladder_entry
from sipivr.ua.message import parse_message

SDP = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=my secret name\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
    "m=audio 40000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0a2V5\r\na=x-note:4111\r\n"
)


def entry(start: str, *headers: str, body: str = ""):
    raw = "\r\n".join(
        [start, "Call-ID: a@b", "CSeq: 7 " + start.partition(" ")[0], *headers, "", body]
    ).encode()
    return ladder_entry(raw, at=1.0, way=Way.RECEIVED, transport="UDP", local="l:1", remote="r:2")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/dtmf-relay", "Signal=4\r\nDuration=160\r\n"),
        ("application/dtmf", "4"),
        ("application/vnd.nortelnetworks.digits", "p=Digit-Collection\r\ny=Digits\r\nd=4"),
        ("application/sdp", SDP),
    ],
)
def test_info_is_info_and_nothing_else(kind, body):
    made = entry(
        "INFO sip:x@y SIP/2.0",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Subject: 4",
        "User-Agent: 4",
        "X-Digit: 4",
        body=body,
    )
    assert (made.method, made.sdp, made.body) == ("INFO", "", "")
    assert {name for name, _ in made.headers} <= {"via", "from", "to", "call-id", "cseq"}
    assert "4" not in repr(made)


def test_a_response_to_info_is_the_same():
    raw = b"SIP/2.0 200 OK\r\nCSeq: 3 INFO\r\nContent-Type: application/dtmf\r\nServer: 5\r\n\r\n5"
    made = ladder_entry(raw, at=1.0, way=Way.SENT, transport="UDP", local="", remote="")
    assert (made.method, made.status, made.body) == ("INFO", 200, "")
    assert "5" not in repr(made)


def test_sdp_comes_from_typed_values_without_keys():
    made = entry("INVITE sip:x@y SIP/2.0", "Content-Type: application/sdp", body=SDP)
    assert "m=audio 40000 RTP/SAVP 0" in made.sdp
    assert "a=crypto:1 AES_CM_128_HMAC_SHA1_80 (withheld)" in made.sdp
    for absent in ("c2VjcmV0a2V5", "my secret name", "4111"):
        assert absent not in repr(made)


def test_another_body_is_its_type_and_length_class():
    made = entry("NOTIFY sip:x@y SIP/2.0", "Content-Type: application/kpml-response+xml", body="<d>4</d>")
    assert made.body == "application/kpml-response+xml, under 1 kB"


def test_malformed_sdp_is_not_shown():
    made = entry("INVITE sip:x@y SIP/2.0", "Content-Type: application/sdp", body="v=0\r\n4111")
    assert (made.sdp, made.body) == ("", "application/sdp, malformed")


def test_headers_are_listed_bounded_and_clean():
    made = entry(
        "INVITE sip:x@y SIP/2.0",
        "Authorization: Digest secret",
        "X-Card: 4111",
        "User-Agent: a\x1b[31m\x00b" + "c" * 1000,
    )
    names = [name for name, _ in made.headers]
    assert "authorization" not in names
    assert "x-card" not in names
    agent = dict(made.headers)["user-agent"]
    assert agent.startswith("a[31mbc")
    assert len(agent) == 256


def test_a_private_number_is_withheld():
    made = entry("INVITE sip:x@y SIP/2.0", "Privacy: id", "P-Asserted-Identity: <tel:+819011112222>")
    assert dict(made.headers)["p-asserted-identity"] == "(withheld)"


def test_no_sip_is_no_entry():
    assert ladder_entry(b"\x00\x01", at=0.0, way=Way.SENT, transport="UDP", local="", remote="") is None


@given(st.binary(max_size=400), st.booleans())
def test_never_raises(body, request):
    start = b"INVITE sip:a SIP/2.0\r\n" if request else b"SIP/2.0 200 OK\r\n"
    ladder_entry(start + body, at=0.0, way=Way.SENT, transport="UDP", local="", remote="")


@pytest.mark.parametrize(
    ("kind", "body", "key"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", (5, 160)),
        ("application/dtmf-relay", "Signal= *\r\nDuration= 250", (10, 250)),
        ("application/dtmf-relay", "signal=11\r\n", (11, 100)),
        ("application/DTMF-relay", "Signal=d\nDuration=99999", (15, 10_000)),
        ("application/dtmf", "#", (11, 100)),
        ("application/dtmf", " 10\r\n", (10, 100)),
        ("application/dtmf", "12345", None),
        ("application/dtmf", "", None),
        ("application/dtmf-relay", "Signal=16", None),
        ("application/dtmf-relay", "Duration=16", None),
        ("text/plain", "5", None),
    ],
)
def test_keys_of_info(kind, body, key):
    raw = f"INFO sip:x SIP/2.0\r\nContent-Type: {kind}\r\n\r\n{body}".encode()
    assert info_key(parse_message(raw)) == key
