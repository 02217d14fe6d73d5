"""Card types: right about cards, silent about digits."""

import copy
import hashlib
import itertools
import json
import logging
import pickle
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr import card_digits
from sipivr.card import (
    PAN,
    Brand,
    Card,
    CardWipedError,
    Expiry,
    ExpiryEntry,
    ExpiryFault,
    PANEntry,
    PANFault,
    SecurityCode,
    SecurityCodeEntry,
)
from sipivr.card_brands import BRAND_RANGES

TODAY = date(2026, 11, 23)
ALL = frozenset(Brand)


def pan_of(digits: str, longest: int = 19) -> PAN:
    entry = PANEntry(longest)
    for digit in digits:
        entry.append(int(digit))
    return entry.take()


def expiry_of(digits: str) -> Expiry:
    entry = ExpiryEntry()
    for digit in digits:
        entry.append(int(digit))
    return entry.take()


def code_of(digits: str) -> SecurityCode:
    entry = SecurityCodeEntry(len(digits))
    for digit in digits:
        entry.append(int(digit))
    return entry.take()


def card_of(pan: str = "4111111111111111", expiry: str = "0928", code: str | None = "737") -> Card:
    card = Card()
    card.put_pan(pan_of(pan))
    card.put_expiry(expiry_of(expiry))
    if code is not None:
        card.put_security_code(code_of(code))
    return card


def luhn_complete(body: str) -> str:
    total = 0
    for place, character in enumerate(reversed(body)):
        digit = int(character) * (2 if place % 2 == 0 else 1)
        total += digit - 9 if digit > 9 else digit
    return body + str(-total % 10)


# Numbers that the brands and gateways publish for tests.
@pytest.mark.parametrize(
    ("digits", "brand"),
    [
        ("4111111111111111", Brand.VISA),
        ("5555555555554444", Brand.MASTERCARD),
        ("2223003122003222", Brand.MASTERCARD),
        ("2720990000000007", Brand.MASTERCARD),
        ("3530111333300000", Brand.JCB),
        ("3566002020360505", Brand.JCB),
        ("378282246310005", Brand.AMERICAN_EXPRESS),
        ("343434343434343", Brand.AMERICAN_EXPRESS),
        ("30569309025904", Brand.DINERS),
        ("36227206271667", Brand.DINERS),
        ("38520000023237", Brand.DINERS),
        ("6011111111111117", Brand.DISCOVER),
        ("6500000000000002", Brand.DISCOVER),
        ("6200000000000005", Brand.UNIONPAY),
        ("8171999900000000021", Brand.UNIONPAY),
    ],
)
def test_brands_of_published_test_numbers(digits: str, brand: Brand) -> None:
    pan = pan_of(digits)
    assert pan.brand is brand
    assert pan.fault(ALL) is None
    assert pan.last4 == digits[-4:]


@pytest.mark.parametrize(
    ("digits", "fault"),
    [
        ("4111111111111112", PANFault.CHECK_DIGIT),
        ("4111111111111", PANFault.LENGTH),
        ("41", PANFault.LENGTH),
        ("9", PANFault.LENGTH),
        ("9999999999999995", PANFault.UNKNOWN_BRAND),
        ("2220999999999999", PANFault.UNKNOWN_BRAND),
        ("2721000000000000", PANFault.UNKNOWN_BRAND),
        ("3527999999999999", PANFault.UNKNOWN_BRAND),
        ("378282246310005", PANFault.BRAND_NOT_ACCEPTED),
    ],
)
def test_faults_of_numbers(digits: str, fault: PANFault) -> None:
    assert pan_of(digits).fault(ALL - {Brand.AMERICAN_EXPRESS}) is fault


def test_ranges_are_well_formed_and_do_not_overlap() -> None:
    spans = []
    for each in BRAND_RANGES:
        assert len(str(each.low)) == len(str(each.high)) == each.width
        assert each.low <= each.high
        assert list(each.lengths) == sorted(set(each.lengths))
        scale = 10 ** (8 - each.width)
        spans.append((each.low * scale, (each.high + 1) * scale))
    spans.sort()
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


@given(st.text("0123456789", min_size=1, max_size=17).map(lambda body: "9" + body))
def test_luhn_accepts_exactly_one_check_digit(body: str) -> None:
    right = luhn_complete(body)
    for check in "0123456789":
        assert pan_of(body + check).passes_luhn() is (body + check == right)


@pytest.mark.parametrize(
    ("digits", "fault"),
    [
        ("1126", None),
        ("1226", None),
        ("1026", ExpiryFault.PAST),
        ("1225", ExpiryFault.PAST),
        ("0099", ExpiryFault.MONTH),
        ("1328", ExpiryFault.MONTH),
        ("2809", ExpiryFault.MONTH),
        ("1146", None),
        ("1246", ExpiryFault.TOO_FAR),
        ("0199", ExpiryFault.TOO_FAR),
        ("092", ExpiryFault.LENGTH),
        ("", ExpiryFault.LENGTH),
    ],
)
def test_expiry(digits: str, fault: ExpiryFault | None) -> None:
    assert expiry_of(digits).fault(TODAY) is fault


def test_expiry_over_the_turn_of_a_century() -> None:
    assert expiry_of("0101").fault(date(2099, 12, 31)) is None


def test_entry_knows_when_it_is_full() -> None:
    entry = PANEntry(16)
    assert not entry.full
    assert entry.lengths == ()
    for digit in "411111111111111":
        entry.append(int(digit))
        assert not entry.full
    entry.append(1)
    assert entry.full
    assert entry.complete
    with pytest.raises(ValueError, match="full"):
        entry.append(1)


def test_a_brand_of_several_lengths_is_complete_before_it_is_full() -> None:
    entry = PANEntry(16)
    for digit in "36227206271667":
        entry.append(int(digit))
    assert entry.complete
    assert not entry.full
    assert entry.lengths == (14, 15, 16)


def test_entries_take_digits_only_and_do_not_say_which_key() -> None:
    for key in (-1, 10, 11, 15):
        with pytest.raises(ValueError, match="not a digit") as caught:
            PANEntry().append(key)
        assert str(key) not in str(caught.value)


def test_disclosure_is_the_gateways_and_ends() -> None:
    with card_of().disclose() as fields:
        assert fields.number == b"4111111111111111"
        assert fields.expire == b"2809"
        assert fields.security_code == b"737"
        kept = (fields.number, fields.expire, fields.security_code)
    assert all(not any(digits or b"") for digits in kept)


def test_disclosure_is_wiped_by_an_exception_and_survives_a_wipe_of_the_card() -> None:
    card = card_of(code=None)
    with pytest.raises(OSError, match="network"), card.disclose() as fields:
        card.wipe()
        assert fields.number == b"4111111111111111"
        assert fields.security_code is None
        raise OSError("network")
    assert not any(fields.number)


def test_a_wiped_or_incomplete_card_discloses_nothing() -> None:
    card = card_of()
    card.wipe()
    assert card.wiped
    assert card.brand is None
    for broken in (card, Card()):
        with pytest.raises(CardWipedError), broken.disclose():
            pass
        with pytest.raises(CardWipedError):
            _ = broken.last4


def test_a_security_code_wiped_alone_is_not_disclosed() -> None:
    card = card_of()
    card.wipe_security_code()
    assert not card.wiped
    with card.disclose() as fields:
        assert fields.security_code is None


def test_test_cards_are_compared_inside() -> None:
    pan = pan_of("4111111111111111")
    digests = {hashlib.sha256(number).hexdigest() for number in (b"5555555555554444", b"4111111111111111")}
    assert pan.has_digest_in(digests)
    assert not pan.has_digest_in({hashlib.sha256(b"411111111111111").hexdigest()})
    assert not pan.has_digest_in(frozenset())


SECRETS = st.builds(
    lambda pan, expiry, code: (pan, expiry, code),
    st.text("0123456789", min_size=11, max_size=15).map(lambda body: "4" + body),
    st.text("0123456789", min_size=4, max_size=4),
    st.text("0123456789", min_size=3, max_size=4),
)


@given(SECRETS)
def test_nothing_prints_copies_compares_or_serialises(digits: tuple[str, str, str]) -> None:
    pan, expiry, code = digits
    entry = PANEntry(19)
    entry.append(int(pan[0]))
    card = card_of(pan, expiry, code)
    with card.disclose() as fields:
        for secret in (entry, pan_of(pan), expiry_of(expiry), code_of(code), card, fields, ExpiryEntry()):
            for shown in (
                repr(secret),
                str(secret),
                f"{secret}",
                f"{secret!r:>40}",
                format(secret, "s"),
                "%s" % (secret,),  # noqa: UP031 - logging formats this way
                repr([secret]),
                logging.LogRecord("n", 10, "p", 1, "%s %r", (secret, secret), None).getMessage(),
            ):
                assert not any(character.isdigit() for character in shown)
            for refuse in (
                pickle.dumps,
                json.dumps,
                copy.copy,
                copy.deepcopy,
                iter,
                list,
                len,
                bytes,
                int,
                hash,
                vars,
                lambda it: it == it,
                lambda it: it != it,
                lambda it: it < it,
                lambda it: it[0],
                lambda it: 4 in it,
                lambda it: it.__getstate__(),
                lambda it: it.__reduce_ex__(4),
            ):
                with pytest.raises(TypeError) as caught:
                    refuse(secret)
                assert pan not in str(caught.value)


@given(SECRETS)
def test_wiping_overwrites_every_byte(digits: tuple[str, str, str]) -> None:
    made: list[bytearray] = []
    patch = pytest.MonkeyPatch()

    def recorded(size: int) -> bytearray:
        made.append(bytearray(size))
        return made[-1]

    with patch.context() as patched:
        patched.setattr(card_digits, "new_buffer", recorded)
        card = card_of(*digits)
        with card.disclose():
            pass
        card.put_expiry(expiry_of("1230"))
        card.put_security_code(code_of("1234"))
        assert any(any(buffer) for buffer in made)
        card.wipe()
        card.wipe()
    assert len(made) > 6
    assert not any(any(buffer) for buffer in made)


def test_an_entry_cleared_is_zero_and_usable() -> None:
    entry = SecurityCodeEntry(3)
    entry.append(7)
    held = entry._digits
    entry.clear()
    assert not any(held)
    assert entry.length == 0
    entry.append(1)
    assert entry.length == 1


@pytest.mark.parametrize("length", [0, 2, 5])
def test_security_codes_have_three_or_four_digits(length: int) -> None:
    with pytest.raises(ValueError, match="3 or 4"):
        SecurityCodeEntry(length)


def test_secrets_are_true() -> None:
    assert PANEntry()
    assert Card()
