"""Engines that the tests control."""

from __future__ import annotations

import threading

import numpy as np

from sipivr.prompts.engines import EngineError, Speech


class ToneEngine:
    """Speaks every text as a chirp; counts; can be held or broken."""

    name = "chirp"
    voice = "v"

    def __init__(self, version: str = "1", *, broken: bool = False, absent: bool = False) -> None:
        self._version = version
        self._broken = broken
        self._absent = absent
        self.spoken: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def version(self) -> str:
        if self._absent:
            raise EngineError("absent")
        return self._version

    def speak(self, text: str) -> Speech:
        self.go_on.wait(10)
        self.spoken.append(text)
        if self._broken:
            raise EngineError("broken")
        time_s = np.arange(8_000) / 16_000
        return Speech(np.sin(2 * np.pi * (400 + 600 * time_s) * time_s) * 30_000, 16_000)
