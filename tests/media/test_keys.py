"""One press, one key, over all ways."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from media.keys import INFO_TICKS, Deduplicator
from media.protocol import KeyWay

INBAND, EVENT, INFO = KeyWay.INBAND, KeyWay.RFC4733, KeyWay.INFO
#: Way, key, start on the media timeline (None for INFO), tick in which it comes.
Word = tuple[KeyWay, int, int | None, int]


def accepted(words: list[Word], keys: Deduplicator | None = None) -> list[int]:
    keys = keys or Deduplicator()
    return [
        key
        for way, key, start, tick in words
        if keys.accept(0, way, key, None if start is None else start & 0xFFFFFFFF, tick=tick)
    ]


def count(presses: list[tuple[KeyWay, int, int]]) -> int:
    return len(accepted([(*press, 0) for press in presses]))


@given(st.integers(-528, 528), st.integers(0, 2**32 - 1), st.booleans())
def test_both_ways_are_one_press(apart: int, start: int, inband_first: bool) -> None:
    both = [(INBAND, 5, start), (EVENT, 5, start + apart)]
    assert count(both if inband_first else both[::-1]) == 1


def test_further_apart_are_two() -> None:
    assert count([(INBAND, 5, 0), (EVENT, 5, 529)]) == 2


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
    assert accepted([(INFO, 5, None, 0), (INFO, 5, None, 4)]) == [5, 5]


def test_info_is_matched_press_by_press() -> None:
    """It has no timestamp: the first INFO is the first press, however late it comes."""
    assert accepted([(INBAND, 5, 0, 0), (INBAND, 5, 640, 4), (INFO, 5, None, 9), (INFO, 5, None, 10)]) == [
        5,
        5,
    ]
    assert accepted([(INFO, 5, None, 0), (INFO, 5, None, 3), (EVENT, 5, 0, 5), (EVENT, 5, 640, 6)]) == [5, 5]
    assert accepted([(INFO, 5, None, 0), (INBAND, 5, 0, 2), (EVENT, 5, 30, 4)]) == [5]
    assert accepted([(INFO, 5, None, 0), (INBAND, 6, 0, 2)]) == [5, 6]


def test_info_much_later_is_a_press_of_its_own() -> None:
    assert accepted([(INBAND, 5, 0, 0), (INFO, 5, None, INFO_TICKS + 1)]) == [5, 5]


def press(ways: tuple[KeyWay, ...], number: int, key: int = 1) -> list[Word]:
    """The words of one press of many, a second after each other."""
    start, tick = 8000 * number, 50 * number
    return [(way, key, None if way is INFO else start, tick + at) for at, way in enumerate(ways)]


def test_the_way_is_pinned_after_two_presses() -> None:
    keys = Deduplicator()
    accepted(press((INBAND,), 0), keys)
    assert keys.pinned(0) is None
    accepted(press((INBAND,), 1), keys)
    assert keys.pinned(0) is INBAND
    accepted(press((INBAND, EVENT), 2) + press((INBAND, EVENT), 3), keys)
    assert keys.pinned(0) is EVENT, "telephone-event is trusted before the detector"
    assert keys.disagreements(0) == 0


def test_a_leg_that_changes_its_way_loses_no_key() -> None:
    """The operator keys by telephone-event, then the customer in band, over the same bridge."""
    keys = Deduplicator()
    words = list(itertools.chain(*(press((EVENT,), number) for number in range(6))))
    words += itertools.chain(*(press((INBAND,), number) for number in range(6, 22)))
    assert accepted(words, keys) == [1] * 22
    assert keys.pinned(0) is INBAND
    assert keys.disagreements(0) == 2, "until it was learnt"


def test_presses_are_forgotten_once_nothing_can_be_said_of_them() -> None:
    """A card number does not stay here for the length of a call; what was learnt of the leg does."""
    keys = Deduplicator()
    accepted([word for number in range(16) for word in press((INBAND,), number)], keys)
    last = 50 * 15
    keys.tidy(last + INFO_TICKS)
    assert keys.remembered(0) == 1, "INFO may still come"
    keys.tidy(last + INFO_TICKS + 1)
    assert keys.remembered(0) == 0
    assert keys.pinned(0) is INBAND


def test_the_last_press_of_a_call_is_judged_too() -> None:
    keys = Deduplicator()
    accepted(press((EVENT,), 0) + press((EVENT,), 1) + press((INBAND,), 2), keys)
    assert keys.disagreements(0) == 0
    keys.tidy(50 * 3)
    assert keys.disagreements(0) == 1


def test_a_lost_event_is_told_by_the_tone() -> None:
    keys = Deduplicator()
    words = list(itertools.chain(*(press((EVENT, INBAND), number) for number in range(4))))
    words += press((INBAND,), 4) + press((EVENT, INBAND), 5) + press((EVENT, INBAND), 6)
    assert accepted(words, keys) == [1] * 7
    assert keys.pinned(0) is EVENT


@st.composite
def typing(draw: st.DrawFn) -> tuple[list[Word], list[int]]:
    """Presses by any ways, each word on its own delay, and the keys that were pressed."""
    ways = draw(st.sets(st.sampled_from([INBAND, EVENT, INFO]), min_size=1))
    chance = random.Random(draw(st.integers(0, 2**32)))
    at, words, pressed = chance.randrange(2**32), [], []
    elapsed = 0
    for _ in range(draw(st.integers(1, 16))):
        key = draw(st.integers(0, 3))
        pressed.append(key)
        for way in ways:
            # Starts within 60 ms of each other, arriving up to 200 ms apart; INFO keeps the order of its presses.
            start = None if way is INFO else (at + elapsed + chance.randint(0, 479)) & 0xFFFFFFFF
            delay = 5 if way is INFO else chance.randint(0, 10)
            words.append((way, key, start, elapsed // 160 + delay))
        elapsed += draw(st.integers(130, 900)) * 8
    words.sort(key=lambda word: word[3])
    return words, pressed


@given(typing())
@settings(max_examples=300)
def test_never_a_double_and_never_a_loss(typed: tuple[list[Word], list[int]]) -> None:
    """Against a model that knows the presses: any set of ways, any order of arrival within 200 ms."""
    words, pressed = typed
    assert sorted(accepted(words)) == sorted(pressed)
