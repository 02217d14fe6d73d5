"""Prompts in memory, and what each leg plays of them.

All prompts are frames of one array; a playing leg holds the number of its next frame, so that a tick of all
playing legs is one row gather. The end of a prompt, a few times a second, is handled leg by leg.

A playlist ends exactly once: played out, or interrupted by a key, another playlist, a stop or its leg's end.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from media.arrays import Index, Int8, Int16, Int64, grown
from media.dsp import mask
from media.protocol import FRAME_SAMPLES

_FIRST_FRAMES: Final = 1024
#: Under a prompt the bridge goes on, 12 dB softer.
BRIDGE_SHIFT: Final = 2


class PromptStore:
    """Prompts by number, as runs of frames in one array."""

    def __init__(self) -> None:
        self.frames: Int16 = np.zeros((_FIRST_FRAMES, FRAME_SAMPLES), np.int16)
        self._runs: dict[int, tuple[int, int]] = {}
        self._free: list[tuple[int, int]] = [(0, _FIRST_FRAMES)]

    def __contains__(self, prompt: int) -> bool:
        return prompt in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    def run(self, prompt: int) -> tuple[int, int]:
        """First frame of a prompt and the frame after its last."""
        start, count = self._runs[prompt]
        return start, start + count

    def load(self, prompt: int, samples: Int16) -> None:
        """Takes a prompt, in place of an earlier one of the same number."""
        if prompt in self._runs:
            self.unload(prompt)
        count = -(-len(samples) // FRAME_SAMPLES)
        start = self._allocate(count)
        flat = self.frames[start : start + count].reshape(-1)
        flat[: len(samples)] = samples
        flat[len(samples) :] = 0
        self._runs[prompt] = (start, count)

    def unload(self, prompt: int) -> None:
        """Forgets a prompt."""
        start, count = self._runs.pop(prompt)
        if count:
            self._free.append((start, count))
            self._merge()

    def _allocate(self, count: int) -> int:
        for at, (start, room) in enumerate(self._free):
            if room >= count:
                self._free[at] = (start + count, room - count)
                return start
        total = len(self.frames)
        more = max(total, count)
        self.frames = grown(self.frames, total + more)
        self._free.append((total, more))
        self._merge()
        return self._allocate(count)

    def _merge(self) -> None:
        merged: list[tuple[int, int]] = []
        for start, count in sorted(self._free):
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + count)
            elif count:
                merged.append((start, count))
        self._free = merged


@dataclasses.dataclass(slots=True)
class _Playlist:
    number: int
    prompts: tuple[int, ...]
    barge_in: bool
    repeat: bool
    position: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """A playlist of a leg row has ended."""

    row: int
    playlist: int
    interrupted: bool


class Players:
    """What every leg plays."""

    def __init__(self, store: PromptStore, capacity: int) -> None:
        self._store = store
        self._next: Int64 = np.zeros(capacity, np.int64)
        self._end: Int64 = np.zeros(capacity, np.int64)
        self._lists: dict[int, _Playlist] = {}
        self._rows: Index | None = None
        self.shift: Int8 = np.full(capacity, BRIDGE_SHIFT, np.int8)
        """By how many bits what a leg hears is lowered under a prompt."""

    def __len__(self) -> int:
        return len(self._lists)

    def holds(self, prompt: int) -> bool:
        """Whether any playlist still needs a prompt."""
        return any(prompt in playlist.prompts for playlist in self._lists.values())

    def playlist_of(self, row: int) -> int | None:
        """Number of what a leg plays."""
        playlist = self._lists.get(row)
        return playlist.number if playlist else None

    def play(
        self, row: int, number: int, prompts: tuple[int, ...], *, barge_in: bool, repeat: bool
    ) -> list[Finished]:
        """Replaces a leg's playlist."""
        finished = self.stop(row)
        self._lists[row] = _Playlist(number, prompts, barge_in, repeat)
        self._rows = None
        if not self._next_prompt(row, self._lists[row]):
            finished.append(self._finish(row, interrupted=False))
        return finished

    def stop(self, row: int) -> list[Finished]:
        """Ends a leg's playlist, if any."""
        return [self._finish(row, interrupted=True)] if row in self._lists else []

    def key_pressed(self, row: int) -> list[Finished]:
        """Ends a leg's playlist if a key may interrupt it."""
        playlist = self._lists.get(row)
        return self.stop(row) if playlist is not None and playlist.barge_in else []

    def mix(self, out: Int16) -> list[Finished]:
        """Lays a frame of every playing leg over what it hears of the bridge."""
        if not self._lists:
            return []
        if self._rows is None:
            self._rows = np.fromiter(self._lists, np.intp, len(self._lists))
        rows = self._rows
        frames = self._next[rows]
        out[rows] = mask.mix(out[rows] >> self.shift[rows, None], self._store.frames[frames])
        self._next[rows] = frames + 1
        ended = rows[frames + 1 == self._end[rows]]
        finished: list[Finished] = []
        for row in ended.tolist():
            if not self._next_prompt(row, self._lists[row]):
                finished.append(self._finish(row, interrupted=False))
        return finished

    def _next_prompt(self, row: int, playlist: _Playlist) -> bool:
        """Goes on to the next prompt that has a frame; false when there is none."""
        for _ in range(len(playlist.prompts) + 1):
            if playlist.position == len(playlist.prompts):
                if not playlist.repeat:
                    return False
                playlist.position = 0
            if not playlist.prompts:
                return False
            start, end = self._store.run(playlist.prompts[playlist.position])
            playlist.position += 1
            if start < end:
                self._next[row], self._end[row] = start, end
                return True
        return False

    def _finish(self, row: int, *, interrupted: bool) -> Finished:
        self._rows = None
        return Finished(row, self._lists.pop(row).number, interrupted)


class AudioQueues:
    """Audio that a program of our own speaks on a leg, sample by sample (telephones, benches)."""

    def __init__(self) -> None:
        self._waiting: dict[int, Int16] = {}

    def add(self, row: int, samples: Int16) -> None:
        """Appends to what a leg still has to say."""
        before = self._waiting.get(row)
        self._waiting[row] = samples.copy() if before is None else np.concatenate((before, samples))

    def length(self, row: int) -> int:
        """Samples that a leg still has to say."""
        waiting = self._waiting.get(row)
        return 0 if waiting is None else len(waiting)

    def clear(self, row: int) -> None:
        """Overwrites and forgets what a leg had to say."""
        waiting = self._waiting.pop(row, None)
        if waiting is not None:
            waiting[:] = 0

    def mix(self, out: Int16) -> None:
        """Lays a frame of every speaking leg over what it hears of the bridge."""
        for row, waiting in list(self._waiting.items()):
            frame = np.zeros(FRAME_SAMPLES, np.int16)
            frame[: len(waiting)] = waiting[:FRAME_SAMPLES]
            out[row] = mask.mix(out[row] >> BRIDGE_SHIFT, frame)
            if len(waiting) > FRAME_SAMPLES:
                self._waiting[row] = waiting[FRAME_SAMPLES:]
            else:
                del self._waiting[row]
