"""The tables are complete, and the document is made from them."""

import dataclasses
import string
from pathlib import Path

import pytest

from sipivr.dialogue import DialogueParams, diagram, states
from sipivr.dialogue.effects import FieldName, Result, TimerName
from sipivr.dialogue.events import DeclineClass
from sipivr.dialogue.phrases import (
    CATALOGUE,
    VARIABLE_NAMES,
    Amount,
    DigitCount,
    Last4,
    Phrase,
    PhraseKey,
    Variable,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "dialogue.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == diagram.render(), (
        "run: python -m sipivr.dialogue.diagram > docs/dialogue.md"
    )


def test_the_documents_tables_are_complete() -> None:
    assert set(diagram.TIMER_WAYS) == set(TimerName)
    assert set(diagram.PATHS) == set(Result)
    assert set(diagram.DECLINES) == set(DeclineClass)
    rendered = diagram.render()
    for each in dataclasses.fields(DialogueParams):
        assert f"| `{each.name}` |" in rendered


@pytest.mark.parametrize(
    "table",
    [
        states.CUSTOMER_TRANSITIONS,
        states.OPERATOR_TRANSITIONS,
        states.TALK_TRANSITIONS,
        states.CAPTURE_TRANSITIONS,
        states.MASK_TRANSITIONS,
        states.PAYMENT_TRANSITIONS,
    ],
)
def test_every_state_has_a_row_and_is_reached(table: dict) -> None:  # type: ignore[type-arg]
    kind = type(next(iter(table)))
    assert set(table) == set(kind)
    reached = {next(iter(table))}
    for _ in table:
        reached |= {new for old in reached for new in table[old]}
    assert reached == set(kind)


def test_a_move_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(states.TransitionError, match="unknown → authorizing"):
        states.moved(states.PAYMENT_TRANSITIONS, states.PaymentState.UNKNOWN, states.PaymentState.AUTHORIZING)


def test_every_phrase_has_a_meaning_that_names_its_variables_and_no_others() -> None:
    assert set(CATALOGUE) == set(PhraseKey)
    for key, spec in CATALOGUE.items():
        assert key.value == key.name.lower()
        assert spec.meaning
        named = {name for _, name, _, _ in string.Formatter().parse(spec.meaning) if name}
        assert named == {VARIABLE_NAMES[each] for each in spec.variables}


@pytest.mark.parametrize(
    ("key", "variables"),
    [
        (PhraseKey.PAN_PROMPT, (DigitCount(1),)),
        (PhraseKey.PAN_DIGITS_SO_FAR, ()),
        (PhraseKey.CONFIRM_AMOUNT, (DigitCount(4),)),
        (PhraseKey.SHOP_AND_AMOUNT, (Amount(1, "JPY"),)),
    ],
)
def test_a_phrase_takes_its_own_variables_only(key: PhraseKey, variables: tuple[Variable, ...]) -> None:
    with pytest.raises(ValueError, match="does not take"):
        Phrase(key, variables)


@pytest.mark.parametrize("digits", ["", "123", "12345", "12a4"])
def test_last_four_are_four(digits: str) -> None:
    with pytest.raises(ValueError, match="four digits"):
        Last4(digits)


def test_phrases_name_their_variables() -> None:
    assert Phrase(PhraseKey.PAN_DIGITS_SO_FAR, (DigitCount(8),)).named() == {"count": DigitCount(8)}


def test_the_names_of_fields_and_capture_states_agree() -> None:
    for field in FieldName:
        if field is not FieldName.IDENTIFICATION:
            assert states.CaptureState(field.value) in states.CAPTURE_OPEN
