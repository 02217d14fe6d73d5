"""Records that the store does not take at once: they wait, in order, and keep their time."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any, cast

import pytest

from sipivr.calls import journal
from sipivr.calls.services import Services
from sipivr.store.errors import Conflict, StoreUnavailable


class LockedWriter:
    """A writer whose database is locked until told otherwise."""

    def __init__(self) -> None:
        self.locked = True
        self.written: list[tuple[str, dict[str, Any]]] = []

    async def run(self, function: Any, **fields: Any) -> None:
        await asyncio.sleep(0)
        if self.locked:
            raise StoreUnavailable("locked")
        function(**fields)
        self.written.append((function.__name__, fields))


def ended(*, call: str, now: dt.datetime | None = None) -> None:
    pass


def added(*, entries: str) -> None:
    pass


def refused(*, call: str) -> None:
    raise Conflict("the call has ended", call)


@pytest.fixture
def writer() -> LockedWriter:
    return LockedWriter()


@pytest.fixture
def services(writer: LockedWriter, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setattr(journal, "LATE_PAUSE_S", 0.001)
    other: Any = None
    return Services(
        node="test",
        writer=cast(Any, writer),
        directory=other,
        media=other,
        media_addresses=(),
        prompts=other,
        charging=other,
        ladders=other,
        progress=other,
        today=other,
    )


async def test_late_records_are_written_in_order_with_their_time(
    services: Services, writer: LockedWriter
) -> None:
    before = dt.datetime.now(dt.UTC)
    services.record(ended, call="a")
    services.record(added, entries="b")
    await asyncio.sleep(0.01)
    services.record(ended, call="c")
    after = dt.datetime.now(dt.UTC)
    await asyncio.sleep(0.01)
    assert writer.written == []
    writer.locked = False
    await services.recorded(5)
    assert [name for name, _ in writer.written] == ["ended", "added", "ended"]
    assert [fields.get("call") for _, fields in writer.written] == ["a", None, "c"]
    assert all(before <= writer.written[i][1]["now"] <= after for i in (0, 2))
    assert services.counters == {"records_late": 3}


async def test_a_record_that_is_refused_does_not_stop_the_others(
    services: Services, writer: LockedWriter
) -> None:
    services.record(refused, call="a")
    services.record(ended, call="b")
    await asyncio.sleep(0.01)
    writer.locked = False
    await services.recorded(5)
    assert [fields["call"] for _, fields in writer.written] == ["b"]
    assert services.counters == {"records_lost": 1, "records_late": 1}


async def test_what_may_wait_is_bounded(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_LATE", 2)
    for call in "abc":
        services.record(ended, call=call)
    await asyncio.sleep(0.01)
    assert services.counters == {"records_lost": 1}
    await services.recorded(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
