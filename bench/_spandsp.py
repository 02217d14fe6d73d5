"""spandsp's DTMF receiver (Debian's `libspandsp2`) through ctypes: what the C switches use, as a measure."""

from __future__ import annotations

import ctypes
import time
from typing import Final

import numpy as np

from media.arrays import Int16

#: Samples between two looks at what it has found; its own blocks are 102 samples.
_CHUNK: Final = 800
_MOST_DIGITS: Final = 128
_KEYS: Final = {ord(digit): code for code, digit in enumerate("0123456789*#ABCD")}


class Spandsp:
    """The library.

    Raises:
        OSError: it is not there; `apt-get install libspandsp2` brings it.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL("libspandsp.so.2")
        self._init = library.dtmf_rx_init
        self._init.restype = ctypes.c_void_p
        self._init.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        self._receive = library.dtmf_rx
        self._receive.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        self._get = library.dtmf_rx_get
        self._get.restype = ctypes.c_size_t
        self._get.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        self._free = library.dtmf_rx_free
        self._free.argtypes = [ctypes.c_void_p]

    def keys(self, audio: Int16) -> list[list[int]]:
        """The keys that it finds in each row of `(legs, samples)`, with the limits that it has by itself."""
        return [self._keys_of(np.ascontiguousarray(row)) for row in audio]

    def _keys_of(self, samples: Int16) -> list[int]:
        receiver = self._init(None, None, None)
        found: list[int] = []
        digits = ctypes.create_string_buffer(_MOST_DIGITS + 1)
        try:
            for start in range(0, len(samples), _CHUNK):
                part = samples[start : start + _CHUNK]
                self._receive(receiver, part.ctypes.data, len(part))
                count = self._get(receiver, digits, _MOST_DIGITS)
                found += [_KEYS[digit] for digit in digits.raw[:count]]
        finally:
            self._free(receiver)
        return found

    def ns_per_frame(self, audio: Int16) -> float:
        """What 160 samples cost it, ns, in calls so long that calling costs nothing."""
        receivers = [self._init(None, None, None) for _ in audio]
        rows = [np.ascontiguousarray(row) for row in audio]
        try:
            started = time.thread_time_ns()
            for receiver, row in zip(receivers, rows, strict=True):
                self._receive(receiver, row.ctypes.data, len(row))
            return (time.thread_time_ns() - started) * 160 / audio.size
        finally:
            for receiver in receivers:
                self._free(receiver)


def load() -> Spandsp | None:
    """The library, None where it is not."""
    try:
        return Spandsp()
    except (OSError, AttributeError):
        return None
