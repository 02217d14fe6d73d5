"""Writes `docs/dialogue.md` from the machine's own tables.

    python -m sipivr.dialogue.diagram > docs/dialogue.md

A test compares the file with what this prints, so that the document cannot drift from the code.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any, Final

from sipivr.card_brands import BRAND_RANGES
from sipivr.dialogue import params, states
from sipivr.dialogue.effects import Result, TimerName
from sipivr.dialogue.events import DeclineClass
from sipivr.dialogue.fields import (
    EXPIRY_FAULT_PHRASES,
    PAN_FAULT_PHRASES,
    expiry_script,
    identification_script,
    pan_script,
    security_code_script,
)
from sipivr.dialogue.phrases import CATALOGUE, VARIABLE_NAMES, PhraseKey
from sipivr.dialogue.states import CaptureState, TalkState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MACHINES: Final[tuple[tuple[str, str, Mapping[Any, set[Any]]], ...]] = (
    ("Capture", "Secure entry of the card; open from `pan` to `submitted`.", states.CAPTURE_TRANSITIONS),
    ("Payment", "What the gateway knows.", states.PAYMENT_TRANSITIONS),
    ("Mask", "What customer → everyone else carries.", states.MASK_TRANSITIONS),
    ("Talk", "Where the conversation is.", states.TALK_TRANSITIONS),
    ("Customer", "The customer's leg.", states.CUSTOMER_TRANSITIONS),
    ("Operator", "An operator leg of ours; transfer-in has none.", states.OPERATOR_TRANSITIONS),
)

#: What each timer of the machine leads to. A test holds this to the timers that there are.
TIMER_WAYS: Final[dict[TimerName, tuple[str, str, str]]] = {
    TimerName.CALL: ("call_s", "every call", "an entry ends with `call_too_long`; a charge is waited for"),
    TimerName.CLOSING: ("closing_s", "closing", "we hang up, the mask still on"),
    TimerName.PROMPT: ("prompt_s", "a playlist without end", "not spoken: said again, at last given up"),
    TimerName.KEYS: ("(fields)", "a field, the confirmation", "hint, reminder, end of field or entry"),
    TimerName.QUIET: ("quiet_s", "after a field", "what was keyed is looked at"),
    TimerName.AFTER_KEYS: ("after_keys_s", "key entry is over", "the mask lifts"),
    TimerName.CLAIM: ("claim_s", "claiming", "`service_unavailable`"),
    TimerName.MASK: ("mask_s", "a mask not acknowledged", "counts as failed: `mask_unavailable`"),
    TimerName.MEDIA: ("media_s", "no media worker", "we hang up: `media_lost`"),
    TimerName.SLOW_GATEWAY: ("slow_gateway_s", "charging", "`still_waiting` is said"),
    TimerName.OUTCOME: ("outcome_s", "charging, even alone", "`not_confirmed` is said; the card is wiped"),
}  # fmt: skip

#: How each result comes about and what the customer hears. A test holds this to the results that there are.
PATHS: Final[dict[Result, tuple[str, tuple[PhraseKey, ...]]]] = {
    Result.PAID: ("the gateway approved", (PhraseKey.PAYMENT_APPROVED,)),
    Result.DECLINED: (
        "the gateway declined and no further card, attempt or time is left, or its class says stop",
        (PhraseKey.DECLINED_FINALLY, PhraseKey.DECLINED_TRY_LATER),
    ),
    Result.UNCONFIRMED: ("no outcome within `outcome_s`", (PhraseKey.NOT_CONFIRMED,)),
    Result.PAYMENT_PENDING: (
        "taken back, hung up or lost while the gateway was working; the outcome is recorded when it is known",
        (PhraseKey.PAYMENT_CONTINUES,),
    ),
    Result.GATEWAY_UNAVAILABLE: ("nothing could be sent", (PhraseKey.NOT_CHARGED_UNAVAILABLE,)),
    Result.CUSTOMER_HUNG_UP: ("the customer hung up before the charge", ()),
    Result.OPERATOR_REQUESTED: ("`*#`", (PhraseKey.OPERATOR_REQUESTED,)),
    Result.TAKEN_BACK: ("the operator took the customer back", (PhraseKey.TAKEN_BACK,)),
    Result.SESSION_CANCELLED: ("the merchant cancelled", (PhraseKey.SESSION_CANCELLED,)),
    Result.IDENTIFICATION_REFUSED: (
        "`max_identifications` wrong, expired, used or foreign numbers",
        (PhraseKey.IDENTIFICATION_REFUSED_FINALLY,),
    ),
    Result.TOO_MANY_MISTAKES: (
        "`max_attempts` wrong entries of a field, or more than `max_restarts` times 2",
        (PhraseKey.TOO_MANY_MISTAKES,),
    ),
    Result.NO_INPUT: ("more than `max_reminders` silences in a row", (PhraseKey.NO_INPUT_END,)),
    Result.CALL_TOO_LONG: ("`call_s` is over", (PhraseKey.CALL_TOO_LONG,)),
    Result.MASK_UNAVAILABLE: ("the mask failed", (PhraseKey.MASK_UNAVAILABLE,)),
    Result.MEDIA_LOST: ("the media worker did not come back within `media_s`", ()),
    Result.SERVICE_UNAVAILABLE: (
        "the session could not be looked up, or the amount could not be spoken",
        (PhraseKey.SERVICE_UNAVAILABLE,),
    ),
}

DECLINES: Final[dict[DeclineClass, tuple[str, PhraseKey]]] = {
    DeclineClass.REENTER_PAN: ("the whole card again", PhraseKey.DECLINED_PAN),
    DeclineClass.REENTER_EXPIRY: ("expiry and security code again", PhraseKey.DECLINED_EXPIRY),
    DeclineClass.REENTER_SECURITY_CODE: (
        "security code again; after `max_security_code_failures` another card",
        PhraseKey.DECLINED_SECURITY_CODE,
    ),
    DeclineClass.ANOTHER_CARD: ("another card, at most `max_cards`", PhraseKey.DECLINED_ANOTHER_CARD),
    DeclineClass.TRY_LATER: ("the end", PhraseKey.DECLINED_TRY_LATER),
    DeclineClass.STOP: ("the end", PhraseKey.DECLINED_FINALLY),
}


def render() -> str:
    """The whole document."""
    defaults = params.DialogueParams()
    parts = [
        "# The dialogue with the customer",
        "Generated from the machine's own tables by `python -m sipivr.dialogue.diagram`; do not edit.",
        "The dialogue is six machines coupled by rules, which `sipivr/dialogue/states.py` states and "
        "`tests/dialogue/test_stateful.py` holds over random sequences of events.",
    ]
    for name, meaning, table in _MACHINES:
        parts += [f"## {name}", meaning, _diagram(table)]
    parts += ["## Fields", *_fields(defaults)]
    parts += ["## Mistakes", _mistakes()]
    parts += ["## How a call ends", _paths()]
    parts += ["## After a decline", _declines()]
    parts += ["## Timers", _timers(defaults)]
    parts += ["## Settings", _settings(defaults)]
    parts += ["## Phrases", _phrases()]
    parts += ["## Card brands", _brands()]
    return "\n\n".join(parts) + "\n"


def _diagram(table: Mapping[Any, set[Any]]) -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(table)).value}"]
    for old, news in table.items():
        for new in sorted(news, key=list(table).index):
            lines.append(f"    {old.value} --> {new.value}")
        if not news:
            lines.append(f"    {old.value} --> [*]")
    return "\n".join([*lines, "```"])


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    heads = tuple(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _fields(defaults: params.DialogueParams) -> tuple[str, str]:
    scripts = (
        (TalkState.IDENTIFYING, identification_script(defaults, (8,))),
        (CaptureState.PAN, pan_script(defaults)),
        (CaptureState.EXPIRY, expiry_script(defaults)),
        (CaptureState.SECURITY_CODE, security_code_script(defaults, None)),
    )
    rows: list[tuple[object, ...]] = [
        (
            f"`{script.field}`",
            f"`{state}`",
            script.times.first_digit_s,
            script.times.next_digit_s,
            f"`{script.hint.key}` at {script.hint_s}" if script.hint else "",
            ", ".join(f"`{phrase.key}`" for phrase in script.prompt),
            f"`{script.so_far}`",
        )
        for state, script in scripts
    ]
    rows.append(
        ("confirmation", f"`{CaptureState.CONFIRM}`", defaults.confirm_s, "", "",
         f"`{PhraseKey.CONFIRM_AMOUNT}`, `{PhraseKey.CONFIRM_CHOICE}`", "")
    )  # fmt: skip
    grammar = (
        "`#` ends a field that has digits, `*` clears it, either is ignored in an empty field; `*#` asks for "
        "the operator anywhere before the charge. A full field ends itself; then keys are dropped until "
        f"{defaults.quiet_s} s of quiet. A number that may be complete or may go on ends by `#` or by "
        f"silence, with `{PhraseKey.FINISH_WITH_POUND}` after {defaults.pound_hint_s} s. The confirmation "
        "takes 1 and 2, pressed after the amount has been spoken."
    )
    heads = ("field", "state", "first digit, s", "next digit, s", "hint, s", "prompt", "reminder with digits")
    return _table(heads, rows), grammar


def _mistakes() -> str:
    rows = [(f"`{fault}`", "card number", f"`{key}`") for fault, key in PAN_FAULT_PHRASES.items()]
    rows += [(f"`{fault}`", "expiry", f"`{key}`") for fault, key in EXPIRY_FAULT_PHRASES.items()]
    rows.append(("`length`", "security code", f"`{PhraseKey.SECURITY_CODE_INCOMPLETE}`"))
    rows.append(("`length`", "identification number", f"`{PhraseKey.IDENTIFICATION_INCOMPLETE}`"))
    rows.append(
        ("wrong, expired, used, foreign", "identification number", f"`{PhraseKey.IDENTIFICATION_REFUSED}`")
    )
    rows.append(("no test card in test mode", "card number", f"`{PhraseKey.TEST_LINE}`"))
    rows.append(("neither 1 nor 2", "confirmation", f"`{PhraseKey.CONFIRM_WRONG_KEY}`"))
    return _table(("mistake", "in", "what is said"), rows)


def _paths() -> str:
    rows = (
        (f"`{result}`", reason, ", ".join(f"`{key}`" for key in keys) or "nothing")
        for result, (reason, keys) in PATHS.items()
    )
    return _table(("result", "comes about when", "what is said"), rows)


def _declines() -> str:
    rows = ((f"`{each}`", way, f"`{key}`") for each, (way, key) in DECLINES.items())
    return _table(("class", "what is keyed next", "what is said"), rows)


def _timers(defaults: params.DialogueParams) -> str:
    rows = [
        (f"`{name}`", f"`{setting}`" if setting.isidentifier() else setting,
         getattr(defaults, setting, ""), where, way)
        for name, (setting, where, way) in TIMER_WAYS.items()
    ]  # fmt: skip
    return _table(("timer", "setting", "s", "runs in", "leads to"), rows)


def _settings(defaults: params.DialogueParams) -> str:
    meanings = _attributes(params.DialogueParams.__doc__ or "")
    rows = []
    for each in dataclasses.fields(defaults):
        value = getattr(defaults, each.name)
        if isinstance(value, params.FieldTimes):
            value = f"{value.first_digit_s} / {value.next_digit_s}"
        rows.append((f"`{each.name}`", value, meanings[each.name]))
    return _table(("setting", "default", "meaning"), rows)


def _attributes(docstring: str) -> dict[str, str]:
    """The attributes of a Google-style docstring, by name."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:")[2].splitlines():
        text = line.strip()
        if line.startswith(" " * 12):
            found[name] += " " + text
        elif text:
            name, _, meaning = text.partition(": ")
            found[name] = meaning
    return found


def _phrases() -> str:
    rows = (
        (f"`{key}`", ", ".join(f"`{{{VARIABLE_NAMES[each]}}}`" for each in spec.variables), spec.meaning)
        for key, spec in CATALOGUE.items()
    )
    return _table(("phrase", "variables", "meaning"), rows)


def _brands() -> str:
    rows = (
        (
            f"`{each.brand}`",
            each.low if each.low == each.high else f"{each.low}–{each.high}",
            ", ".join(str(length) for length in each.lengths),
            each.brand.security_code_length,
        )
        for each in BRAND_RANGES
    )
    return _table(("brand", "leading digits", "lengths", "security code"), rows)


if __name__ == "__main__":
    sys.stdout.write(render())
