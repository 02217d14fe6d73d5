"""G.711 against the recommendation's own values, against its formulas, and against another implementation."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest

from media.dsp import g711

ALL = np.arange(65536, dtype=np.uint16).view(np.int16)

# ITU-T G.711 tables 2a and 1a: decoder output values at the ends of segments, on the 14- and 13-bit scales.
MULAW_POSITIVE = {0x80: 8031, 0x8F: 4191, 0x9F: 2079, 0xAF: 1023, 0xBF: 495, 0xCF: 231, 0xDF: 99, 0xEF: 33}
ALAW_POSITIVE = {0xFF: 4032, 0xF0: 2112, 0xE0: 1056, 0xD0: 528, 0xC0: 264, 0xB0: 132, 0xA0: 66, 0x80: 1}


@pytest.fixture(scope="module")
def audioop() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("audioop") and importlib.import_module("audioop")


@pytest.mark.parametrize(("code", "value"), MULAW_POSITIVE.items())
def test_mulaw_table(code: int, value: int) -> None:
    assert g711.DECODE[0][code] == 4 * value
    assert g711.DECODE[0][code & 0x7F] == -4 * value


@pytest.mark.parametrize(("character", "value"), ALAW_POSITIVE.items())
def test_alaw_table(character: int, value: int) -> None:
    # The table lists character signals before the even bits are inverted (G.711 note 2 to table 1a).
    assert g711.DECODE[1][character ^ 0x55] == 8 * value
    assert g711.DECODE[1][(character ^ 0x55) & 0x7F] == -8 * value


def test_digital_milliwatt_is_0_dbm0() -> None:
    # G.711 table 5 and 6: these eight codes are a 1 kHz sine at 0 dBm0.
    mulaw = [0x1E, 0x0B, 0x0B, 0x1E, 0x9E, 0x8B, 0x8B, 0x9E]
    alaw = [0x34, 0x21, 0x21, 0x34, 0xB4, 0xA1, 0xA1, 0xB4]
    for law, codes in enumerate((mulaw, alaw)):
        rms = np.sqrt(np.mean(g711.DECODE[law][codes].astype(float) ** 2))
        level = 20 * np.log10(rms * np.sqrt(2) / g711.AMPLITUDE_0_DBM0)
        assert abs(level) < 0.1


@pytest.mark.parametrize("law", [0, 1])
def test_encoding_picks_the_nearest_value(law: int) -> None:
    decoded = g711.DECODE[law].astype(np.int64)
    got = np.abs(decoded[g711.ENCODE[law]] - ALL)
    step = np.maximum(np.abs(ALL.astype(np.int64)) // 16, 16)
    inside = np.abs(ALL.astype(np.int64)) < decoded.max()
    assert (got <= step)[inside].all()


@pytest.mark.parametrize("law", [0, 1])
def test_every_code_survives(law: int) -> None:
    again = g711.ENCODE[law][g711.DECODE[law].view(np.uint16)]
    expected = np.arange(256, dtype=np.uint8)
    if law == 0:
        expected[0x7F] = 0xFF  # there is one zero
    assert (again == expected).all()


def test_mulaw_is_symmetric() -> None:
    positive = np.arange(1, 32768, dtype=np.uint16)
    assert (g711.ENCODE[0][positive] == g711.ENCODE[0][(65536 - positive.astype(int))] | 0x80).all()


def test_against_audioop(audioop: Any) -> None:
    codes = bytes(range(256))
    assert np.array_equal(np.frombuffer(audioop.ulaw2lin(codes, 2), np.int16), g711.DECODE[0])
    assert np.array_equal(np.frombuffer(audioop.alaw2lin(codes, 2), np.int16), g711.DECODE[1])
    assert np.array_equal(
        np.frombuffer(audioop.lin2alaw(ALL.tobytes(), 2), np.uint8)[ALL.view(np.uint16)],
        g711.ENCODE[1][ALL.view(np.uint16)],
    )
    whole = ALL[ALL % 4 == 0]  # audioop drops the two bits below µ-law's 14 first
    theirs = np.frombuffer(audioop.lin2ulaw(whole.tobytes(), 2), np.uint8)
    assert np.array_equal(theirs, g711.ENCODE[0][whole.view(np.uint16)])


def test_laws_by_row() -> None:
    codes = np.tile(np.arange(160, dtype=np.uint8), (3, 1))
    out = np.zeros((3, 160), np.int16)
    rows = np.array([1])
    g711.decode(codes, rows, out)
    assert np.array_equal(out[0], g711.DECODE[0][:160])
    assert np.array_equal(out[1], g711.DECODE[1][:160])
    back = np.zeros_like(codes)
    g711.encode(out, rows, back)
    back[:, 0x7F] = 0x7F
    assert np.array_equal(back, codes)
