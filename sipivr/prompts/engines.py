"""Speech engines behind one small port. They block; the library runs them in worker threads."""

from __future__ import annotations

import contextlib
import importlib
import io
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable
from importlib import metadata
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

Result = TypeVar("Result")


class EngineError(Exception):
    """The engine is not there, or could not speak this text."""


class Speech(NamedTuple):
    """What an engine gives: samples in any scale, and their rate."""

    samples: Samples
    rate_hz: int


class SpeechEngine(Protocol):
    """Speaks one language with one voice. Name, voice and version are part of the cache's key."""

    @property
    def name(self) -> str:
        """Short name of the engine."""
        ...

    @property
    def voice(self) -> str:
        """Voice and pace."""
        ...

    @property
    def version(self) -> str:
        """Version of engine and voice; another one is another sound.

        Raises:
            EngineError: The engine is not there.
        """
        ...

    def speak(self, text: str) -> Speech:
        """Speak. Blocks; called from several threads.

        Raises:
            EngineError: It cannot.
        """
        ...


class OpenJTalkEngine:
    """Japanese by Open JTalk with the voice "Mei" (CC BY 3.0), both carried by ``pyopenjtalk-plus``.

    Args:
        speed: 1.0 is the voice's own pace.
    """

    name = "open_jtalk"

    #: The readings by Sudachi and the model for 何 cost memory and give our texts nothing (checked by kana).
    _OPTIONS: Final = {"use_sudachi_kanji_yomi": False, "predict_nani": False}

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._lock = threading.Lock()
        self._module: Any = None

    @property
    def voice(self) -> str:
        """Voice and pace."""
        return f"mei_normal/{self._speed}"

    @property
    def version(self) -> str:
        """Version of the package, which carries engine, dictionary and voice.

        Raises:
            EngineError: It is not installed.
        """
        try:
            return metadata.version("pyopenjtalk-plus")
        except metadata.PackageNotFoundError:
            raise EngineError("pyopenjtalk-plus is not installed") from None

    def speak(self, text: str) -> Speech:
        """Speak Japanese; the synthesis itself runs without the interpreter's lock."""

        def speak() -> Speech:
            samples, rate_hz = self._load().tts(text, speed=self._speed, **self._OPTIONS)
            return Speech(samples, int(rate_hz))

        return self._guarded(speak)

    def reading(self, text: str) -> str:
        """Return the kana that would be spoken."""
        return str(self._guarded(lambda: self._load().g2p(text, kana=True, **self._OPTIONS)))

    def _guarded(self, work: Callable[[], Result]) -> Result:
        with self._lock:
            try:
                return work()
            except EngineError:
                raise
            except Exception as exc:  # the engine's C code raises whatever it likes
                raise EngineError(f"Open JTalk: {exc}") from exc

    def _load(self) -> Any:
        if self._module is None:
            try:
                # It prints a hint about an optional model when imported.
                with contextlib.redirect_stdout(io.StringIO()):
                    self._module = importlib.import_module("pyopenjtalk")
            except ImportError as exc:
                raise EngineError(f"pyopenjtalk-plus: {exc}") from exc
        return self._module


class ESpeakEngine:
    """English (and, if need be, other languages) by the program ``espeak-ng``.

    Args:
        voice: A language of eSpeak NG's list of voices, such as ``en-us``.
        words_per_minute: Its own default, 175, is fast for a telephone.
        program: Name or path of the program.
    """

    name = "espeak_ng"

    def __init__(self, voice: str = "en-us", words_per_minute: int = 150, program: str = "espeak-ng") -> None:
        self._voice = voice
        self._words_per_minute = words_per_minute
        self._program = program
        self._version = ""

    @property
    def voice(self) -> str:
        """Voice and pace."""
        return f"{self._voice}/{self._words_per_minute}"

    @property
    def version(self) -> str:
        """What the program says of itself.

        Raises:
            EngineError: It is not installed, or has no such voice.
        """
        if not self._version:
            told = self._run(["--version"], b"").decode("utf-8", "replace")
            # Asked for a voice that it does not have, it takes some other one without a word.
            rows = self._run(["--voices"], b"").decode("utf-8", "replace").splitlines()[1:]
            if self._voice not in {row.split()[1] for row in rows if len(row.split()) > 1}:
                raise EngineError(f"{self._program} has no voice {self._voice}")
            self._version = told.partition("Data at")[0].strip()
        return self._version

    def speak(self, text: str) -> Speech:
        """Speak; the text goes through a pipe, so nothing in it can be an option."""
        _ = self.version  # and with it, that the voice is there
        arguments = ["-v", self._voice, "-s", str(self._words_per_minute), "-b", "1", "--stdin", "--stdout"]
        return _wav(self._run(arguments, text.encode("utf-8")))

    def _run(self, arguments: list[str], given: bytes) -> bytes:
        program = shutil.which(self._program)
        if program is None:
            raise EngineError(f"{self._program} is not installed")
        try:
            done = subprocess.run(
                [program, *arguments], input=given, capture_output=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError) as exc:
            raise EngineError(f"{self._program}: {exc}") from exc
        return done.stdout


def _wav(octets: bytes) -> Speech:
    """Read 16-bit mono WAV from a pipe, where the sizes in the headers are not to be trusted."""
    if octets[:4] != b"RIFF" or octets[8:12] != b"WAVE":
        raise EngineError("no WAV")
    position, rate_hz = 12, 0
    while position + 8 <= len(octets):
        chunk, size = octets[position : position + 4], struct.unpack_from("<I", octets, position + 4)[0]
        position += 8
        if chunk == b"fmt ":
            _format, channels, rate_hz, _bytes, _align, bits = struct.unpack_from("<HHIIHH", octets, position)
            if (channels, bits) != (1, 16):
                raise EngineError("WAV is not 16-bit mono")
        elif chunk == b"data" and rate_hz:
            end = position + (len(octets) - position) // 2 * 2
            return Speech(np.frombuffer(octets[position:end], "<i2").astype(np.float64), rate_hz)
        position += size
    raise EngineError("WAV without samples")
