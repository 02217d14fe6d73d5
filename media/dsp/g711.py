"""G.711 by table: 256 entries to int16 and 65,536 entries back, for both laws (ITU-T G.711).

µ-law codes stand for 14-bit samples and A-law codes for 13-bit ones; both are scaled to 16 bits, so that
µ-law ends at ±32,124 and A-law at ±32,256. Encoding rounds to the nearest decision interval of the
standard, as tables 1a to 2b of G.711 define it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Index, Int16, Int32, UInt8, UInt32

#: Code that decodes to (nearly) nothing, by law index: positive zero of µ-law, the smallest step of A-law.
SILENCE_CODES: Final = (0xFF, 0xD5)

#: Amplitude of one sine at 0 dBm0: µ-law overloads at +3.17 dBm0, its last decision value of 8,159 on
#: 14 bits (G.711 §4). A-law's differs by 0.07 dB.
AMPLITUDE_0_DBM0: Final = 4 * 8159 / 10 ** (3.17 / 20)


def _decode_mulaw() -> Int16:
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4).astype(np.int32) & 7
    mantissa = code.astype(np.int32) & 15
    magnitude = ((((mantissa << 1) + 33) << exponent) - 33) << 2
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _decode_alaw() -> Int16:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = (code >> 4).astype(np.int32) & 7
    mantissa = code.astype(np.int32) & 15
    linear = (mantissa << 4) + 8
    magnitude = np.where(exponent > 0, (linear + 0x100) << np.maximum(exponent - 1, 0), linear)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _segment(magnitude: Int32) -> Int32:
    """Position of the highest set bit above bit 7, 0 to 7."""
    return np.clip(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 7, 0, 7)


def _encode_mulaw() -> UInt8:
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum(np.abs(sample), 32635) + 132
    exponent = _segment(magnitude)
    mantissa = (magnitude >> (exponent + 3)) & 15
    code = (exponent << 4) | mantissa | np.where(sample < 0, 0x80, 0)
    return (~code & 0xFF).astype(np.uint8)


def _encode_alaw() -> UInt8:
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum(np.where(sample < 0, ~sample, sample), 32767)
    exponent = _segment(magnitude)
    mantissa = (magnitude >> np.where(exponent > 0, exponent + 3, 4)) & 15
    code = (exponent << 4) | mantissa | np.where(sample < 0, 0, 0x80)
    return (code ^ 0x55).astype(np.uint8)


#: `[law][code]` → sample; law 0 is µ-law, 1 is A-law.
DECODE: Final[tuple[Int16, Int16]] = (_decode_mulaw(), _decode_alaw())
#: `[law][sample as uint16]` → code.
ENCODE: Final[tuple[UInt8, UInt8]] = (_encode_mulaw(), _encode_alaw())


def _pairs(law: int) -> UInt32:
    """Two codes as they lie in memory → two samples: half the look-ups, in a table that fits the L2 cache."""
    both = np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    return np.ascontiguousarray(DECODE[law][both]).view(np.uint32).reshape(-1)


_PAIRS: Final[tuple[UInt32, UInt32]] = (_pairs(0), _pairs(1))


def decode(codes: UInt8, alaw_rows: Index, out: Int16) -> None:
    """Codes `(legs, samples)`, an even number of samples, to samples in `out`; µ-law but for the rows named."""
    all_alaw = len(alaw_rows) == len(codes)
    pairs = codes.view(np.uint16)
    _PAIRS[all_alaw].take(pairs, out=out.view(np.uint32), mode="wrap")
    if alaw_rows.size and not all_alaw:
        out[alaw_rows] = _PAIRS[1].take(pairs[alaw_rows]).view(np.int16)


def encode(samples: Int16, alaw_rows: Index, out: UInt8) -> None:
    """Samples `(legs, samples)` to codes in `out`; µ-law but for the rows named."""
    all_alaw = len(alaw_rows) == len(samples)
    ENCODE[all_alaw].take(samples.view(np.uint16), out=out, mode="wrap")
    if alaw_rows.size and not all_alaw:
        out[alaw_rows] = ENCODE[1].take(samples[alaw_rows].view(np.uint16))
