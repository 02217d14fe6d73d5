"""A three-party conference with real SIP and RTP: the customer's tones in band, the operator's recording, the decoy.

The conference is `make demo`'s, in a process of its own; the attack on thousands of keys is `bench leak --mode decoy`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench._dtmf_paths import straight
from bench._spandsp import load
from bench.telephone.customer import VISA
from media.arrays import Int16
from media.protocol import FRAME_SAMPLES
from tests.e2e.conftest import Stage, plays

pytestmark = pytest.mark.asyncio(loop_scope="session")

CARD = [int(digit) for digit in VISA.number + VISA.expiry + VISA.security_code]


async def conference(stage: Stage) -> dict[str, Any]:
    """Plays it and returns the demonstration's result, checked by itself, and where the recordings are."""
    out = stage.directory / "conference"
    async with stage.own_switches, asyncio.timeout(240):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench", "demo", "--json", "--flow", "transfer", "--keys", "inband"),
            *("--out", str(out)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return {**json.loads(said.splitlines()[-1]), "out": out}


def recorded(path: Path) -> Int16:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def in_order(keys: list[int], found: list[int]) -> int:
    """The longest common subsequence: what a listener has of the card, at best."""
    table = np.zeros((len(keys) + 1, len(found) + 1), int)
    for row, key in enumerate(keys):
        for column, other in enumerate(found):
            table[row + 1, column + 1] = (
                table[row, column] + 1
                if key == other
                else max(table[row, column + 1], table[row + 1, column])
            )
    return int(table[-1, -1])


def keys_in(path: Path, read: Callable[[Int16], list[list[int]]]) -> list[int]:
    samples = recorded(path)
    return read(samples[None, : len(samples) // FRAME_SAMPLES * FRAME_SAMPLES])[0]


@plays(conference)
async def test_tones_in_a_conference_pay_and_the_operator_cannot_read_them(result: dict[str, Any]) -> None:
    assert (result["payment"], result["charges_in_ledger"]) == ("approved", 1)
    assert result["talked_before"] and result["talked_after"]
    # What the conference sent us holds the keys, or there would be nothing to hide.
    assert in_order(CARD, keys_in(result["out"] / "switch.wav", straight)) >= len(CARD) - 1
    readers = [straight] + ([reference.keys] if (reference := load()) else [])
    for read in readers:
        # The identification number is keyed by telephone-event: what is read here can only be the card's.
        found = keys_in(result["out"] / "operator.wav", read)
        assert in_order(CARD, found) <= 2, f"{len(found)} keys read"
