"""SRTP keys in offers and answers: who may say what, and which key lives how long."""

import base64
import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.ua.negotiation import MediaTerms, Negotiator
from sipivr.ua.sdes import CryptoSuite, MediaKeys, SRTPPolicy, read_key, write_key
from sipivr.ua.sdp import CryptoLine, Direction, NotAcceptable, SDPError
from sipivr.ua.sdp_parser import parse_sdp

HEAD = "v=0\r\no=- 42 7 IN IP4 192.0.2.9\r\ns=call\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
SUITE = "AES_CM_128_HMAC_SHA1_80"
KEY = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
LINE = f"a=crypto:4 {SUITE} inline:{KEY}\r\n"


def audio(profile: str = "SAVP", port: int = 40000, *lines: str) -> str:
    return f"m=audio {port} RTP/{profile} 0\r\n" + "".join(lines)


def secure(*lines: str, port: int = 40000) -> str:
    return HEAD + audio("SAVP", port, *(lines or (LINE,)))


def negotiator(policy: str = "required") -> Negotiator:
    return Negotiator("198.51.100.1", 30000, MediaTerms(srtp=SRTPPolicy(policy)))


def crypto(suite: CryptoSuite, tag: int = 1) -> tuple[str, bytes]:
    key = os.urandom(28 if suite is CryptoSuite.AEAD_AES_128_GCM else 30)
    line = write_key(tag, suite, key)
    return f"a=crypto:{line.tag} {line.suite} {line.parameters}\r\n", key


def agree(caller: Negotiator, called: Negotiator) -> tuple[MediaKeys | None, MediaKeys | None]:
    """One offer and answer over the wire's text; the keys as each end sees them."""
    answer, theirs = called.answer(parse_sdp(caller.offer().render()))
    ours = caller.accept(parse_sdp(answer.render()))
    return ours.srtp, theirs.srtp


def mirrored(one: MediaKeys | None, other: MediaKeys | None) -> bool:
    return one is not None and other == MediaKeys(one.suite, one.receive, one.send)


# -- lines --------------------------------------------------------------------------------------------------


def line(parameters: str, suite: str = SUITE) -> CryptoLine:
    return CryptoLine(1, suite, parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        f"inline:{KEY}",
        f"inline:{KEY}|2^48",
        f"inline:{KEY}|1048576",
        f"inline:{KEY} WSH=64",
        f"inline:{KEY}|2^20 WSH=128 -X-UNHEARD=of",
    ],
)
def test_lines_that_can_be_used(parameters):
    assert read_key(line(parameters)) == (CryptoSuite.AES_CM_128_HMAC_SHA1_80, base64.b64decode(KEY))


@pytest.mark.parametrize(
    "parameters",
    [
        f"inline:{KEY}|2^20|1:4",
        f"inline:{KEY}|1:4",
        f"inline:{KEY};inline:{KEY}",
        f"inline:{KEY} UNENCRYPTED_SRTP",
        f"inline:{KEY} UNENCRYPTED_SRTCP",
        f"inline:{KEY} UNAUTHENTICATED_SRTP",
        f"inline:{KEY} KDR=1",
        f"inline:{KEY} FEC_ORDER=FEC_SRTP",
        f"inline:{KEY} X-UNHEARD=of",
        f"inline:{KEY[:-4]}",
        f"inline:{KEY}AAAA",
        f"inline:{KEY[:-2]}==",
        f"uri:{KEY}",
        "inline:",
        KEY,
    ],
)
def test_lines_that_are_passed_over(parameters):
    assert read_key(line(parameters)) is None
    with pytest.raises(NotAcceptable, match="crypto") as caught:
        negotiator().answer(parse_sdp(secure(f"a=crypto:1 {SUITE} {parameters}\r\n")))
    assert caught.value.status == 488
    assert KEY[:8] not in str(caught.value)


def test_a_key_of_gcm_may_come_without_its_padding():
    key = os.urandom(28)
    text = base64.b64encode(key).decode()
    for written in (text, text.rstrip("=")):
        assert read_key(line(f"inline:{written}", "AEAD_AES_128_GCM")) == (CryptoSuite.AEAD_AES_128_GCM, key)
    assert read_key(line(f"inline:{KEY}", "AEAD_AES_128_GCM")) is None


@pytest.mark.parametrize("suite", list(CryptoSuite))
def test_what_is_written_is_read(suite):
    text, key = crypto(suite)
    parsed = parse_sdp(secure(text)).audio
    assert read_key(parsed.crypto[0]) == (suite, key)


@given(st.text(max_size=80), st.sampled_from([s.value for s in CryptoSuite]))
def test_any_parameters_are_a_key_or_nothing(parameters, suite):
    found = read_key(line(parameters, suite))
    assert found is None or len(found[1]) in {28, 30}


# -- policies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "offer", "outcome"),
    [
        ("off", audio("AVP"), "clear"),
        ("off", audio("AVP", 40000, LINE), "clear"),
        ("off", audio("SAVP", 40000, LINE), None),
        ("off", audio("SAVP", 40000, LINE) + audio("AVP", 41000), "clear"),
        ("optional", audio("AVP"), "clear"),
        ("optional", audio("AVP", 40000, LINE), "AVP"),
        ("optional", audio("SAVP", 40000, LINE), "SAVP"),
        ("optional", audio("AVP", 41000) + audio("SAVP", 40000, LINE), "SAVP"),
        ("optional", audio("SAVP", 40000) + audio("AVP", 41000), "clear"),
        ("optional", audio("SAVP"), None),
        ("optional", audio("SAVPF", 40000, LINE), None),
        ("required", audio("AVP"), None),
        ("required", audio("AVP", 40000, LINE), None),
        ("required", audio("SAVP"), None),
        ("required", audio("SAVP", 40000, LINE), "SAVP"),
        ("required", audio("AVP", 41000) + audio("SAVP", 40000, LINE), "SAVP"),
    ],
)
def test_what_a_trunk_answers(policy, offer, outcome):
    if outcome is None:
        with pytest.raises(NotAcceptable) as caught:
            negotiator(policy).answer(parse_sdp(HEAD + offer))
        assert caught.value.status == 488
        return
    sdp, agreed = negotiator(policy).answer(parse_sdp(HEAD + offer))
    text = sdp.render()
    if outcome == "clear":
        assert agreed.srtp is None
        assert "crypto" not in text
        return
    assert f"m=audio 30000 RTP/{outcome} 0\r\n" in text
    assert agreed.srtp.receive == base64.b64decode(KEY)
    assert f"a=crypto:4 {SUITE} inline:{base64.b64encode(agreed.srtp.send).decode()}\r\n" in text


@pytest.mark.parametrize(
    ("policy", "profile", "lines"), [("off", "AVP", 0), ("optional", "AVP", 2), ("required", "SAVP", 2)]
)
def test_what_a_trunk_offers(policy, profile, lines):
    offered = negotiator(policy).offer().audio
    assert offered.protocol == f"RTP/{profile}"
    keys = [read_key(c) for c in offered.crypto]
    assert len(keys) == lines == len({key for _, key in keys})
    assert [c.tag for c in offered.crypto] == list(range(1, lines + 1))


def test_the_offers_first_usable_line_decides():
    gcm, key = crypto(CryptoSuite.AEAD_AES_128_GCM, 2)
    foreign = f"a=crypto:1 AES_192_CM_HMAC_SHA1_80 inline:{KEY}\r\n"
    sdp, agreed = negotiator().answer(parse_sdp(secure(foreign, gcm, LINE)))
    assert (agreed.srtp.suite, agreed.srtp.receive) == (CryptoSuite.AEAD_AES_128_GCM, key)
    [answered] = sdp.audio.crypto
    assert (answered.tag, len(read_key(answered)[1])) == (2, 28)


@pytest.mark.parametrize(
    "policies", [("required", "required"), ("optional", "optional"), ("required", "optional")]
)
def test_both_ends_have_the_same_keys(policies):
    ours, theirs = agree(*map(negotiator, policies))
    assert mirrored(ours, theirs)
    assert ours.send != ours.receive


def test_an_answer_in_clear_to_an_optional_offer_is_clear():
    ours = negotiator("optional")
    ours.offer()
    assert ours.accept(parse_sdp(HEAD + audio("AVP"))).srtp is None
    assert not ours.renew_keys()
    assert ours.offer().audio.crypto == ()


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + audio("AVP", 40000, LINE),
        secure(f"a=crypto:1 {SUITE} inline:{KEY}|1:4\r\n"),
        secure(f"a=crypto:3 {SUITE} inline:{KEY}\r\n"),
        secure(f"a=crypto:2 {SUITE} inline:{KEY}\r\n"),
        secure(LINE.replace(":4", ":1"), LINE.replace(":4", ":1")),
        HEAD + audio("SAVP"),
    ],
)
def test_an_answer_outside_our_offer_is_an_error(answer):
    ours = negotiator()
    ours.offer()
    with pytest.raises(NotAcceptable):
        ours.accept(parse_sdp(answer))


def test_our_own_key_is_never_taken_back():
    ours = negotiator()
    offer = ours.offer().render()
    body = offer.split("m=audio")[0] + "m=audio 40000 RTP/SAVP 0\r\n"
    mirror = next(text for text in offer.splitlines() if text.startswith("a=crypto:1"))
    with pytest.raises(NotAcceptable, match="copy"):
        ours.accept(parse_sdp(f"{body}{mirror}\r\n"))


# -- how long a key lives -----------------------------------------------------------------------------------


def test_a_reinvite_changes_no_key_of_its_own_accord():
    one, other = negotiator(), negotiator()
    first = agree(one, other)
    assert agree(one, other) == first
    assert agree(other, one) == (first[1], first[0])
    hold = other.offer(Direction.SENDONLY)
    answer, held = one.answer(parse_sdp(hold.render()))
    assert held.srtp == first[0]
    assert other.accept(parse_sdp(answer.render())).srtp == first[1]


def test_a_peers_new_key_leaves_ours():
    ours = negotiator()
    _, before = ours.answer(parse_sdp(secure()))
    text, key = crypto(CryptoSuite.AES_CM_128_HMAC_SHA1_80)
    _, after = ours.answer(parse_sdp(secure(text)))
    assert after.srtp == MediaKeys(before.srtp.suite, before.srtp.send, key)


def test_renewed_keys_are_new():
    one, other = negotiator(), negotiator()
    first, _ = agree(one, other)
    assert one.renew_keys()
    second, theirs = agree(one, other)
    assert second.send != first.send
    assert second.receive == first.receive
    assert mirrored(second, theirs)


def test_a_peer_that_moves_gets_another_key():
    ours = negotiator()
    _, before = ours.answer(parse_sdp(secure()))
    _, held = ours.answer(parse_sdp(secure().replace("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0")))
    assert held.srtp == before.srtp
    _, back = ours.answer(parse_sdp(secure()))
    assert back.srtp == before.srtp
    _, moved = ours.answer(parse_sdp(secure(port=42000)))
    assert moved.srtp.send != before.srtp.send


@pytest.mark.parametrize("between", [HEAD + audio("AVP"), secure(crypto(CryptoSuite.AEAD_AES_128_GCM)[0])])
def test_a_key_out_of_use_does_not_come_back(between):
    ours = negotiator("optional")
    _, before = ours.answer(parse_sdp(secure()))
    ours.answer(parse_sdp(between))
    _, after = ours.answer(parse_sdp(secure()))
    assert after.srtp.send != before.srtp.send
    assert after.srtp.suite is before.srtp.suite


def test_the_suite_in_use_comes_first_in_later_offers():
    ours = negotiator()
    text, _ = crypto(CryptoSuite.AEAD_AES_128_GCM)
    _, agreed = ours.answer(parse_sdp(secure(text)))
    offered = [read_key(c) for c in ours.offer().audio.crypto]
    assert offered[0] == (CryptoSuite.AEAD_AES_128_GCM, agreed.srtp.send)
    assert len(offered) == 3


def test_an_offer_that_met_the_peers_is_still_answered():
    """491: the peer's re-INVITE goes first, then ours again (RFC 3261 §14.1)."""
    one, other = negotiator(), negotiator()
    agree(one, other)
    one.renew_keys()
    offer = one.offer()
    _, crossed = one.answer(parse_sdp(other.offer().render()))
    answer, _ = other.answer(parse_sdp(offer.render()))
    assert one.accept(parse_sdp(answer.render())).srtp == crossed.srtp


def test_no_key_has_a_repr():
    ours = negotiator()
    sdp, agreed = ours.answer(parse_sdp(secure()))
    for value in (sdp, agreed, agreed.srtp):
        assert KEY[:12] not in repr(value)
        assert base64.b64encode(agreed.srtp.send).decode()[:12] not in repr(value)
        assert repr(agreed.srtp.send) not in repr(value)


@given(
    st.sampled_from(list(SRTPPolicy)),
    st.lists(
        st.one_of(
            st.sampled_from([LINE, audio("AVP"), audio("SAVP"), audio("AVP", 1, LINE), audio("SAVP", 0)]),
            st.from_regex(
                r"a=crypto:[0-9]{1,3} AES_CM_128_HMAC_SHA1_(80|32) inline:[A-Za-z0-9+/]{36,44}",
                fullmatch=True,
            ),
        ),
        max_size=6,
    ),
)
def test_no_offer_is_answered_against_the_policy(policy, parts):
    with contextlib.suppress(SDPError):
        body = HEAD + "\r\n".join(part.rstrip() for part in parts)
        sdp, agreed = negotiator(policy.value).answer(parse_sdp(body))
        ours = sdp.audio
        assert (agreed.srtp is not None) == bool(ours.crypto)
        assert agreed.srtp is not None or policy is not SRTPPolicy.REQUIRED
        assert agreed.srtp is None or policy is not SRTPPolicy.OFF
        assert (ours.protocol == "RTP/SAVP") <= (agreed.srtp is not None)
