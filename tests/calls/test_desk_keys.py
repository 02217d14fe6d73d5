"""`*9` and an identification number on an operator's telephone."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.calls import desk_keys
from sipivr.calls.desk_keys import DeskKeys

KEYS = "0123456789*#ABCD"


async def keyed(text: str, digits: int = 6) -> list[str]:
    found: list[str] = []
    desk = DeskKeys(digits, found.append)
    for character in text:
        desk.key(KEYS.index(character))
    desk.stop()
    return found


async def test_the_code_is_taken_and_whoever_mistypes_begins_anew() -> None:
    assert await keyed("*9123456") == ["123456"]
    assert await keyed("*9123456#*9654321") == ["123456", "654321"]
    assert await keyed("*912*9123456") == ["123456"]
    assert await keyed("*8123456") == []
    assert await keyed("9123456") == []
    assert await keyed("*912345#6") == []
    assert await keyed("**9123456") == ["123456"]


async def test_a_pause_forgets_what_was_keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_keys, "_PAUSE_S", 0.0)
    found: list[str] = []
    desk = DeskKeys(6, found.append)
    for key in (10, 9, 1, 2, 3):
        desk.key(key)
    await asyncio.sleep(0.01)  # the timer is due; nothing tells when it has run
    for key in (4, 5, 6):
        desk.key(key)
    assert found == []


@given(st.text(alphabet=KEYS, max_size=60))
def test_only_whole_codes_are_ever_taken(text: str) -> None:
    for number in asyncio.run(keyed(text)):
        assert f"*9{number}" in text and len(number) == 6 and number.isdigit()
