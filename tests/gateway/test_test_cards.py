"""The list of test cards, its documentation and the simulator's table say the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sipivr.gateway.test_cards import TEST_CARDS, test_card_name
from sipivr.simulator.cards import BEHAVIOURS
from sipivr.simulator.faults import KINDS
from sipivr.simulator.protocol import luhn_holds
from tests.gateway.conftest import card_named
from tests.gateway.numbers import NUMBERS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")


def test_numbers_digests_and_behaviours_agree() -> None:
    digests = {hashlib.sha256(number.encode()).hexdigest(): name for name, number in NUMBERS.items()}
    assert digests == TEST_CARDS
    assert set(NUMBERS) == set(BEHAVIOURS)
    assert all(luhn_holds(number) for number in NUMBERS.values())


def test_every_card_passes_the_dialogue_s_own_checks() -> None:
    for name in NUMBERS:
        card = card_named(name)
        assert card.brand is not None


def test_others_are_not_on_the_list() -> None:
    assert test_card_name(b"4242424242424242") is None
    assert test_card_name(b"") is None
    assert test_card_name(bytearray(b"4111111111111111")) == "visa-approved"


def test_faults_and_settings_are_documented() -> None:
    assert all(f"| `{kind}` | {what} |" in DOCUMENT for kind, what in KINDS.items())
    from sipivr.simulator.app import SimulatorSettings

    assert all(f"| `{name}` |" in DOCUMENT for name in SimulatorSettings.__slots__)
