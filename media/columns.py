"""Sets of columns: arrays with one entry for each leg row, that grow and are wiped together."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from media.arrays import grown


class ColumnSet:
    """Base of what keeps one array entry for each leg.

    Every array attribute is a column. An entry that is new or wiped holds what `FILLS` names, or zero.
    """

    FILLS: ClassVar[dict[str, int]] = {}

    def _names(self) -> list[str]:
        return [name for name, value in vars(self).items() if isinstance(value, np.ndarray)]

    def grow(self, capacity: int) -> None:
        """Makes room for more legs."""
        for name in self._names():
            setattr(self, name, grown(getattr(self, name), capacity, self.FILLS.get(name, 0)))

    def clear(self, row: int) -> None:
        """Overwrites all that is known of a leg."""
        for name in self._names():
            getattr(self, name)[row] = self.FILLS.get(name, 0)
