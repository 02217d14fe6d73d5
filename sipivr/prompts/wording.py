"""Texts of one language, and how people say amounts, counts and digits in it.

A language is one TOML file under ``texts/``. Its tables say everything that a language decides: the phrases,
what a digit is called, how an amount is put, and readings for characters that a voice leaves out. A
variable arrives with its unit, so that a text never has to agree with a number.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, TypeAlias

_PLACEHOLDER: Final = re.compile(r"\{([a-z0-9_]+)\}")


class WordingError(ValueError):
    """A text file, or the variables given for a phrase, do not fit."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in the currency's minor units (yen have none)."""

    minor_units: int
    currency: str = "JPY"


#: By placeholder: ``shop`` a name, ``amount`` `Money`, ``count`` an int, ``last4`` four digits, ``brand`` the
#: brand's key.
PromptVariable: TypeAlias = str | int | Money


@dataclass(frozen=True, slots=True)
class Texts:
    """One language."""

    language: str
    phrases: Mapping[str, str]
    tones: Mapping[str, str]
    readings: Mapping[str, str]
    brands: Mapping[str, str]
    digits: Mapping[str, str]
    numbers: Mapping[str, str]
    currencies: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, language: str) -> Texts:
        """Load a language that comes with the package.

        Raises:
            WordingError: There is none, or it is no such file.
        """
        try:
            text = resources.files("sipivr.prompts").joinpath("texts", f"{language}.toml").read_text("utf-8")
            return cls(**tomllib.loads(text))
        except (OSError, TypeError, tomllib.TOMLDecodeError) as exc:
            raise WordingError(f"texts of {language!r}: {exc}") from None

    @property
    def keys(self) -> frozenset[str]:
        """Every phrase that this language can say or sound."""
        return frozenset(self.phrases) | frozenset(self.tones)

    def placeholders(self, key: str) -> frozenset[str]:
        """Return the names of the variables in a phrase."""
        return frozenset(_PLACEHOLDER.findall(self.phrases.get(key, "")))

    def say(self, key: str, variables: Mapping[str, PromptVariable]) -> str:
        """Put a phrase into words, as it would be written.

        Raises:
            WordingError: No such phrase, or other variables than it has.
        """
        if key not in self.phrases:
            raise WordingError(f"{self.language}: no phrase {key!r}")
        if self.placeholders(key) != set(variables):
            raise WordingError(f"{self.language}: {key} takes {sorted(self.placeholders(key))}")
        return _PLACEHOLDER.sub(lambda found: self.spoken(found[1], variables[found[1]]), self.phrases[key])

    def readable(self, text: str) -> str:
        """Replace what a voice would leave out by its reading."""
        for written, reading in self.readings.items():
            text = text.replace(written, reading)
        return text

    def spoken(self, name: str, value: PromptVariable) -> str:
        """Put one variable into words.

        Raises:
            WordingError: A value that its placeholder does not take.
        """
        match name, value:
            case "amount", Money():
                return self._amount(value)
            case "count", int():
                return self._choose(self.numbers, "count", value)
            case "last4", str() if re.fullmatch(r"[0-9]{4}", value, re.ASCII):
                return self.numbers["digit_separator"].join(self.digits[digit] for digit in value)
            case "brand", str() if value in self.brands:
                return self.brands[value]
            case "shop", str() if value.strip():
                # Control characters and line ends would cut the text for a voice that reads lines.
                return " ".join("".join(c if c.isprintable() else " " for c in value).split())
        raise WordingError(f"{self.language}: {name} does not take this")

    def _amount(self, money: Money) -> str:
        currency = self.currencies.get(money.currency)
        if currency is None:
            raise WordingError(f"{self.language}: currency {money.currency!r}")
        whole, part = divmod(money.minor_units, 10 ** int(currency["exponent"]))
        text = self._choose(currency, "whole", whole)
        if not part:
            return text
        return text + str(currency["joint"]) + self._choose(currency, "part", part)

    def _choose(self, forms: Mapping[str, Any], stem: str, number: int) -> str:
        if number < 0:
            raise WordingError("a negative number")
        form = str(forms[f"{stem}_one" if number == 1 else f"{stem}_many"])
        written = f"{number:,}".replace(",", self.numbers["grouping"])
        return form.replace("{number}", written)
