"""Names for the array types of the media plane, how a column grows, and how its pages come to be."""

from __future__ import annotations

from typing import Any, Final, TypeVar

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
Complex64 = npt.NDArray[np.complex64]
Float64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

_PAGE_BYTES: Final = 4096

_A = TypeVar("_A", bound="npt.NDArray[Any]")


def grown(column: _A, capacity: int, fill: int | float = 0, axis: int = 0) -> _A:
    """A copy of `column` with `capacity` entries along `axis`; the new ones hold `fill`."""
    shape = list(column.shape)
    shape[axis] = capacity - shape[axis]
    tail = np.full(shape, fill, column.dtype)
    return np.concatenate((column, tail), axis=axis)  # type: ignore[return-value]


def populate(owner: object) -> int:
    """Touches every page of the arrays that an object and its parts hold; values stay as they are.

    A page that is written for the first time costs the kernel a microsecond or several, and a leg that comes has
    hundreds of them in as many columns: that is paid before there are calls.

    Args:
        owner: its attributes that are arrays, and those of its attributes that are objects of the media plane.

    Returns:
        Bytes.
    """
    seen: set[int] = set()
    waiting = [owner]
    total = 0
    while waiting:
        part = waiting.pop()
        if id(part) in seen or not type(part).__module__.startswith("media."):
            continue
        seen.add(id(part))
        names = [name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())]
        values = [*vars(part).values()] if hasattr(part, "__dict__") else []
        values += [getattr(part, name) for name in names if hasattr(part, name)]
        for value in values:
            if isinstance(value, np.ndarray):
                total += _touch(value)
            elif not isinstance(value, type):
                waiting.append(value)
    return total


def _touch(array: npt.NDArray[Any]) -> int:
    if not (array.flags.c_contiguous and array.flags.writeable):
        return 0
    pages = array.reshape(-1).view(np.uint8)[::_PAGE_BYTES]
    np.bitwise_or(pages, 0, out=pages)
    return array.nbytes
