"""Form bodies and answers, without a network."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.gateway.gmo_wire import (
    FormBody,
    MalformedAnswer,
    check_string,
    check_string_holds,
    parse_answer,
)

RECORDED_EXEC = (
    b"ACS=0&OrderID=9881&Forward=2a99662&Method=1&PayTimes=&Approve=6295358"
    b"&TranID=1302161349111111111111193378&TranDate=20130216134954"
    b"&CheckString=eb071b6061cf2dba8307b1334dd83977&ClientField1=client_field1&ClientField2=null&ClientField3=null"
)


def test_body_encodes_shift_jis_then_percent() -> None:
    body = FormBody()
    body.add("ItemCode", "a b&c=d")
    body.add("TdTenantName", "表")  # its second byte is a backslash in Shift_JIS
    body.add_digits("Amount", b"0120")
    assert bytes(body.view()) == b"ItemCode=a%20b%26c%3Dd&TdTenantName=%95%5C&Amount=0120"


def test_body_wipes_and_never_moves() -> None:
    body = FormBody()
    body.add_digits("CardNo", bytearray(b"4111111111111111"))
    view = body.view()
    body.wipe()
    assert bytes(view) == bytes(len(view))
    assert len(body) == 0


@pytest.mark.parametrize("text", ["✓", "𠮷"])
def test_body_refuses_what_shift_jis_has_not_and_does_not_quote_it(text: str) -> None:
    with pytest.raises(ValueError, match="not in Shift_JIS") as caught:
        FormBody().add("Name", text)
    assert text not in str(caught.value)
    assert caught.value.__context__ is None


def test_body_refuses_non_digits_and_overflow() -> None:
    with pytest.raises(ValueError, match="not digits"):
        FormBody().add_digits("CardNo", b"4111x")
    with pytest.raises(ValueError, match="too long"):
        FormBody().add("Token", "x" * 9_000)


def test_recorded_answer() -> None:
    answer = parse_answer(RECORDED_EXEC + b"\r\n")
    assert answer.errors == ()
    assert answer.get("Approve") == "6295358"
    assert answer.get("ClientField2") == ""  # the gateway writes null for what was not sent


def test_recorded_errors() -> None:
    answer = parse_answer(b"ErrCode=E01|E01&ErrInfo=E01050002|E01060006")
    assert answer.errors == ("E01050002", "E01060006")


def test_values_are_not_encoded() -> None:
    answer = parse_answer("A=1=2&B=x&y&C=ソ|表&D=".encode("cp932"))
    assert answer.fields == {"A": "1=2", "B": "x&y", "C": "ソ|表", "D": ""}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\x80",
        b"=x",
        b"A=1&A=2",
        b"ErrCode=E01&ErrInfo=E01050002|E01060006",
        b"ErrCode=E01",
        b"ErrInfo=E01050002",
        b"ErrCode=E01|&ErrInfo=E01050002|",
        b"ErrCode=E01&ErrInfo=4111 1111 1111 1111",
        b"ErrCode=E01&ErrInfo=E0105000200000000000000",
    ],
)
def test_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer) as caught:
        parse_answer(body)
    assert caught.value.__context__ is None
    assert "4111" not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_malformed(body: bytes) -> None:
    try:
        answer = parse_answer(body)
    except MalformedAnswer:
        return
    assert answer.fields


_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,11}", fullmatch=True).filter(
    lambda n: n not in ("ErrCode", "ErrInfo")
)
_VALUES = st.text(st.sampled_from("0123456789abcXYZ=|-_ /.、。円カード番号表ソ能"), max_size=30)


@given(st.dictionaries(_NAMES, _VALUES, min_size=1, max_size=12))
def test_what_a_gateway_writes_is_read_back(fields: dict[str, str]) -> None:
    text = "&".join(f"{name}={value}" for name, value in fields.items())
    assert parse_answer(text.encode("cp932")).fields == fields


def test_check_string() -> None:
    answer = parse_answer(RECORDED_EXEC)
    joined = "98812a9966216295358130216134911111111111119337820130216134954secret"
    right = hashlib.md5(joined.encode(), usedforsecurity=False).hexdigest()
    assert check_string(answer, "secret") == right
    assert not check_string_holds(answer, "secret")
    good = RECORDED_EXEC.replace(b"eb071b6061cf2dba8307b1334dd83977", right.upper().encode())
    assert check_string_holds(parse_answer(good), "secret")
    assert not check_string_holds(parse_answer(b"OrderID=1"), "secret")


def test_repr_shows_no_values() -> None:
    assert "6295358" not in repr(parse_answer(RECORDED_EXEC))
