"""Four bridged calls, two of them in a capture, whose worker is killed twice: the bench, as a test of what it checks.

Real workers, a real supervisor, real packets. What the bench calls wrong: a leg lost, anything of a masked customer
in the operator's recording, no audio or no key after the loss, an SSRC that goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    command = ["worker_loss", "--calls", "4", "--captures", "2", "--rounds", "2", "--limit-ms", "0", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    print(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_no_call_is_lost_and_nothing_of_a_masked_customer_is_heard(result: dict[str, Any]) -> None:
    assert result["calls_restored"] == 8
    assert result["correct"]


def test_the_check_would_have_found_a_leak(result: dict[str, Any]) -> None:
    assert result["open_tone_dbm0"] > result["masked_tone_dbm0"] + 20
    assert result["masked_events"] == 0
