"""How a leg sounded: over the lives of its workers, into the record once, and into the figures."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from media.protocol import LegStatistics
from sipivr.calls.leg_record import LegRecord
from sipivr.calls.rtp_quality import RTPFigures, total
from sipivr.control import histograms
from sipivr.store.records import LegQuality
from sipivr.ua.ports import LegTimes, SIPCause

FIRST = LegStatistics(
    leg=1,
    packets_received=900,
    packets_sent=1000,
    packets_lost=100,
    packets_late=0,
    packets_refused=0,
    jitter_ms=5.0,
    keys_inband=2,
    keys_rfc4733=0,
    round_trip_ms=80.0,
    remote_lost=10,
    remote_jitter_ms=2.0,
    mos=3.0,
    remote_mos=4.0,
)
SECOND = msgspec.structs.replace(
    FIRST,
    packets_received=2700,
    packets_sent=3000,
    packets_lost=0,
    mos=4.0,
    round_trip_ms=None,
    remote_lost=None,
    remote_jitter_ms=None,
    remote_mos=None,
)


class Leg:
    def __init__(self) -> None:
        self.cause: SIPCause | None = None
        self.times = LegTimes(0.0)
        self.call_id = "x"


class Rooms:
    """Of `Services`, what a record uses."""

    def __init__(self) -> None:
        self.rtp = RTPFigures()
        self.ladders = self
        self.written: list[dict[str, Any]] = []

    def take(self, *_: object, **__: object) -> list[object]:
        return []

    def record(self, function: Any, **fields: Any) -> None:
        if "quality" in fields:
            self.written.append(fields)


@pytest.fixture
def rooms() -> Rooms:
    return Rooms()


@pytest.fixture
def leg() -> Leg:
    return Leg()


@pytest.fixture
def record(rooms: Rooms, leg: Leg) -> LegRecord:
    return LegRecord("call_1", "leg_1", cast(Any, leg), "customer", cast(Any, rooms))


def hang_up(record: LegRecord, leg: Leg) -> None:
    leg.cause = SIPCause(status=200, reason="", by_remote=True)
    record.ended(leg.cause)


def observed(rooms: Rooms) -> int:
    return histograms.read(rooms.rtp.entries()).get("rtp_mos", {}).get("switch", histograms.Series()).count


def test_the_last_word_of_the_worker_is_recorded(record: LegRecord, leg: Leg, rooms: Rooms) -> None:
    record.statistics(FIRST)
    assert rooms.written == []
    hang_up(record, leg)
    record.statistics(FIRST)
    (written,) = rooms.written
    assert written["quality"] == LegQuality(3.0, 4.0, 80.0, 10, 2.0)
    assert written["rtp"]["packets_lost"] == 100
    assert [name for name in written["rtp"] if "keys" in name] == ["keys_disagreed"]
    assert observed(rooms) == 1


def test_a_worker_that_dies_leaves_what_it_said_last(record: LegRecord, leg: Leg, rooms: Rooms) -> None:
    record.statistics(FIRST)
    record.media_lost()
    hang_up(record, leg)
    (written,) = rooms.written
    assert written["quality"].mos == 3.0
    assert observed(rooms) == 1


def test_a_worker_that_dies_before_its_last_word(record: LegRecord, leg: Leg, rooms: Rooms) -> None:
    record.statistics(FIRST)
    hang_up(record, leg)
    assert rooms.written == []
    record.media_lost()
    (written,) = rooms.written
    assert written["rtp"]["packets_received"] == 900
    assert observed(rooms) == 1


def test_two_lives_add_up(record: LegRecord, leg: Leg, rooms: Rooms) -> None:
    record.statistics(FIRST)
    record.media_lost()
    record.statistics(SECOND)
    hang_up(record, leg)
    record.statistics(SECOND)
    (written,) = rooms.written
    assert written["rtp"]["packets_received"] == 3600
    assert written["rtp"]["packets_lost"] == 100
    assert written["quality"] == LegQuality(3.75, 4.0, 80.0, 10, 2.0)


def test_a_leg_that_never_had_media_has_nothing_to_say(record: LegRecord, leg: Leg, rooms: Rooms) -> None:
    record.media_lost()
    hang_up(record, leg)
    assert rooms.written == []
    assert rooms.rtp.entries() == {}
    assert total(None, None) is None


def test_histograms_cross_the_control_socket() -> None:
    figures = RTPFigures()
    figures.observe(FIRST)
    figures.observe(SECOND)
    status: dict[str, object] = {"calls": 3, "node": "a/b/c", "draining": False, **figures.entries()}
    found = histograms.read(status)
    loss = found["rtp_loss_ratio"]
    assert loss["switch"].count == 2
    assert loss["switch"].sum == pytest.approx(0.1)
    assert dict(loss["switch"].buckets)["0"] == 1
    assert dict(loss["switch"].buckets)["0.1"] == 2
    assert loss["peer"].count == 1
    assert dict(found["rtp_round_trip_seconds"]["switch"].buckets)["0.1"] == 1
    counts = [count for _, count in found["rtp_mos"]["switch"].buckets]
    assert counts == sorted(counts)
    assert set(found) == {"rtp_loss_ratio", "rtp_jitter_seconds", "rtp_mos", "rtp_round_trip_seconds"}
