"""A three-party conference with real SIP and RTP: the customer's tones in band, the operator's recording, the decoy.

The conference is `make demo`'s, in a process of its own; the attack on thousands of keys is `bench leak --mode decoy`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench._dtmf_paths import straight
from bench._spandsp import load
from bench.telephone.customer import VISA
from media.arrays import Int16
from tests.e2e.conftest import Stage, plays

pytestmark = pytest.mark.asyncio(loop_scope="session")

CARD = [int(digit) for digit in VISA.number + VISA.expiry + VISA.security_code]


async def conference(stage: Stage, bridge_mask: str) -> dict[str, Any]:
    """Plays it and returns the demonstration's result, checked by itself, and where the recordings are."""
    out = stage.directory / f"conference-{bridge_mask}"
    async with stage.own_switches:
        return {**await play(out, bridge_mask), "out": out}


async def play(out: Path, bridge_mask: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "demo", "--json", "--keys", "inband"),
        *("--bridge-mask", bridge_mask, "--out", str(out)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(240):
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    result: dict[str, Any] = json.loads(said.splitlines()[-1])
    return result


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


async def with_the_decoy(stage: Stage) -> dict[str, Any]:
    return await conference(stage, "decoy")


async def without_it(stage: Stage) -> dict[str, Any]:
    return await conference(stage, "comfort_noise")


@plays(with_the_decoy)
async def test_tones_in_a_conference_pay_and_the_operator_cannot_read_them(result: dict[str, Any]) -> None:
    assert (result["payment"], result["charges_in_ledger"]) == ("approved", 1)
    assert result["talked_before"] and result["talked_after"]
    heard = recorded(result["out"] / "operator.wav")
    readers = [straight] + ([reference.keys] if (reference := load()) else [])
    for read in readers:
        (found,) = read(heard[None, : len(heard) // 160 * 160])
        # The identification number is keyed by telephone-event: what is read here can only be the card's.
        assert in_order(CARD, found) <= 2, f"{len(found)} keys read"


@plays(without_it)
async def test_without_the_decoy_they_are_read(result: dict[str, Any]) -> None:
    """Or the test before would prove nothing."""
    assert (result["payment"], result["charges_in_ledger"]) == ("approved", 1)
    heard = recorded(result["out"] / "operator.wav")
    (found,) = straight(heard[None, : len(heard) // 160 * 160])
    assert in_order(CARD, found) >= len(CARD) - 1
