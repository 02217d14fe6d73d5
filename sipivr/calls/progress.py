"""What desks may see of running captures, published on a fixed 500 ms clock.

The clock belongs to the node, not to a call: whatever happens between two beats is shown at the next one, so
the time of a notice says nothing about the time of a key (invariant 1).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

from sipivr.control.messages import ProgressNotice

BEAT_S: Final = 0.5

Values = Mapping[str, str | int | bool | None]


class ProgressBoard:
    """The latest state of every capture; what changed is published at the next beat.

    Args:
        publish: takes a notice; must not block.
    """

    def __init__(self, publish: Callable[[ProgressNotice], None]) -> None:
        self._publish = publish
        self._changed: dict[str, ProgressNotice] = {}
        self._shown: dict[str, ProgressNotice] = {}
        self._over: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the clock."""
        self._task = asyncio.ensure_future(self._beat())

    def stop(self) -> None:
        """Stops the clock."""
        if self._task is not None:
            self._task.cancel()

    def show(self, *, merchant: str, session: str, call: str, values: Values) -> None:
        """The capture of `call` now looks like this."""
        self._changed[call] = ProgressNotice(
            merchant=merchant, session=session, call=call, values=dict(values)
        )

    def forget(self, call: str) -> None:
        """Nothing more will come of the call: its last state is published at the next beat, then forgotten."""
        self._over.add(call)

    def __len__(self) -> int:
        return len(self._changed.keys() | self._shown.keys())

    async def _beat(self) -> None:
        while True:
            now = time.time()
            await asyncio.sleep((math.floor(now / BEAT_S) + 1) * BEAT_S - now)
            changed, self._changed = self._changed, {}
            for call, notice in changed.items():
                if self._shown.get(call) != notice:
                    self._shown[call] = notice
                    self._publish(notice)
            over, self._over = self._over, set()
            for call in over:
                self._shown.pop(call, None)
