import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.ua.negotiation import MediaTerms, Negotiator
from sipivr.ua.sdp import Codec, Direction, NoCommonCodec, NotAcceptable, SDPError
from sipivr.ua.sdp_parser import MAX_BYTES, parse_sdp

HEAD = "v=0\r\no=- 42 7 IN IP4 192.0.2.9\r\ns=call\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
AUDIO = "m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"


def negotiator(**terms) -> Negotiator:
    return Negotiator("198.51.100.1", 30000, MediaTerms(**terms))


def answer(body: str, **terms):
    return negotiator(**terms).answer(parse_sdp(body))


def test_the_offers_order_decides_the_codec():
    sdp, agreed = answer(HEAD + AUDIO)
    assert agreed.codec is Codec.PCMA
    assert (agreed.remote_address, agreed.remote_port, agreed.remote_rtcp_port) == ("192.0.2.9", 40000, 40001)
    assert agreed.event_payload_type == 101
    assert "m=audio 30000 RTP/AVP 8 101\r\n" in sdp.render()


def test_the_trunk_allows_only_mu_law():
    _, agreed = answer(HEAD + AUDIO, codecs=(Codec.PCMU,))
    assert agreed.codec is Codec.PCMU


def test_no_common_codec_is_488():
    with pytest.raises(NoCommonCodec) as caught:
        answer(HEAD + "m=audio 40000 RTP/AVP 18 101\r\n")
    assert caught.value.status == 488


def test_a_payload_type_mapped_to_something_else_is_no_mu_law():
    with pytest.raises(NoCommonCodec):
        answer(HEAD + "m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 L16/44100\r\n")


def test_telephone_event_takes_the_offers_number_and_needs_8_khz():
    body = HEAD + (
        "m=audio 40000 RTP/AVP 0 96 98\r\na=rtpmap:96 telephone-event/48000\r\n"
        "a=rtpmap:98 telephone-event/8000\r\n"
    )
    assert answer(body)[1].event_payload_type == 98
    assert answer(body, event_payload_type=None)[1].event_payload_type is None


@pytest.mark.parametrize(
    ("lines", "ptime_ms"),
    [
        ("", 20),
        ("a=ptime:30\r\n", 30),
        ("a=ptime:20.0\r\n", 20),
        ("a=ptime:40\r\na=maxptime:20\r\n", 20),
        ("a=maxptime:10\r\n", 10),
        ("a=ptime:200\r\n", 60),
        ("a=ptime:1\r\n", 10),
        ("a=ptime:nonsense\r\n", 20),
    ],
)
def test_packet_time(lines, ptime_ms):
    assert answer(HEAD + AUDIO + lines)[1].ptime_ms == ptime_ms


@pytest.mark.parametrize(
    ("attribute", "ours", "holds"),
    [
        ("sendrecv", Direction.SENDRECV, False),
        ("sendonly", Direction.RECVONLY, True),
        ("recvonly", Direction.SENDONLY, False),
        ("inactive", Direction.INACTIVE, True),
    ],
)
def test_direction_is_reversed(attribute, ours, holds):
    sdp, agreed = answer(f"{HEAD}{AUDIO}a={attribute}\r\n")
    assert (agreed.direction, agreed.remote_holds) == (ours, holds)
    assert sdp.audio.direction is ours


def test_direction_may_stand_at_session_level():
    assert answer(HEAD + "a=sendonly\r\n" + AUDIO)[1].direction is Direction.RECVONLY


def test_hold_by_address():
    _, agreed = answer(HEAD.replace("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0") + AUDIO)
    assert agreed.remote_holds
    assert agreed.direction is Direction.RECVONLY


def test_the_media_levels_address_wins_and_may_be_ipv6():
    _, agreed = answer(HEAD + AUDIO + "c=IN IP6 2001:db8::9\r\n")
    assert agreed.remote_address == "2001:db8::9"


def test_other_streams_are_declined_in_place():
    body = (
        HEAD + "m=video 50000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n" + AUDIO + "m=image 6000 udptl t38\r\n"
    )
    sdp, _ = answer(body)
    assert [(m.kind, m.port) for m in sdp.media] == [("video", 0), ("audio", 30000), ("image", 0)]
    again = parse_sdp(sdp.render())
    assert [(m.kind, m.port) for m in again.media] == [(m.kind, m.port) for m in sdp.media]


def test_the_second_of_two_audio_streams_may_be_the_usable_one():
    body = HEAD + "m=audio 40000 RTP/SAVP 0\r\n" + "m=audio 40002 RTP/AVP 0\r\n"
    sdp, agreed = answer(body)
    assert agreed.remote_port == 40002
    assert [m.port for m in sdp.media] == [0, 30000]


def test_rtcp_mux_is_answered_when_offered():
    sdp, agreed = answer(HEAD + AUDIO + "a=rtcp-mux\r\n")
    assert agreed.rtcp_mux
    assert agreed.remote_rtcp_port == 40000
    assert "a=rtcp-mux" in sdp.render()
    assert "a=rtcp-mux" not in answer(HEAD + AUDIO)[0].render()


def test_versions_rise_and_the_session_stays():
    ours = negotiator()
    first, second = ours.offer(), ours.offer(Direction.SENDONLY)
    assert first.session_id == second.session_id
    assert second.session_version == first.session_version + 1
    assert first.session_id < 2**32


def test_an_answer_to_our_offer():
    ours = negotiator(codecs=(Codec.PCMU, Codec.PCMA))
    theirs, _ = Negotiator("192.0.2.9", 40000, MediaTerms(codecs=(Codec.PCMA,))).answer(ours.offer())
    agreed = ours.accept(parse_sdp(theirs.render()))
    assert (agreed.codec, agreed.event_payload_type) == (Codec.PCMA, 101)


@pytest.mark.parametrize(
    "body",
    [
        HEAD,
        HEAD + "m=audio 0 RTP/AVP 0\r\n",
        HEAD + "m=audio 4 RTP/SAVP 0\r\n",
        HEAD + "m=audio 4 RTP/AVP 9\r\n",
    ],
)
def test_an_answer_that_declines_is_an_error(body):
    ours = negotiator()
    ours.offer()
    with pytest.raises(NotAcceptable):
        ours.accept(parse_sdp(body))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "v=1\r\n",
        "v=0\r\ns=x\r\n",
        "v=0\r\no=- 1 1 IN IP4\r\n",
        "v=0\r\no=- a 1 IN IP4 192.0.2.1\r\n",
        HEAD + "m=audio 99999 RTP/AVP 0\r\n",
        HEAD + "m=audio -1 RTP/AVP 0\r\n",
        HEAD + "m=audio 4000 RTP/AVP 0x1\r\n",
        HEAD + "m=audio 4000 RTP/AVP 200\r\n",
        HEAD + "m=audio 4000 RTP/AVP\r\n",
        HEAD + "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96\r\n",
        HEAD + "garbage\r\n",
        HEAD.replace("c=IN IP4 192.0.2.9\r\n", "") + AUDIO,
        HEAD.replace("c=IN IP4 192.0.2.9", "c=IN IP4 sip.example.com") + AUDIO,
        HEAD.replace("c=IN IP4 192.0.2.9", "c=IN IP4 224.2.1.1") + AUDIO,
        HEAD.replace("c=IN IP4 192.0.2.9", "c=IN IP6 192.0.2.9") + AUDIO,
        HEAD + AUDIO + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc\r\n" * 9,
        HEAD + "m=audio 4000 RTP/AVP " + " ".join(["0"] * 65) + "\r\n",
        HEAD + "m=audio 4000 RTP/AVP 0\r\n" * 17,
        HEAD + "a=x\r\n" * 600,
        HEAD + "a=" + "x" * MAX_BYTES,
        HEAD + "a=x\0y\r\n",
    ],
)
def test_malformed(body):
    with pytest.raises(SDPError) as caught:
        parse_sdp(body)
    assert str(caught.value).endswith(".")


def test_a_crypto_key_has_no_repr():
    sdp = parse_sdp(HEAD + AUDIO + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\n")
    assert "c2VjcmV0" not in repr(sdp)
    assert "c2VjcmV0" in sdp.render()


@given(st.binary(max_size=600))
def test_any_bytes_are_a_value_or_an_sdp_error(body):
    with contextlib.suppress(SDPError):
        parse_sdp(body)


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [*HEAD.splitlines(), *AUDIO.splitlines(), "a=sendonly", "a=ptime:0", "c=IN IP4 0.0.0.0"]
        ),
        st.from_regex(r"[a-z]=[ -~]{0,40}", fullmatch=True),
        st.from_regex(r"a=(rtpmap|fmtp|crypto|ptime|rtcp):[0-9a-z /.-]{0,20}", fullmatch=True),
        st.from_regex(r"m=(audio|video) [0-9]{1,6} RTP/S?AVPF?( [0-9]{1,3}){0,4}", fullmatch=True),
    ),
    max_size=20,
)


@given(LINES)
def test_any_lines_are_negotiated_or_refused(lines):
    try:
        offer = parse_sdp("\r\n".join(["v=0", *lines]))
        ours, _ = negotiator().answer(offer)
    except SDPError as error:
        assert error.status in {400, 488}
        return
    again = parse_sdp(ours.render())
    assert again.audio.port == 30000
    assert len(again.media) == len(offer.media)
