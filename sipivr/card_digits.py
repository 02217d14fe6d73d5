"""The ground of `sipivr.card`: rows of digits that do not print, copy or serialise, and can be wiped.

Nobody but `sipivr.card` imports this.
"""

from __future__ import annotations

from typing import ClassVar, Final, Never

ZERO: Final = ord("0")


class CardWipedError(Exception):
    """The card data was asked for after it had been wiped, or before it was complete. Carries no data."""


def new_buffer(size: int) -> bytearray:
    """Every bytearray that ever holds a digit comes from here, so that a test can look at all of them."""
    return bytearray(size)


class Secret:
    """What may not be printed, copied, compared or serialised."""

    __slots__ = ()
    _shown: ClassVar[str] = "<hidden>"

    def __repr__(self) -> str:
        return self._shown

    def __str__(self) -> str:
        return self._shown

    def __format__(self, format_spec: str) -> str:
        return self._shown

    def _refuse(self, *_: object) -> Never:
        raise TypeError(f"{type(self).__name__} holds card data and does not do this")

    __reduce__ = _refuse
    __reduce_ex__ = _refuse
    __getstate__ = _refuse
    __setstate__ = _refuse
    __copy__ = _refuse
    __deepcopy__ = _refuse
    __eq__ = _refuse
    __ne__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = None  # type: ignore[assignment]
    __iter__ = _refuse
    __getitem__ = _refuse
    __contains__ = _refuse
    __len__ = _refuse
    __bytes__ = _refuse
    __int__ = _refuse
    __index__ = _refuse

    def __bool__(self) -> bool:
        """Always true: `if pan:` asks whether there is one, and must not fall through to `__len__`."""
        return True


class Digits(Secret):
    """A row of ASCII digits in a bytearray that never moves."""

    __slots__ = ("_digits", "_length", "_wiped")

    def __init__(self, digits: bytearray, length: int) -> None:
        self._digits = digits
        self._length = length
        self._wiped = False

    @property
    def length(self) -> int:
        """How many digits there are."""
        return self._length

    @property
    def wiped(self) -> bool:
        """Whether `wipe` has been called."""
        return self._wiped

    def wipe(self) -> None:
        """Overwrites every byte. Cannot fail and may be called again."""
        for index in range(len(self._digits)):
            self._digits[index] = 0
        self._length = 0
        self._wiped = True

    def _number(self, start: int, stop: int) -> int:
        value = 0
        for index in range(start, stop):
            value = value * 10 + self._digits[index] - ZERO
        return value

    def _check_readable(self) -> None:
        if self._wiped:
            raise CardWipedError(type(self).__name__)

    def _copy_of_digits(self) -> bytearray:
        self._check_readable()
        copy = new_buffer(self._length)
        # A slice would pass through a temporary bytearray that nobody could overwrite.
        for index in range(self._length):
            copy[index] = self._digits[index]
        return copy


class DigitEntry(Digits):
    """A field while it is being keyed: digits are appended, cleared, and finally taken by a value type."""

    __slots__ = ("_capacity",)

    def __init__(self, capacity: int) -> None:
        super().__init__(new_buffer(capacity), 0)
        self._capacity = capacity

    def append(self, key: int) -> None:
        """Appends one digit.

        Args:
            key: a telephone-event code from 0 to 9 (RFC 4733 §3.2: the digit itself).

        Raises:
            ValueError: the key is no digit, or the field is full. Does not say which key it was.
        """
        if not 0 <= key <= 9:
            raise ValueError("not a digit key")
        if self.full:
            raise ValueError("the field is full")
        self._digits[self._length] = ZERO + key
        self._length += 1
        self._wiped = False

    def clear(self) -> None:
        """Forgets and overwrites what was keyed. The entry is usable again."""
        self.wipe()
        self._wiped = False

    @property
    def full(self) -> bool:
        """Whether no further digit can belong to this field."""
        return self._length >= self._capacity

    @property
    def complete(self) -> bool:
        """Whether what was keyed may be the whole field."""
        return self.full

    def _give(self) -> tuple[bytearray, int]:
        """Hands the bytes over and starts afresh: there is never a second copy."""
        given, length = self._digits, self._length
        self._digits, self._length = new_buffer(len(given)), 0
        return given, length
