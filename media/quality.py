"""How good a call sounds, by figures: the E-model of ITU-T G.107 (06/2015) for narrow-band G.711.

Every input but delay and loss keeps its default value (G.107 table 3), which gives R = 93.2. Left to compute are
the impairments by delay, Idd (clause 7.4, with the default sensitivity: sT = 1, mT = 100 ms), and by codec
and loss, Ie,eff (clause 7.5), with G.113 appendix I for G.711: Ie = 0 and Bpl = 4.3, or 25.1 with concealment.
Echo is taken for cancelled (defaults TELR = 65 dB at no delay), and there is no advantage factor.
"""

from __future__ import annotations

import math
from typing import Final

#: R of a connection whose every input is G.107's default.
DEFAULT_R: Final = 93.2
#: G.113 appendix I: how well G.711 stands packet loss, without and with concealment (G.711 appendix I).
BPL_PLAIN: Final = 4.3
BPL_CONCEALED: Final = 25.1
#: The peer's jitter buffer, which it does not tell without extended reports.
ASSUMED_BUFFER_MS: Final = 40.0

_UNNOTICED_MS: Final = 100.0


def delay_impairment(delay_ms: float) -> float:
    """Idd: too long a way from mouth to ear. `delay_ms` is one way."""
    if delay_ms <= _UNNOTICED_MS:
        return 0.0
    x = math.log2(delay_ms / _UNNOTICED_MS)
    impairment: float = 25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2)
    return impairment


def loss_impairment(loss: float, *, bpl: float = BPL_CONCEALED, burst_ratio: float = 1.0) -> float:
    """Ie,eff of G.711.

    Args:
        loss: part of the packets that were not played, 0 to 1.
        bpl: robustness against loss.
        burst_ratio: 1 where losses are independent of each other, more where they come together.
    """
    percent = 100 * min(max(loss, 0.0), 1.0)
    return 95 * percent / (percent / burst_ratio + bpl) if percent else 0.0


def rating(loss: float, delay_ms: float, *, bpl: float = BPL_CONCEALED) -> float:
    """R, the transmission rating, from packet loss (0 to 1) and one-way delay."""
    return DEFAULT_R - delay_impairment(delay_ms) - loss_impairment(loss, bpl=bpl)


def mos_of(r: float) -> float:
    """The estimated mean opinion score of a rating (G.107 annex B), 1 to 4.5."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    # Just above 0 the polynomial runs below the scale that it ends in.
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def mos(loss: float, delay_ms: float, *, bpl: float = BPL_CONCEALED) -> float:
    """MOS from packet loss (0 to 1) and one-way delay."""
    return mos_of(rating(loss, delay_ms, bpl=bpl))


def heard(received: int, missed: int, round_trip_ms: float | None, buffer_ms: float) -> float | None:
    """MOS of a stream over its whole life; None where nothing has come.

    Args:
        received: packets that came.
        missed: packets that were lost, or too late to be played.
        round_trip_ms: by RTCP; unknown counts as none.
        buffer_ms: how long the receiver holds a packet.
    """
    if received <= 0:
        return None
    loss = missed / (received + missed)
    return round(mos(loss, (round_trip_ms or 0.0) / 2 + buffer_ms), 2)
