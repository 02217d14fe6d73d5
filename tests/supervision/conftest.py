"""A household of small real processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sipivr.supervision.child import ChildSpec

FAKE = Path(__file__).with_name("fake_child.py")


class Journal:
    """What the children have written, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def pids(self, name: str) -> list[int]:
        return [int(line.split()[2]) for line in self.lines() if line.startswith(f"{name} started ")]

    def words(self, word: str) -> list[str]:
        return [line.split()[0] for line in self.lines() if line.split()[1] == word]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def fake(journal: Journal) -> Callable[..., ChildSpec]:
    def make(name: str, *arguments: str, rank: int = 0, **more: object) -> ChildSpec:
        argv = (sys.executable, "-S", str(FAKE), name, "--journal", str(journal.path), *arguments)
        return ChildSpec(name=name, argv=argv, stop_rank=rank, **more)  # type: ignore[arg-type]

    return make


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Waits for something that another process does."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if (await answer) if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.01)
