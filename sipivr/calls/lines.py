"""How many calls each number, and each trunk, carries at this moment."""

from __future__ import annotations


class Lines:
    """Counts by id; who is free again leaves nothing behind."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._taken)

    def taken(self, id: str) -> int:
        """Of one."""
        return self._taken.get(id, 0)

    @property
    def total(self) -> int:
        """Of all."""
        return sum(self._taken.values())

    def take(self, id: str) -> None:
        """One more."""
        self._taken[id] = self.taken(id) + 1

    def free(self, id: str) -> None:
        """One less."""
        left = self.taken(id) - 1
        if left > 0:
            self._taken[id] = left
        else:
            self._taken.pop(id, None)
