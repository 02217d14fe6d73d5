"""RTP ports of a whole switch: three calls on two ports, and peers that move onto each other's addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import Stage, plays

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Moved:
    """What became of it."""

    ports: list[int]
    after: int
    up: list[bool]
    ports_at_the_end: list[int]
    figures: dict[str, int]


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not met():
            await asyncio.sleep(0.05)


async def figures(stage: Stage) -> dict[str, int]:
    """The switch's own figures, as Prometheus is shown them."""
    lines = (await stage.switch.api.get("/metrics")).text.splitlines()
    prefix = 'sipivr_switch{figure="'
    found = (line.removeprefix(prefix).split('"} ') for line in lines if line.startswith(prefix))
    return {name: int(float(value)) for name, value in found}


async def moves_about(stage: Stage) -> Moved:
    """The third call says that its RTP is where the first one's is; then the second says so too."""
    environment = {"SIPIVR_RTP__PORTS_PER_WORKER": "2", "SIPIVR_MEDIA__WORKERS": "1"}
    async with stage.another("ports", environment=environment) as own:
        calls = [await own.call_up() for _ in range(3)]

        def ports() -> list[int]:
            return [call.agreed.remote_port if call.agreed else 0 for call in calls]

        before = ports()
        calls[2].move_to(calls[0].local)
        await until(lambda: ports() != before)
        after = ports()[2]
        calls[1].move_to(calls[0].local)
        async with asyncio.timeout(20):
            while not (seen := await figures(own)).get("count_media_changes_refused"):
                await asyncio.sleep(0.1)
        up = [call.up for call in calls]
        at_the_end = ports()
        for call in calls:
            call.hang_up()
            await call.ended()
        return Moved(before, after, up, at_the_end, seen)


@plays(moves_about)
async def test_a_peer_that_moves_onto_anothers_address(stage: Stage, result: Moved) -> None:
    first, second, third = result.ports
    assert first == third != second, "two calls share a port"
    assert result.after == second, "the answer to the re-INVITE names the other port"
    assert result.figures["count_rtp_ports_moved"] == 1
    # The second call's peer cannot go there: both ports have a leg of that address. 488, and all goes on.
    assert result.figures["count_media_changes_refused"] == 1
    assert result.up == [True, True, True]
    assert result.ports_at_the_end == [first, second, second]


@plays(moves_about)
async def test_what_media_workers_dropped_is_in_the_metrics(stage: Stage, result: Moved) -> None:
    names = {
        "media_packets_unknown",
        "media_packets_foreign",
        "media_packets_refused",
        "media_packets_late",
        "media_socket_overflows",
        "media_sends_failed",
        "media_events_dropped",
        "media_faults",
        "media_sources_latched",
        "media_sources_moved",
    }
    assert names <= result.figures.keys()
