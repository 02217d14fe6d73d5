"""What an operator keys on their own leg: `*9` and an identification number begin a capture.

A key that does not fit begins anew, and so does a pause: whoever mistypes keys the whole code again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_STAR: Final = 10
_NINE: Final = 9
#: The longest pause between two keys of one code.
_PAUSE_S: Final = 10.0


class DeskKeys:
    """See the module.

    Args:
        digits: of an identification number of this merchant.
        identified: is given each whole number.
    """

    def __init__(self, digits: int, identified: Callable[[str], None]) -> None:
        self._digits = digits
        self._identified = identified
        self._keyed: list[int] = []
        self._pause: asyncio.TimerHandle | None = None

    def key(self, key: int) -> None:
        """A key (telephone-event code)."""
        self.stop_waiting()
        if key == _STAR:
            self._keyed = [key]
        elif self._keyed and key < _STAR and (len(self._keyed) > 1 or key == _NINE):
            self._keyed.append(key)
        else:
            self._keyed.clear()
        if len(self._keyed) == 2 + self._digits:
            number = "".join(map(str, self._keyed[2:]))
            self._keyed.clear()
            self._identified(number)
        elif self._keyed:
            self._pause = asyncio.get_running_loop().call_later(_PAUSE_S, self._keyed.clear)

    def stop_waiting(self) -> None:
        """No pause is timed."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def stop(self) -> None:
        """The leg is over."""
        self.stop_waiting()
        self._keyed.clear()
