import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.ua.identity import CalledFrom, CallerFrom, IdentityRules, identify, normalise_number, read_invite
from sipivr.ua.message import SIPMessageError, parse_message, split_list


def invite(*headers: str, uri: str = "sip:0312345678@192.0.2.1") -> bytes:
    lines = [f"INVITE {uri} SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1", "Call-ID: a@b", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def identified(*headers: str, uri: str = "sip:0312345678@192.0.2.1", **rules):
    return identify(read_invite(parse_message(invite(*headers, uri=uri))), IdentityRules(**rules))


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0312345678", "+81312345678"),
        ("03-1234-5678", "+81312345678"),
        ("(03) 1234.5678", "+81312345678"),
        ("09012345678", "+819012345678"),
        ("0120123456", "+81120123456"),
        ("+81312345678", "+81312345678"),
        ("+810312345678", "+81312345678"),
        ("+12125550123", "+12125550123"),
        ("0312345678;npdi", "+81312345678"),
        ("1234", "1234"),
        ("110", "110"),
        ("0", "0"),
        ("0012345678", "0012345678"),
        ("01012125550123", "01012125550123"),
        ("031234567", "031234567"),
        ("anonymous", None),
        ("", None),
        ("+", None),
        ("+0312345678", None),
        ("12" * 20, None),
        ("٠٣١٢٣٤٥٦٧٨", None),
    ],
)
def test_normalisation(written, number):
    assert normalise_number(written) == number


def test_other_countries():
    assert normalise_number("02079460000", "44") == "+442079460000"


def test_an_asserted_sip_uri():
    identity = identified('P-Asserted-Identity: "Taro" <sip:+819011112222@carrier.example;user=phone>')
    assert (identity.caller, identity.caller_from) == ("+819011112222", CallerFrom.P_ASSERTED_IDENTITY)
    assert not identity.private


@pytest.mark.parametrize(
    "headers",
    [
        ["P-Asserted-Identity: <sip:desk@carrier.example>, <tel:+819011112222>"],
        ["P-Asserted-Identity: <tel:090-1111-2222;phone-context=+81>"],
        ["P-Asserted-Identity: <sip:desk@carrier.example>", "P-Asserted-Identity: tel:+819011112222"],
    ],
)
def test_asserted_tel_uris_and_lists(headers):
    assert identified(*headers).caller == "+819011112222"


def test_privacy_admits_and_hides():
    identity = identified("P-Asserted-Identity: <tel:+819011112222>", "Privacy: id;critical")
    assert identity.caller == "+819011112222"
    assert identity.private


def test_from_counts_only_where_the_trunk_says_so():
    header = "From: <sip:0311112222@pbx.example>;tag=1"
    assert identified(header).no_caller_reason == "not_asserted"
    assert identified(header, trust_from=True).caller == "+81311112222"
    assert identified(header, trust_from=True).caller_from is CallerFrom.FROM


def test_an_untrusted_assertion():
    assert identified("P-Asserted-Identity: <tel:+819011112222>", trust_asserted=False).no_caller_reason == (
        "untrusted"
    )


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1', "anonymous"),
        ("<sip:anonymous@192.0.2.7>;tag=1", "anonymous"),
        ('"Coin line/payphone" <sip:x@192.0.2.7>;tag=1', "payphone"),
        ("Unavailable <sip:x@192.0.2.7>;tag=1", "unavailable"),
        ("<sip:alice@192.0.2.7>;tag=1", "no_number"),
    ],
)
def test_why_there_is_no_number(sender, reason):
    assert identified(f"From: {sender}").no_caller_reason == reason


@pytest.mark.parametrize(
    ("written", "rewrites", "number"),
    [
        ("00812345678", (("00", "+"),), "+812345678"),
        ("9-0312345678", (("9", ""),), "+81312345678"),
        ("5678", (("", "+8131234"),), "+81312345678"),
        ("0312345678", (("9", ""),), "+81312345678"),
        ("99", (("9", "1"), ("99", "2")), "19"),  # the first that fits, once
        ("anonymous", (("", "+81"),), None),
    ],
)
def test_numbers_are_rewritten_before_they_are_read(written, rewrites, number):
    called = identified(uri=f"sip:{written}@192.0.2.1", called_rewrite=rewrites)
    assert called.called_candidates == ((number,) if number else ())
    caller = identified(f"P-Asserted-Identity: <sip:{written}@192.0.2.1>", caller_rewrite=rewrites)
    assert caller.caller == number


def test_the_called_number_in_the_trunks_order():
    headers = [
        "To: <sip:0501111222@c.example>",
        "t: <sip:ignored@c.example>",
        "P-Called-Party-ID: <sip:0399999999@c.example>",
        "History-Info: <sip:0388888888@c.example>;index=1, <sip:0377777777@c.example>;index=1.1",
        'Diversion: "x, y" <sip:0366666666@c.example>;reason=unconditional',
    ]
    assert identified(*headers).called_candidates == (
        "+81399999999",
        "+81312345678",
        "+81377777777",
        "+81388888888",
        "+81366666666",
        "+81501111222",
    )
    only = identified(*headers, called_from=(CalledFrom.TO,))
    assert only.called_candidates == ("+81501111222",)


def test_a_tel_request_uri():
    assert identified(uri="tel:+81312345678").called_candidates == ("+81312345678",)


def test_what_else_is_read():
    reading = read_invite(
        parse_message(invite("Max-Forwards: 68", "User-Agent: pbx/1", "X-Sipivr-Hop: a1", "X-Sipivr-Hop: b2"))
    )
    assert (reading.max_forwards, reading.user_agent, reading.hop_marks) == (68, "pbx/1", ("a1", "b2"))


def test_lists_respect_quotes_and_brackets():
    assert split_list('"a, \\" b" <sip:x,y@z>;p="1,2", <tel:1>') == [
        '"a, \\" b" <sip:x,y@z>;p="1,2"',
        "<tel:1>",
    ]


def test_folded_and_compact_headers():
    message = parse_message(b"SIP/2.0 200 OK\r\nf: <sip:a@b>\r\n ;tag=1\r\nCSeq: 1 INVITE\r\n\r\n")
    assert message.first("from") == "<sip:a@b> ;tag=1"
    assert (message.status, message.cseq_method) == (200, "INVITE")


def test_sdp_in_a_multipart_body():
    text, described = b"Content-Type: text/plain\r\n\r\nhi", b"Content-Type: application/sdp\r\n\r\nv=0"
    body = b"--x\r\n" + text + b"\r\n--x\r\n" + described + b"\r\n--x--"
    raw = invite('Content-Type: multipart/mixed;boundary="x"')[:-2] + b"\r\n" + body
    assert parse_message(raw).sdp.strip() == b"v=0"


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_its_error(raw):
    try:
        message = parse_message(raw)
    except SIPMessageError:
        return
    read_invite(message)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["From", "To", "P-Asserted-Identity", "Diversion", "History-Info", "Privacy", "Max-Forwards"]
            ),
            st.text(max_size=60),
        ),
        max_size=6,
    )
)
def test_any_headers_are_identified(headers):
    raw = invite(*(f"{n}: {v}".replace("\r", "").replace("\n", "") for n, v in headers))
    identity = identify(read_invite(parse_message(raw)), IdentityRules(trust_from=True))
    assert (identity.caller is None) == bool(identity.no_caller_reason)
