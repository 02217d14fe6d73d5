"""The rows and the columns of keys of `bench rtp_impairments`: what is done to RTP, and how legs key through it."""

from __future__ import annotations

import dataclasses
from typing import Final

from bench._impairments import Network, Sender


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table."""

    name: str
    sender: Sender = dataclasses.field(default_factory=Sender)
    network: Network = dataclasses.field(default_factory=Network)
    required: bool = False
    """No key of 100 ms in band and none by telephone-event may be lost."""


CONDITIONS: Final = (
    Condition("none", required=True),
    Condition("loss 1 %", network=Network(loss=0.01)),
    Condition("loss 5 %", network=Network(loss=0.05), required=True),
    Condition("loss 10 %", network=Network(loss=0.10)),
    Condition("loss 5 % in bursts of 3", network=Network(loss=0.05, burst=3)),
    Condition("jitter 20 ms", network=Network(jitter_ms=20)),
    Condition("jitter 60 ms", network=Network(jitter_ms=60), required=True),
    Condition("jitter 100 ms", network=Network(jitter_ms=100)),
    Condition("jitter 60 ms, in order", network=Network(jitter_ms=60, in_order=True)),
    Condition("5 % reordered", network=Network(reorder=0.05)),
    Condition("10 % twice", network=Network(duplicates=0.10)),
    Condition("way 80 ms longer every other 10 s", network=Network(step_ms=80)),
    Condition("clock +200 ppm", Sender(ppm=200)),
    Condition("clock -200 ppm", Sender(ppm=-200)),
    Condition("clock +1000 ppm", Sender(ppm=1000)),
    Condition("clock -1000 ppm", Sender(ppm=-1000)),
    Condition("ptime 10", Sender(ptimes_ms=(10,))),
    Condition("ptime 30", Sender(ptimes_ms=(30,))),
    Condition("ptime 40", Sender(ptimes_ms=(40,))),
    Condition("ptime 60", Sender(ptimes_ms=(60,))),
    Condition("ptime changes every 5 s", Sender(ptimes_ms=(20, 30, 10, 60, 40))),
    Condition("new SSRC every 5 s", Sender(new_ssrc=True)),
    Condition("sequence jumps every 5 s", Sender(jumps_sequence=True)),
    Condition("timestamp jumps every 5 s", Sender(jumps_timestamp=True)),
    Condition("silence suppressed, CN", Sender(suppresses_silence=True)),
    Condition(
        "all: loss 2 %, jitter 30, 1 % twice, +200 ppm, CN, new SSRC, ptime 20/30",
        Sender(ptimes_ms=(20, 30), ppm=200, suppresses_silence=True, new_ssrc=True, change_every_s=15),
        Network(loss=0.02, jitter_ms=30, duplicates=0.01),
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Keying:
    """One way in which legs key."""

    name: str
    title: str
    tone_ms: float
    pause_ms: float
    required: bool = False
    events: bool = False
    tones: bool = True


KEYINGS: Final = (
    Keying("inband_100", "in band 100 ms", 100, 100, required=True),
    Keying("inband_65", "in band 65/50 ms", 65, 50),
    Keying("events_100", "telephone-event", 100, 100, required=True, events=True, tones=False),
    Keying("both_100", "both at once", 100, 100, events=True),
)
