"""The table of `bench rtp_impairments`, on the screen and as a document."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any, Final

from bench.__main__ import machine
from bench._conditions import KEYINGS, Condition

#: Name, title and digits.
_COLUMNS: Final = (
    ("network_loss_percent", "lost on the way %", 1),
    ("lost_percent", "lost to the listener %", 2),
    ("filled_percent", "made up %", 2),
    ("longest_gap_ms", "longest gap ms", 0),
    ("jumps_per_min", "splices a minute", 1),
    ("snr_db", "segmental SNR dB", 1),
    ("lsd_db", "spectral distance dB", 1),
)


def key_cell(counts: dict[str, int]) -> str:
    """What became of the keys of one row and way."""
    wrong = [f"{counts[name]} {name}" for name in ("missed", "doubled", "wrong") if counts[name]]
    return f"{', '.join(wrong) or 'all'} of {counts['keys']}"


def cells_of(row: dict[str, Any]) -> list[str]:
    """One row, without its name."""
    cells = [f"{row[name]:.{digits}f}" if name in row else "-" for name, _, digits in _COLUMNS]
    if "delay_ms" in row:
        cells.append(f"{row['delay_ms']:.0f} ({row['delay_first_ms']:.0f} → {row['delay_last_ms']:.0f})")
    else:
        cells.append("-")
    return cells + [key_cell(row["keys"][keying.name]) for keying in KEYINGS]


def titles() -> list[str]:
    """Of all columns, the row's name first."""
    keys = [f"keys {keying.title}" for keying in KEYINGS]
    return ["condition", *(title for _, title, _ in _COLUMNS), "delay ms (first → last tenth)", *keys]


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Prints the rows, a line for each cell."""
    for name, row in rows.items():
        print(f"  {name}")
        for title, cell in zip(titles()[1:], cells_of(row), strict=True):
            print(f"    {title:32} {cell}")


def document(
    rows: dict[str, dict[str, Any]],
    conditions: list[Condition],
    options: argparse.Namespace,
    about: dict[str, Any],
) -> str:
    """The table with what a reader has to know, in Markdown."""
    of = machine()
    required = {condition.name for condition in conditions if condition.required}
    lines = [
        "# What impaired RTP costs",
        "",
        f"Written by `make bench-rtp_impairments BENCH=--markdown` on {datetime.now(UTC):%d %B %Y}: {of['cpu']}, "
        f"{of['cpus']} CPUs, Linux {of['kernel']}, Python {of['python']}, numpy {of['numpy']}, load "
        f"{of['load'][0]}. Every condition for {options.seconds:.0f} s at once on one live worker; seed "
        f"{options.seed}.",
        "",
        "| " + " | ".join(titles()) + " |",
        "|" + "---|" * len(titles()),
    ]
    for name, row in rows.items():
        title = f"**{name}**" if name in required else name
        lines.append("| " + " | ".join([title, *cells_of(row)]) + " |")
    lines += [
        "",
        "In **bold** conditions no key of 100 ms in band and none by telephone-event may be missed, doubled or "
        "wrong; they have more legs that key.",
        "",
        _NOTES.strip(),
        "",
        f"The load sent {about['packets_sent']:,} packets, {about['packets_sent_late']} of them more than 10 ms late "
        f"(at most {about['latest_ms']} ms); {about['worker_late_ticks']} of the worker's {about['worker_ticks']:,} "
        f"ticks were more than 5 ms late. What is late there is jitter that the row's name does not tell.",
        "",
    ]
    return "\n".join(lines)


_NOTES: Final = """
How it is measured:

- **What is said** is made by code from a seed (`bench/_sounds.py`): the make-up of speech (pulses or noise through
  three formants, phrases and pauses) over a floor of noise. Nobody's voice, no recording.
- **What is heard** is the other leg's µ-law. The switch passes it bit for bit, so every 3 ms are looked up in what
  was said: a sample is either the speaker's, at a known place, or was made up. *Lost to the listener* is speech that
  was sent and never heard. *Made up* is heard in its place: concealment, silence, repetition. The *longest gap* is the
  longest stretch of that. A *splice* is a place where what is heard goes on elsewhere than where it stopped. Pauses do
  not count: there a buffer may change its depth unheard. Nor do the first 3 s, in which a buffer learns, and the last.
- **Segmental SNR** is the mean over frames of 20 ms with speech, each between -10 and 35 dB; 35 is identity.
  **Spectral distance** is the log-spectral distance, 300 to 3400 Hz, over the frames with speech in which
  something was made up: how unlike the speaker the concealment is.
- **Delay** runs from the moment a packet left the sender to the moment the listener's packet with the same
  samples arrived; packetisation is not in it, jitter buffer and tick are.
- **Keys**: random codes, one in five like the one before; tones of -6 to -18 dBm0, twist up to 2 dB, off the
  grid of packets. *Both at once* sends each key in band and as telephone-event; one press must be one key.
- **Loss** is independent from packet to packet, or in bursts (Gilbert). **Jitter** of N ms is what a receiver's report
  would say (RFC 3550 §6.4.1): delays of a gamma distribution of shape 2, independent, so that packets overtake each
  other. Of 60 ms, 4 % of packets are more than 200 ms later than the fastest, of 100 ms 20 %: no buffer of 200 ms can
  have them, and they count as lost. *In order* is the same through a queue, where few come late alone.
- **±1000 ppm** is not required of anybody: it is ten minutes of ±200 ppm in two.
- **New SSRC** begins with a new sequence number and timestamp, as RFC 3550 asks. Changes keep clear of keys: a
  key cut in two by one would be two keys to any receiver.
"""
