from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.store.identification import _DAMM, check_digit, is_valid

bodies = st.text("0123456789", min_size=3, max_size=9)


def test_the_published_example() -> None:
    # Damm's dissertation (2004) and its usual worked example: 572 gets 4.
    assert check_digit("572") == "4"


def test_the_quasigroup_is_totally_anti_symmetric() -> None:
    """The definition: x∘x = 0; rows and columns are permutations; (c∘x)∘y = (c∘y)∘x only for x = y."""
    for c in range(10):
        assert sorted(_DAMM[c]) == list(range(10))
        assert sorted(row[c] for row in _DAMM) == list(range(10))
        assert _DAMM[c][c] == 0
        for x in range(10):
            for y in range(10):
                assert x == y or _DAMM[_DAMM[c][x]][y] != _DAMM[_DAMM[c][y]][x]


@given(bodies)
def test_a_number_with_its_check_digit_is_valid(body: str) -> None:
    assert is_valid(body + check_digit(body))


@given(bodies, st.data())
def test_any_single_wrong_digit_is_found(body: str, data: st.DataObject) -> None:
    number = body + check_digit(body)
    place = data.draw(st.integers(0, len(number) - 1))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != number[place]]))
    assert not is_valid(number[:place] + digit + number[place + 1 :])


@given(bodies, st.data())
def test_any_adjacent_transposition_is_found(body: str, data: st.DataObject) -> None:
    number = body + check_digit(body)
    i = data.draw(st.integers(0, len(number) - 2))
    swapped = number[:i] + number[i + 1] + number[i] + number[i + 2 :]
    assert swapped == number or not is_valid(swapped)


@pytest.mark.parametrize("digits", ["", "0", "000", "12a456", "１２３４", "0" * 11, "-123", " 5724"])
def test_what_has_not_the_form_is_not_valid(digits: str) -> None:
    assert not is_valid(digits)
