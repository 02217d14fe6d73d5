from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sqlite_utils import Database

from sipivr.store import read, schema, write
from sipivr.store.database import WritableStore, hold_open, open_readonly, open_writable, transaction
from tests.store.world import ADMIN, World, build


def test_an_empty_database_is_made_and_an_existing_one_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "with ? and #" / "switch.db"
    path.parent.mkdir()
    first = open_writable(path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert first.journal_mode == "wal"
    assert first.execute("PRAGMA foreign_keys").fetchone() == (1,)
    applied = schema.migrations.applied(first)
    first.close()
    again = open_writable(path)
    assert schema.migrations.applied(again) == applied
    assert schema.migrate(again) == ()
    again.close()


def test_each_older_state_migrates_and_keeps_its_rows(tmp_path: Path) -> None:
    names = [migration.name for migration in schema.migrations._migrations]
    for stop in names[1:]:
        db = Database(tmp_path / f"{stop}.db")
        schema.migrations.apply(db, stop_before=stop)
        db.execute(
            "INSERT INTO merchant (id, name, mode, language, created_at)"
            " VALUES ('mer_1', 'A', 'test', 'ja', 'now')"
        )
        assert schema.migrate(db)[0] == stop
        assert read.merchant(db, "mer_1") is not None
        db.close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    from sqlite_utils import Migrations

    broken = Migrations("broken")

    @broken()
    def half(db: Database) -> None:
        db.executescript("CREATE TABLE a (x); INSERT INTO nowhere VALUES (1);")

    db = Database(tmp_path / "x.db")
    with pytest.raises(sqlite3.OperationalError):
        broken.apply(db)
    assert "a" not in db.table_names()
    db.close()


def test_a_database_of_a_newer_version_is_refused(world: World) -> None:
    world.store.db.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
        " VALUES ('sipivr.switch', 'm9999_future', 'x')"
    )
    with pytest.raises(RuntimeError, match="newer"):
        open_writable(world.path)


def test_a_transaction_takes_all_or_nothing(world: World) -> None:
    before = read.newest_sequence(world.store.db)

    class Boom(Exception):
        pass

    with pytest.raises(Boom), transaction(world.store) as tx:
        tx.event("x", None, None, {})
        tx.audit(ADMIN, "x", "y")
        raise Boom
    assert read.newest_sequence(world.store.db) == before
    assert world.store.newest_sequence == before
    assert not world.store.db.conn.in_transaction


def test_tables_are_strict_and_every_foreign_key_holds(world: World) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        world.store.db.execute("UPDATE payment_session SET amount = 'much'") if world.session() else None
    with pytest.raises(sqlite3.IntegrityError):
        write.put_number(world.store, ADMIN, merchant="mer_none", e164="+819000000000")
    assert world.store.db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_readers_cannot_write(world: World) -> None:
    reader = open_readonly(world.path)
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM event")
    assert read.merchant(reader, world.merchant)
    reader.close()


def test_no_database_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        open_readonly(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


READER = textwrap.dedent(
    """
    import os, sys
    gid, uid = int(sys.argv[2]), int(sys.argv[3])
    from pathlib import Path
    from sipivr.store import read
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
    db = read.open_readonly(Path(sys.argv[1]))
    print(len(read.merchants(db)))
    try:
        open(sys.argv[1], "r+b")
    except PermissionError:
        print("not writable")
    """
)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_another_user_reads_while_the_holder_keeps_the_wal(tmp_path: Path) -> None:
    group = user = 65534
    os.chmod(tmp_path.parent.parent, 0o755)  # noqa: PTH101
    os.chmod(tmp_path.parent, 0o755)  # noqa: PTH101
    tmp_path.chmod(0o755)
    directory = tmp_path / "switch"
    directory.mkdir(mode=0o750)
    os.chown(directory, -1, group)
    directory.chmod(0o2750)  # setgid: database, -wal and -shm all get the group
    world = build(directory / "switch.db")
    holder = hold_open(world.path)
    world.store.db.close()
    assert (directory / "switch.db-wal").exists() and (directory / "switch.db-shm").exists()

    def look() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", READER, str(world.path), str(group), str(user)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )

    result = look()
    assert result.stdout.split("\n")[:2] == ["2", "not writable"], result.stderr
    # And what the holder is for: after the last clean close the same reader cannot open the file.
    holder.close()
    assert not (directory / "switch.db-wal").exists()
    assert look().returncode != 0


def test_the_holder_keeps_no_transaction(world: World) -> None:
    holder = hold_open(world.path)
    world.session()
    busy, _, _ = world.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    holder.close()


def test_ids_sort_by_time_and_pages_walk_all_of_them(world: World) -> None:
    made = [world.session(f"o{i}x", None).id for i in range(7)]
    assert len(set(made)) == 7
    seen: list[str] = []
    cursor = None
    while True:
        page = read.payment_sessions(world.store.db, world.merchant, starting_after=cursor, limit=3)
        seen += [s.id for s in page.items]
        if not page.has_more:
            break
        cursor = page.items[-1].id
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, reverse=True)
    assert read.payment_sessions(world.store.db, world.other).items == ()


def test_every_search_of_the_api_uses_an_index(world: World) -> None:
    plans = {
        "number by e164": "SELECT * FROM number WHERE e164 = 'x'",
        "sessions": "SELECT * FROM payment_session WHERE merchant = 'm' ORDER BY id DESC LIMIT 5",
        "sessions by status": "SELECT * FROM payment_session WHERE merchant = 'm' AND status = 'open'"
        " ORDER BY id DESC",
        "sessions by order": "SELECT * FROM payment_session WHERE merchant = 'm' AND order_id = 'x'"
        " ORDER BY id DESC",
        "calls": "SELECT * FROM call WHERE merchant = 'm' AND id < 'x' ORDER BY id DESC LIMIT 5",
        "payments": "SELECT * FROM payment WHERE merchant = 'm' AND status = 'approved'"
        " ORDER BY id DESC LIMIT 5",
        "open intents": "SELECT * FROM payment WHERE status IN ('intent', 'entered', 'executing', 'unknown')",
        "events": "SELECT * FROM event WHERE sequence > 5 AND merchant = 'm' ORDER BY sequence LIMIT 5",
    }
    for name, sql in plans.items():
        plan = " / ".join(row[3] for row in world.store.db.execute("EXPLAIN QUERY PLAN " + sql).fetchall())
        assert "SCAN" not in plan, (name, plan)
        if name != "open intents":
            assert "TEMP B-TREE" not in plan, (name, plan)


def test_a_store_value_cannot_leave_the_writer_by_pickle(world: World) -> None:
    import pickle

    assert isinstance(world.store, WritableStore)
    with pytest.raises(TypeError):
        pickle.dumps(world.keys)
    assert "k1" in repr(world.keys) and len(repr(world.keys)) < 60
