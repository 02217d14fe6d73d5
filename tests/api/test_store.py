"""api.db by itself: keys, passwords, idempotency records."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sqlite_utils import Database

from api.store import credentials, idempotency, keys, schema

CHEAP = 2**4


@pytest.fixture
def db(tmp_path: Path):
    database = schema.open_database(tmp_path / "api" / "api.db")
    yield database
    database.close()


def made(db: Database, merchant: str = "mer_a", **values) -> tuple[keys.APIKey, str]:
    secret = keys.new_secret("test")
    key = keys.add(
        db,
        secret,
        name=values.get("name", "desk"),
        mode="test",
        principal="prn_1",
        merchant=merchant,
        scopes=("calls:read",),
        created_by="prn_0",
    )
    return key, secret.text


def test_the_file_is_its_users_alone(tmp_path: Path):
    schema.open_database(tmp_path / "api" / "api.db").close()
    assert stat.S_IMODE((tmp_path / "api" / "api.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "api").stat().st_mode) == 0o700


def test_migrations_run_once(tmp_path: Path):
    for _ in range(2):
        database = schema.open_database(tmp_path / "api.db")
        assert not schema.migrations.pending(database)
        database.close()


def test_a_key_is_known_by_its_secret_and_the_secret_is_nowhere(db: Database, tmp_path: Path):
    key, secret = made(db)
    assert keys.authenticate(db, secret).id == key.id
    tail = secret.split("_", 3)[3].encode()
    for file in (tmp_path / "api").iterdir():
        assert tail not in file.read_bytes()


@pytest.mark.parametrize(
    "change", [lambda s: s[:-1] + ("A" if s[-1] != "A" else "B"), lambda s: s + "A", str.lower]
)
def test_a_wrong_secret_is_nobodys(db: Database, change):
    _, secret = made(db)
    assert keys.authenticate(db, change(secret)) is None


def test_a_secret_does_not_print_itself():
    secret = keys.new_secret("live")
    assert secret.text not in repr(secret)
    assert secret.text.startswith("sk_live_")


def test_revoking_is_kept_and_told_until_the_switch_knows(db: Database):
    key, secret = made(db)
    keys.revoke(db, key.id, by="prn_0")
    first = keys.authenticate(db, secret).revoked_at
    keys.revoke(db, key.id, by="prn_9")
    assert keys.authenticate(db, secret).revoked_at == first
    assert [(k.id, by) for k, by in keys.unretired(db)] == [(key.id, "prn_0")]
    keys.note_retired(db, key.id)
    assert keys.unretired(db) == []


def test_pages_of_keys_are_the_merchants_own(db: Database):
    mine = [made(db)[0].id for _ in range(5)]
    other, _ = made(db, merchant="mer_b")
    seen, cursor = [], None
    while True:
        rows = keys.page(db, "mer_a", limit=2, starting_after=cursor)
        seen += [row.id for row in rows[:2]]
        if len(rows) <= 2:
            break
        cursor = rows[1].id
    assert sorted(seen) == sorted(mine)
    assert keys.page(db, "mer_a", limit=2, starting_after=other.id) is None


def test_passwords(db: Database):
    credentials.add(db, name="admin", principal="prn_0", password="s3cret", cost=CHEAP)
    credential = credentials.find(db, "ADMIN")
    assert credentials.matches(credential, "s3cret")
    assert not credentials.matches(credential, "S3cret")
    assert "s3cret" not in repr(credential)
    with pytest.raises(credentials.CredentialExistsError):
        credentials.add(db, name="Admin", principal="prn_1", password="x", cost=CHEAP)


def test_failures_lock_longer_each_time_and_are_forgotten(db: Database):
    waits = []
    for n in range(credentials.FREE_TRIES + 12):
        credentials.note_failure(db, "admin@1", 1000.0 + n, credentials.FREE_TRIES)
        waits.append(credentials.locked_for_s(db, ("admin@1", "admin@*"), 1000.0 + n))
    assert waits[: credentials.FREE_TRIES - 1] == [0.0] * (credentials.FREE_TRIES - 1)
    assert waits[credentials.FREE_TRIES - 1 :] == sorted(waits[credentials.FREE_TRIES - 1 :])
    assert waits[-1] == credentials.LONGEST_LOCK_S
    assert credentials.locked_for_s(db, ("admin@2",), 1010.0) == 0
    credentials.note_success(db, "admin", "admin@1")
    assert credentials.locked_for_s(db, ("admin@1",), 1010.0) == 0


def test_an_idempotency_record_lives_a_day(db: Database):
    assert idempotency.begin(db, "prn", "k", b"f", 0.0) is None
    assert idempotency.begin(db, "prn", "k", b"f", 1.0) == idempotency.Record(b"f", None, None, None)
    assert idempotency.begin(db, "other", "k", b"f", 1.0) is None
    idempotency.finish(db, "prn", "k", status=201, body="{}", subject="ps_1")
    assert idempotency.begin(db, "prn", "k", b"f", 86_399.0) == idempotency.Record(b"f", 201, "{}", "ps_1")
    assert idempotency.begin(db, "prn", "k", b"f", 86_401.0) is None


def test_only_an_unanswered_record_is_abandoned(db: Database):
    idempotency.begin(db, "prn", "k", b"f", 0.0)
    idempotency.abandon(db, "prn", "k")
    assert idempotency.begin(db, "prn", "k", b"f", 1.0) is None
    idempotency.finish(db, "prn", "k", status=201, body="{}", subject=None)
    idempotency.abandon(db, "prn", "k")
    assert idempotency.begin(db, "prn", "k", b"f", 2.0) is not None
