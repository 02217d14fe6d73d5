"""The rows of `bench dtmf`: ITU-T Q.24 (table A-1, the stricter of AT&T and NTT) as conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from bench._dtmf_audio import Keying


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table."""

    name: str
    keying: Keying
    least: float = 1.0
    """Share of the keys that must be found."""
    most: float | None = None
    """Share that may be found, where the condition is one to refuse."""
    nothing_false: bool = True
    """No key that nobody pressed, no double."""


def _refused(name: str, keying: Keying, most: float = 0.0) -> Condition:
    return Condition(name, keying, least=0.0, most=most, nothing_false=most == 0.0)


CONDITIONS: Final = (
    Condition("50/50 ms", Keying()),
    Condition("40/30 ms", Keying(tone_ms=40, pause_ms=30)),
    Condition("40/30 ms, one key", Keying(tone_ms=40, pause_ms=30, same_key=True)),
    Condition("10 keys/s, 65/35 ms", Keying(tone_ms=65, pause_ms=35)),
    Condition("1 s tones", Keying(tone_ms=1000, pause_ms=60)),
    Condition("0 dBm0", Keying(level_dbm0=0)),
    Condition("-3 dBm0", Keying(level_dbm0=-3)),
    Condition("-25 dBm0, 40 ms", Keying(tone_ms=40, level_dbm0=-25)),
    Condition("twist +4 dB, 40 ms", Keying(tone_ms=40, twist_db=4)),
    Condition("twist -8 dB, 40 ms", Keying(tone_ms=40, twist_db=-8)),
    Condition("twist -8 dB, weaker at -25 dBm0", Keying(tone_ms=40, level_dbm0=-17, twist_db=-8)),
    Condition("twist +4 dB, weaker at -25 dBm0", Keying(tone_ms=40, level_dbm0=-21, twist_db=4)),
    Condition("±1.8 %, 40 ms", Keying(tone_ms=40, offset=0.018)),
    Condition("±1.8 %, twist -8 dB, 0 dBm0", Keying(offset=0.018, twist_db=-8, level_dbm0=0)),
    Condition("S/N 15 dB, 45 ms", Keying(tone_ms=45, snr_db=15)),
    # More than Q.24 asks: of these two tones the weaker one stands 7 dB above the noise.
    Condition(
        "S/N 15 dB, ±1.8 %, twist -8 dB, 50 ms", Keying(snr_db=15, offset=0.018, twist_db=-8), least=0.998
    ),
    Condition("interrupted for 10 ms", Keying(tone_ms=100, gap_ms=10)),
    Condition("interrupted for 10 ms, one key", Keying(tone_ms=100, gap_ms=10, same_key=True)),
    # Of 65 ms one loss leaves 45; two in a row leave less than anybody can tell from 23 ms.
    Condition("loss 1 %, 65/35 ms", Keying(tone_ms=65, pause_ms=35, loss=0.01), least=0.999),
    Condition("loss 1 %, 100/100 ms, one key", Keying(tone_ms=100, pause_ms=100, loss=0.01, same_key=True)),
    Condition("loss 5 %, 100/100 ms", Keying(tone_ms=100, pause_ms=100, loss=0.05), least=0.999),
    Condition("echo of a prompt, -12 dB, 20 ms", Keying(tone_ms=65, echo_db=-12, echo_ms=20)),
    Condition("echo of a prompt, -12 dB, 100 ms", Keying(tone_ms=65, echo_db=-12, echo_ms=100)),
    Condition("echo of a prompt, -12 dB, 300 ms", Keying(tone_ms=65, echo_db=-12, echo_ms=300)),
    Condition("the same 100 ms, keys -15 dBm0", Keying(tone_ms=65, level_dbm0=-15, echo_db=-12), least=0.999),
    _refused("±3.5 %", Keying(tone_ms=100, offset=0.035)),
    _refused("20 ms", Keying(tone_ms=20)),
    # Between 23 and 40 ms Q.24 allows either; 23 itself stands on the edge.
    _refused("23 ms", Keying(tone_ms=23), most=0.05),
    _refused("-55 dBm0", Keying(level_dbm0=-55)),
    _refused("twist +12 dB", Keying(twist_db=12)),
    _refused("twist -16 dB", Keying(twist_db=-16)),
)

#: What is swept for the plots: name, unit, values, and the keying for each.
SWEEPS: Final[tuple[tuple[str, str, tuple[float, ...], Callable[[float], Keying]], ...]] = (
    ("S/N", "dB", tuple(range(0, 21, 2)), lambda value: Keying(tone_ms=65, snr_db=value)),
    ("twist", "dB", tuple(range(-16, 13, 2)), lambda value: Keying(tone_ms=65, twist_db=value)),
    (
        "frequency offset",
        "%",
        tuple(value / 4 for value in range(0, 18)),
        lambda value: Keying(tone_ms=65, offset=value / 100),
    ),
    ("length", "ms", tuple(range(14, 62, 4)), lambda value: Keying(tone_ms=value)),
)
