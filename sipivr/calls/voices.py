"""The dialogue's phrases as prompt files, and the fixed ones held by every media worker for good."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sipivr.calls.media_link import MediaLink, MediaWorker
from sipivr.dialogue.phrases import (
    CATALOGUE,
    Amount,
    BrandName,
    DigitCount,
    Last4,
    Phrase,
    PhraseKey,
    ShopName,
    Variable,
)
from sipivr.prompts import Money, PromptLibrary, PromptProgress, PromptVariable
from sipivr.prompts.wording import WordingError

log = logging.getLogger(__name__)

#: A worker is given so many fixed phrases at a time: it reads each file within a tick.
PINS_AT_ONCE: Final = 4
PIN_EVERY_S: Final = 0.02
#: Progress is logged this often while prompts are made.
SAY_EVERY_S: Final = 2.0


class Voices:
    """`services.Prompts` on the prompt library."""

    def __init__(self, cache_dir: Path) -> None:
        self._library = PromptLibrary(cache_dir)
        self._fixed: tuple[Path, ...] = ()
        self._counts: asyncio.Task[None] | None = None
        self._said = 0.0

    async def prepare(self) -> None:
        """Makes every fixed phrase, then, behind the switch's back, every count of digits.

        With a filled cache this takes no time.
        """
        self._report(await self._library.prepare_fixed(self._progress))
        paths = {
            path
            for language in self._library.languages
            for key, spec in CATALOGUE.items()
            if not spec.variables
            for path in [self._library.ready(language, key.value)]
            if path is not None
        }
        self._fixed = tuple(sorted(paths))
        self._counts = asyncio.ensure_future(self._prepare_counts())

    async def aclose(self) -> None:
        """Stops the voices."""
        if self._counts is not None:
            self._counts.cancel()
        await self._library.aclose()

    def pin_on(self, media: MediaLink) -> None:
        """Every worker that connects loads the fixed phrases, a few each tick: it may have calls already.

        A phrase that is played before its turn is loaded then.
        """
        media.on_arrival(lambda worker: self._pin(worker, self._fixed))

    def _pin(self, worker: MediaWorker, paths: tuple[Path, ...]) -> None:
        if worker.closed:
            return
        for path in paths[:PINS_AT_ONCE]:
            worker.prompt(path)
        if rest := paths[PINS_AT_ONCE:]:
            asyncio.get_running_loop().call_later(PIN_EVERY_S, self._pin, worker, rest)

    def ready(self, language: str, phrase: Phrase) -> Path | None:
        """See `services.Prompts`."""
        try:
            return self._library.ready(self._language(language), phrase.key.value, _variables(phrase))
        except WordingError:
            return None

    async def render(self, language: str, phrase: Phrase) -> Path:
        """See `services.Prompts`."""
        try:
            return await self._library.render(self._language(language), phrase.key.value, _variables(phrase))
        except WordingError as error:
            log.error("phrase %s cannot be worded: %s; a tone stands in", phrase.key.value, error)
            return await self._library.tone()

    async def prepare_session(self, language: str, shop_name: str, amount: int, currency: str) -> None:
        """Makes what a payment session will say, before its call comes."""
        spoken = Amount(amount, currency)
        for phrase in (
            Phrase(PhraseKey.SHOP_AND_AMOUNT, (ShopName(shop_name), spoken)),
            Phrase(PhraseKey.CONFIRM_AMOUNT, (spoken,)),
            Phrase(PhraseKey.PAYMENT_APPROVED, (spoken,)),
        ):
            await self.render(language, phrase)

    async def _prepare_counts(self) -> None:
        self._report(await self._library.prepare_counts(self._progress))

    def _report(self, progress: PromptProgress) -> None:
        if progress.made:
            log.info("%d prompts made in %.1f s", progress.made, progress.seconds)
        for problem in progress.problems:
            log.warning("prompt %s is spoken by a stand-in; see `sipivr doctor`", problem)

    def _language(self, language: str) -> str:
        return language if language in self._library.languages else self._library.languages[0]

    def _progress(self, progress: PromptProgress) -> None:
        now = time.monotonic()
        if progress.made and now - self._said > SAY_EVERY_S:
            self._said = now
            log.info("making prompts: %d of %d", progress.done, progress.total)


def _variables(phrase: Phrase) -> Mapping[str, PromptVariable]:
    return {name: _spoken(variable) for name, variable in phrase.named().items()}


def _spoken(variable: Variable) -> PromptVariable:
    match variable:
        case ShopName(name=name):
            return name
        case Amount(minor_units=minor_units, currency=currency):
            return Money(minor_units, currency)
        case DigitCount(count=count):
            return count
        case Last4(digits=digits):
            return digits
        case BrandName(brand=brand):
            return brand.value
