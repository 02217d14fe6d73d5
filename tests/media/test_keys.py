"""One press, one key, over both ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from media.keys import Deduplicator
from media.protocol import KeyWay

INBAND, EVENT = KeyWay.INBAND, KeyWay.RFC4733


def count(presses: list[tuple[KeyWay, int, int]]) -> int:
    keys = Deduplicator()
    return sum(keys.accept(0, way, key, timestamp & 0xFFFFFFFF) for way, key, timestamp in presses)


@given(st.integers(-480, 480), st.integers(0, 2**32 - 1), st.booleans())
def test_both_ways_are_one_press(apart: int, start: int, inband_first: bool) -> None:
    both = [(INBAND, 5, start), (EVENT, 5, start + apart)]
    assert count(both if inband_first else both[::-1]) == 1


def test_further_apart_are_two() -> None:
    assert count([(INBAND, 5, 0), (EVENT, 5, 481)]) == 2


def test_other_key_or_other_leg_is_its_own() -> None:
    assert count([(INBAND, 5, 0), (EVENT, 6, 0)]) == 2
    keys = Deduplicator()
    assert keys.accept(0, INBAND, 5, 0)
    assert keys.accept(1, EVENT, 5, 0)
    keys.clear(0)
    assert keys.accept(0, EVENT, 5, 0)


@given(st.permutations([(INBAND, 5, 0), (EVENT, 5, 80), (INBAND, 5, 640), (EVENT, 5, 720)]))
def test_two_presses_80_ms_apart_are_two_in_any_order(order: list[tuple[KeyWay, int, int]]) -> None:
    assert count(order) == 2


def test_two_presses_by_one_way_are_two() -> None:
    assert count([(INBAND, 5, 0), (INBAND, 5, 640)]) == 2
    assert count([(EVENT, 5, 0), (EVENT, 5, 640)]) == 2
