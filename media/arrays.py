"""Names for the array types of the media plane, and the one way in which a column grows."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int8 = npt.NDArray[np.int8]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

_A = TypeVar("_A", bound="npt.NDArray[Any]")


def grown(column: _A, capacity: int, fill: int | float = 0, axis: int = 0) -> _A:
    """A copy of `column` with `capacity` entries along `axis`; the new ones hold `fill`."""
    shape = list(column.shape)
    shape[axis] = capacity - shape[axis]
    tail = np.full(shape, fill, column.dtype)
    return np.concatenate((column, tail), axis=axis)  # type: ignore[return-value]
