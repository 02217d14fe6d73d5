from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sipivr.store import read, write
from sipivr.store.crypto import generate_keys, load_keys, save_keys
from sipivr.store.database import WritableStore, open_writable, transaction
from sipivr.store.errors import Conflict, NotFound, OrderInProgress, StoreBusy, StoreUnavailable
from sipivr.store.records import SYSTEM, ClaimRefused, PaymentSession, PaymentStatus
from sipivr.store.writer import StoreWriter
from tests.store.world import World, build


@pytest.fixture
async def writer(world: World) -> AsyncIterator[StoreWriter]:
    made = StoreWriter(world.path, world.keys, busy_timeout_ms=50, tries=3)
    await made.start()
    yield made
    await made.stop()


def create(world: World, order_id: str) -> Callable[[WritableStore], PaymentSession]:
    return lambda store: write.create_payment_session(
        store, SYSTEM, merchant=world.merchant, shop=world.shop, order_id=order_id, amount=100
    )


async def test_run_returns_what_is_committed_and_raises_what_is_refused(
    world: World, writer: StoreWriter
) -> None:
    session = await writer.run(create(world, "A1"))
    reader = read.open_readonly(world.path)
    assert read.payment_session(reader, session.id) == session
    reader.close()
    with pytest.raises(NotFound):
        await writer.run(write.call_answered, call="call_none")
    figures = writer.statistics()
    assert figures.jobs == 2 and figures.failures == 0 and figures.run_p99_ms > 0


async def test_what_is_enqueued_is_ahead_of_what_is_asked_for_later(
    world: World, writer: StoreWriter
) -> None:
    done: list[str] = []
    later = asyncio.ensure_future(writer.run(lambda store: done.append("run")))
    first = writer.enqueue(lambda store: done.append("enqueued"))
    await asyncio.gather(later, first)
    assert done == ["enqueued", "run"]
    await writer.stop()
    with pytest.raises(StoreUnavailable):
        await writer.enqueue(lambda store: None)


async def test_the_newest_sequence_is_told_in_the_loops_thread(world: World) -> None:
    told: list[tuple[int, int]] = []
    writer = StoreWriter(
        world.path, world.keys, on_committed=lambda n: told.append((n, threading.get_ident()))
    )
    await writer.start()
    await writer.run(create(world, "A1"))
    await writer.run(lambda store: read.newest_sequence(store.db))  # writes nothing, tells nothing
    with pytest.raises(NotFound):
        await writer.run(write.call_answered, call="call_none")
    await asyncio.sleep(0)
    assert told == [(read.newest_sequence(world.store.db), threading.get_ident())]
    await writer.stop()


async def test_a_full_queue_says_busy_and_what_was_accepted_is_done(world: World) -> None:
    writer = StoreWriter(world.path, world.keys, queue_limit=3)
    await writer.start()
    gate, begun = threading.Event(), threading.Event()

    def block(_: WritableStore) -> bool:
        begun.set()
        return gate.wait(10)

    blocked = asyncio.create_task(writer.run(block))
    await asyncio.to_thread(begun.wait, 10)
    accepted = [asyncio.create_task(writer.run(create(world, f"o{i}x"))) for i in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await writer.run(create(world, "late"))
    stopping = asyncio.create_task(writer.stop())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await writer.run(create(world, "later"))
    gate.set()
    await stopping
    assert await blocked
    assert len({(await task).id for task in accepted}) == 3


async def test_a_job_cancelled_before_it_began_is_not_done(world: World, writer: StoreWriter) -> None:
    gate, begun = threading.Event(), threading.Event()

    def block(_: WritableStore) -> bool:
        begun.set()
        return gate.wait(10)

    blocked = asyncio.create_task(writer.run(block))
    await asyncio.to_thread(begun.wait, 10)
    cancelled = asyncio.create_task(writer.run(create(world, "A1")))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    gate.set()
    await blocked
    await writer.run(create(world, "A1"))


def _hold(path: str, locked: Any, release: Any) -> None:
    connection = sqlite3.connect(path)
    connection.execute("BEGIN IMMEDIATE")
    locked.set()
    release.wait(20)
    connection.rollback()
    connection.close()


async def test_a_locked_database_is_unavailable_for_a_while_and_the_loop_goes_on(world: World) -> None:
    writer = StoreWriter(world.path, world.keys, busy_timeout_ms=500, tries=2)
    await writer.start()
    context = multiprocessing.get_context("spawn")
    locked, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(world.path), locked, release))
    process.start()
    try:
        await asyncio.to_thread(locked.wait, 20)
        longest = 0.0
        began = time.perf_counter()
        job = asyncio.create_task(writer.run(create(world, "A1")))
        crowd = [asyncio.create_task(writer.run(create(world, f"c{i}x"))) for i in range(100)]
        while not job.done():
            tick = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - tick)
        with pytest.raises(StoreUnavailable):
            await job
        assert 0.9 < time.perf_counter() - began < 10  # two tries of 500 ms, and no more
        await asyncio.wait(crowd)
        assert all(isinstance(task.exception(), StoreUnavailable) for task in crowd)
        assert time.perf_counter() - began < 10, "the queue fails together"
        assert longest < 0.4, "the loop was blocked"
    finally:
        release.set()
        await asyncio.to_thread(process.join)
    assert (await writer.run(create(world, "A1"))).order_id == "A1"
    assert writer.statistics().failures == 101
    await writer.stop()


async def test_jobs_that_wait_together_are_one_commit_and_each_has_its_own_fate(world: World) -> None:
    told: list[int] = []
    writer = StoreWriter(world.path, world.keys, on_committed=told.append)
    await writer.start()
    gate, begun = threading.Event(), threading.Event()

    def block(_: WritableStore) -> bool:
        begun.set()
        return gate.wait(10)

    def fail(store: WritableStore) -> None:
        with transaction(store) as tx:
            tx.event("never", None, None, {})
            raise ValueError("mine")

    def breaks_a_rule(store: WritableStore) -> None:
        with transaction(store) as tx:
            tx.event("never", None, None, {})
            tx.run("UPDATE number SET merchant = 'mer_none'")

    jobs = [create(world, "A1"), fail, create(world, "A1"), breaks_a_rule, create(world, "A2")]
    blocked = writer.enqueue(block)
    # Only when the thread is busy with this one is it sure that the others wait together.
    assert await asyncio.to_thread(begun.wait, 10)
    waiting = [writer.enqueue(job) for job in jobs]
    gate.set()
    assert await blocked
    first, failed, second, broken, last = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(first, PaymentSession) and isinstance(last, PaymentSession)
    assert isinstance(failed, ValueError) and isinstance(broken, sqlite3.IntegrityError)
    assert isinstance(second, OrderInProgress) and second.session == first.id
    await asyncio.sleep(0)
    assert told == [read.newest_sequence(world.store.db)], "one commit"
    assert not [e for e in read.events_after(world.store.db, 0) if e.type == "never"]
    await writer.stop()


async def test_a_batch_that_the_disk_refuses_is_done_one_by_one(world: World, writer: StoreWriter) -> None:
    gate, begun = threading.Event(), threading.Event()

    def block(_: WritableStore) -> bool:
        begun.set()
        return gate.wait(10)

    def fails(store: WritableStore) -> None:
        with transaction(store):
            raise sqlite3.OperationalError("disk I/O error")

    blocked = asyncio.create_task(writer.run(block))
    await asyncio.to_thread(begun.wait, 10)
    waiting = [
        asyncio.create_task(writer.run(job)) for job in (create(world, "A1"), fails, create(world, "A2"))
    ]
    await asyncio.sleep(0)
    gate.set()
    first, broken, last = await asyncio.gather(*waiting, return_exceptions=True)
    assert await blocked
    assert isinstance(first, PaymentSession) and isinstance(last, PaymentSession)
    assert isinstance(broken, StoreUnavailable)
    assert world.session_now(first.id) == first and world.session_now(last.id) == last


async def test_a_broken_disk_is_unavailable_and_a_mended_one_works_again(
    world: World, writer: StoreWriter
) -> None:
    calls = 0

    def fails(store: WritableStore) -> None:
        nonlocal calls
        calls += 1
        with transaction(store) as tx:
            tx.event("x", None, None, {})
            raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnavailable, match="I/O"):
        await writer.run(fails)
    assert calls == 1, "only a lock is tried again"
    assert not [e for e in read.events_after(world.store.db, 0) if e.type == "x"]
    await writer.run(create(world, "A1"))


async def test_a_full_disk_is_unavailable(world: World, writer: StoreWriter) -> None:
    def limit(store: WritableStore) -> None:
        pages = store.db.execute("PRAGMA page_count").fetchone()[0]
        store.db.execute(f"PRAGMA max_page_count = {pages}")

    await writer.run(limit)
    with pytest.raises(StoreUnavailable, match="full"):
        for i in range(200):
            await writer.run(create(world, f"o{i}x"))


async def test_what_is_no_database_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "switch.db"
    path.write_bytes(b"not a database at all" * 100)
    writer = StoreWriter(path, generate_keys())
    with pytest.raises(StoreUnavailable):
        await writer.start()
    await writer.stop()


def _claim(path: str, keys: Path, merchant: str, digits: str, call: str, start: Any, out: Any) -> None:
    store = WritableStore(open_writable(Path(path), busy_timeout_ms=10_000), load_keys(keys))
    start.wait(20)
    try:
        got = write.claim_identification_number(store, merchant=merchant, digits=digits, call=call)
        out.put(got.reason.value if isinstance(got, ClaimRefused) else "claimed")
    except Conflict:
        out.put("conflict")
    store.db.close()


def test_of_two_processes_that_claim_one_number_one_wins(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    save_keys(generate_keys(), keys)
    world = build(tmp_path / "switch.db", load_keys(keys))
    context = multiprocessing.get_context("spawn")
    for turn in range(2):
        session = world.session(f"A{turn}", None)
        start, out = context.Event(), context.Queue()
        processes = [
            context.Process(
                target=_claim,
                args=(
                    str(world.path),
                    keys,
                    world.merchant,
                    session.identification_number,
                    world.call(now=None).id,
                    start,
                    out,
                ),
            )
            for _ in range(3)
        ]
        for process in processes:
            process.start()
        start.set()
        results = sorted(out.get(timeout=30) for _ in processes)
        for process in processes:
            process.join()
        out.close()
        out.join_thread()
        assert results == ["claimed", "used", "used"]
    world.store.db.close()


async def test_of_fifty_claims_at_once_one_wins(world: World, writer: StoreWriter) -> None:
    session = await writer.run(create(world, "A1"))
    calls = [world.call(now=None).id for _ in range(50)]
    results = await asyncio.gather(
        *(
            writer.run(
                write.claim_identification_number,
                merchant=world.merchant,
                digits=session.identification_number or "",
                call=call,
            )
            for call in calls
        )
    )
    winners = [r for r in results if isinstance(r, PaymentSession)]
    assert len(winners) == 1
    assert world.session_now(session.id).call == winners[0].call


CRASH = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from sipivr.store import write
    from sipivr.store.crypto import load_keys
    from sipivr.store.records import SYSTEM, PaymentStatus, Mode
    from sipivr.store.writer import StoreWriter

    path, keys, merchant, shop, number, turn = sys.argv[1:]

    async def one(writer, name):
        run = writer.run
        session = await run(write.create_payment_session, SYSTEM, merchant=merchant, shop=shop,
                            order_id=name, amount=100)
        call = await run(write.call_started, merchant=merchant, number=number, called="x", caller=None,
                         mode=Mode.TEST, node="n1")
        await run(write.claim_identification_number, merchant=merchant,
                  digits=session.identification_number, call=call.id)
        payment = await run(write.begin_payment, session=session.id, call=call.id, brand="visa", last4="1111")
        print(payment.id, "intent", flush=True)
        await run(write.payment_entered, payment=payment.id, access_id="a", access_pass="b")
        await run(write.payment_executing, payment=payment.id)
        print(payment.id, "executing", flush=True)
        await run(write.payment_closed, payment=payment.id, status=PaymentStatus.APPROVED)
        print(payment.id, "approved", flush=True)

    async def main():
        writer = StoreWriter(Path(path), load_keys(Path(keys)))
        await writer.start()
        async def lane(n):
            for i in range(10_000):
                await one(writer, f"o{turn}x{n}x{i}x")
        await asyncio.gather(*(lane(n) for n in range(4)))

    asyncio.run(main())
    """
)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    save_keys(generate_keys(), keys)
    world = build(tmp_path / "switch.db", load_keys(keys))
    world.store.db.close()
    order = ["intent", "entered", "executing", "approved"]
    for turn in range(3):
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                CRASH,
                str(world.path),
                str(keys),
                world.merchant,
                world.shop,
                world.number,
                str(turn),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(40 + 37 * turn)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        said: dict[str, str] = {}
        for line in lines:
            payment, _, status = line.strip().partition(" ")
            if status:
                said[payment] = status
        assert len(said) > 10
        db = open_writable(world.path)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for payment, status in said.items():
            found = read.payment(db, payment)
            assert found, f"{payment} was acknowledged and is lost"
            assert order.index(found.status) >= order.index(status)
        # Nothing is half: a session is paid exactly when its payment is approved.
        mismatch = db.execute(
            "SELECT count(*) FROM payment p JOIN payment_session s ON s.id = p.session"
            " WHERE (p.status = 'approved') <> (s.status = 'paid')"
        ).fetchone()
        assert mismatch == (0,)
        from sipivr.store import audit

        audit.verify(db, load_keys(keys).audit_key)
        store = WritableStore(db, load_keys(keys))
        write.interrupt_calls(store, node="n1")
        for intent in read.open_intents(db):
            write.payment_closed(store, payment=intent.id, status=PaymentStatus.NOT_CHARGED)
        assert read.open_intents(db) == ()
        db.close()
