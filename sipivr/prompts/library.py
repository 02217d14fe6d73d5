"""Ready prompts: a cache of 8 kHz headerless int16 files, filled ahead of time.

A file's name is a digest of everything that decides its sound (engine, voice, version, processing,
language, text), so an entry is never wrong, only absent; it is written aside and renamed into place. Whoever
asks twice for what is being made waits for the one making it.

Silence is never the answer: if a voice is missing or fails, the phrase is spoken in another language that
can, and if none can, it is a tone; each time with a warning in the log.

Belongs to one event loop; engines and signal processing run in its own worker threads at a lower priority,
so that synthesis does not take the processor from calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipivr.prompts import tones
from sipivr.prompts.audio import PROCESSING_VERSION, telephone
from sipivr.prompts.engines import EngineError, ESpeakEngine, OpenJTalkEngine, SpeechEngine
from sipivr.prompts.wording import PromptVariable, Texts, WordingError

LOG: Final = logging.getLogger(__name__)

ATTENTION: Final = "attention"

#: Numbers of digits that a call can come to, by the beginning of the phrase's key.
COUNTS: Final[Mapping[str, range]] = {
    "identification_": range(1, 13),
    "pan_": range(1, 20),
    "expiry_": range(1, 5),
    "security_code_": range(1, 5),
}

_NOTHING: Final[Mapping[str, PromptVariable]] = {}


@dataclass(slots=True)
class PromptProgress:
    """How far preparing has come; the same object is handed out again and again."""

    total: int
    done: int = 0
    made: int = 0
    fell_back: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def default_engines() -> dict[str, SpeechEngine]:
    """Return the engines for the languages that come with the package."""
    return {"ja": OpenJTalkEngine(), "en": ESpeakEngine()}


class PromptLibrary:
    """Gives prompts as files.

    Args:
        cache_dir: Made if absent; may be shared by processes and kept for ever.
        engines: By language; `default_engines` if not given.
        texts: By language; those of the package for each engine's language if not given.
        workers: Threads for preparing; there is one more, so that a call's own prompt need not queue.
    """

    def __init__(
        self,
        cache_dir: Path,
        engines: Mapping[str, SpeechEngine] | None = None,
        texts: Iterable[Texts] | None = None,
        workers: int = 2,
    ) -> None:
        self._engines = dict(engines) if engines is not None else default_engines()
        loaded = texts if texts is not None else [Texts.load(language) for language in self._engines]
        self._texts = {text.language: text for text in loaded}
        self._cache_dir = cache_dir
        self._cache_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers + 1, "prompts", initializer=_yield_to_calls)
        self._making: dict[Path, asyncio.Task[None]] = {}
        self._versions: dict[str, str] = {}

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages there are texts for."""
        return tuple(self._texts)

    async def prepare_fixed(self, progress: Callable[[PromptProgress], None] | None = None) -> PromptProgress:
        """Make every phrase that has no variables, in every language, and the tones.

        Args:
            progress: Called after each one.
        """
        wanted = [
            (texts.language, key, _NOTHING)
            for texts in self._texts.values()
            for key in sorted(texts.keys)
            if not texts.placeholders(key)
        ]
        return await self._prepare(wanted, progress)

    async def prepare_counts(
        self, progress: Callable[[PromptProgress], None] | None = None
    ) -> PromptProgress:
        """Make the phrases whose only variable is a number of digits; in the background, after the fixed."""
        wanted: list[tuple[str, str, Mapping[str, PromptVariable]]] = [
            (texts.language, key, {"count": count})
            for texts in self._texts.values()
            for key in sorted(texts.phrases)
            if texts.placeholders(key) == {"count"}
            for beginning, counts in COUNTS.items()
            if key.startswith(beginning)
            for count in counts
        ]
        return await self._prepare(wanted, progress)

    async def render(
        self, language: str, key: str, variables: Mapping[str, PromptVariable] = _NOTHING
    ) -> Path:
        """Give the file of a phrase, making it if need be. Call it ahead of time for phrases with variables.

        Args:
            language: One of `languages`.
            key: Of the dialogue's catalogue.
            variables: By placeholder; see `wording.PromptVariable`.

        Returns:
            A file of mono int16 little-endian samples at 8 kHz.

        Raises:
            WordingError: No language has such a phrase, or the variables are not its own: our own fault,
                not the voice's.
        """
        path, _ = await self._render(language, key, variables)
        return path

    def ready(
        self, language: str, key: str, variables: Mapping[str, PromptVariable] = _NOTHING
    ) -> Path | None:
        """Give the file if it is there already, without waiting for anything.

        Raises:
            WordingError: As `render`.
        """
        path = self._path(language, key, variables)
        return path if path is not None and path.exists() else None

    async def tone(self, name: str = ATTENTION) -> Path:
        """Give the file of one of `tones.TONES`."""
        path = self._named("tone", name, tones.VERSION)
        await self._ensure(path, lambda: tones.tone(name))
        return path

    async def aclose(self) -> None:
        """Stop the worker threads; what is being made is finished first."""
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _prepare(
        self,
        wanted: list[tuple[str, str, Mapping[str, PromptVariable]]],
        progress: Callable[[PromptProgress], None] | None,
    ) -> PromptProgress:
        state = PromptProgress(total=len(wanted))
        began = time.monotonic()

        async def one(language: str, key: str, variables: Mapping[str, PromptVariable]) -> None:
            had = self.ready(language, key, variables) is not None
            _, fell_back = await self._render(language, key, variables)
            state.done += 1
            state.made += not had
            if fell_back:
                state.fell_back += 1
                state.problems.append(f"{language}/{key}")
            state.seconds = time.monotonic() - began
            if progress is not None:
                progress(state)

        # Versions first: one call of each program instead of one for each phrase.
        await asyncio.get_running_loop().run_in_executor(self._pool, self._learn_versions)
        waiting = iter(wanted)

        async def worker() -> None:
            for each in waiting:
                await one(*each)

        # As many at a time as there are threads: behind a longer queue a call's own prompt would wait.
        await asyncio.gather(*(worker() for _ in range(self._workers)))
        return state

    async def _render(
        self, language: str, key: str, variables: Mapping[str, PromptVariable]
    ) -> tuple[Path, bool]:
        self._check(language, key, variables)
        for candidate in (language, *(other for other in self._texts if other != language)):
            try:
                return await self._speak(candidate, key, variables), candidate != language
            except (EngineError, WordingError, OSError) as exc:
                LOG.warning("prompt %s/%s cannot be spoken: %s", candidate, key, exc)
        LOG.warning("prompt %s/%s: no voice could speak it, a tone stands in", language, key)
        return await self.tone(), True

    async def _speak(self, language: str, key: str, variables: Mapping[str, PromptVariable]) -> Path:
        texts = self._texts[language]
        if key in texts.tones:
            return await self.tone(texts.tones[key])
        text = texts.readable(texts.say(key, variables))
        if language not in self._versions:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._learn_versions)
        path = self._path(language, key, variables)
        if path is None:
            raise EngineError(f"no voice for {language!r}")
        engine = self._engines[language]
        await self._ensure(path, lambda: telephone(engine.speak(text)))
        return path

    def _check(self, language: str, key: str, variables: Mapping[str, PromptVariable]) -> None:
        texts = self._texts.get(language)
        if texts is None:
            raise WordingError(f"no texts for {language!r}")
        if key not in texts.tones:
            texts.say(key, variables)

    def _path(self, language: str, key: str, variables: Mapping[str, PromptVariable]) -> Path | None:
        """Name the file; None while the engine's version is not known, or if there is no engine."""
        self._check(language, key, variables)
        texts = self._texts[language]
        if key in texts.tones:
            return self._named("tone", texts.tones[key], tones.VERSION)
        version = self._versions.get(language)
        if version is None:
            return None
        engine = self._engines[language]
        text = texts.readable(texts.say(key, variables))
        return self._named(engine.name, engine.voice, version, PROCESSING_VERSION, language, text)

    def _named(self, *parts: str) -> Path:
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return self._cache_dir / f"{digest[:40]}.s16"

    def _learn_versions(self) -> None:
        for language, engine in self._engines.items():
            if language not in self._versions:
                with contextlib.suppress(EngineError):
                    self._versions[language] = engine.version

    async def _ensure(self, path: Path, make: Callable[[], NDArray[np.int16]]) -> None:
        if path.exists():  # noqa: ASYNC240 - one stat of a local file; a thread would take longer
            return
        task = self._making.get(path)
        if task is None:
            task = asyncio.create_task(self._make(path, make))
            self._making[path] = task
            task.add_done_callback(lambda made: self._made(path, made))
        # One caller that gives up must not take the prompt from the others.
        await asyncio.shield(task)

    def _made(self, path: Path, made: asyncio.Task[None]) -> None:
        self._making.pop(path, None)
        if not made.cancelled():
            made.exception()  # seen, even if everyone who waited for it has gone

    async def _make(self, path: Path, make: Callable[[], NDArray[np.int16]]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, lambda: write_atomically(path, make()))


def write_atomically(path: Path, samples: NDArray[np.int16]) -> None:
    """Write samples as little-endian int16; readers see the whole file or none."""
    handle, name = tempfile.mkstemp(prefix=".making-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(samples.astype("<i2").tobytes())
        os.chmod(name, 0o640)  # noqa: PTH101 - the name is mkstemp's; media workers read it by group
        os.replace(name, path)  # noqa: PTH105 - as above
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - as above
        raise


def _yield_to_calls() -> None:
    """Lower the priority of this thread alone (Linux counts it per thread)."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
