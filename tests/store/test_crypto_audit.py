from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.store import audit, write
from sipivr.store.crypto import (
    KeyFileError,
    StoreKeys,
    caller_hash,
    generate_keys,
    keys_from_mapping,
    load_keys,
    masked,
    save_keys,
    seal,
    unseal,
)
from sipivr.store.errors import StoreCorrupt
from tests.store.world import ADMIN, World

KEYS = generate_keys()


@given(st.text(max_size=200), st.text(max_size=20))
def test_what_is_sealed_opens_in_its_place_alone(plain: str, place: str) -> None:
    sealed = seal(KEYS, plain, place)
    assert unseal(KEYS, sealed, place) == plain
    with pytest.raises(StoreCorrupt):
        unseal(KEYS, sealed, place + "x")
    with pytest.raises(StoreCorrupt):
        unseal(generate_keys(), sealed, place)


@pytest.mark.parametrize("sealed", ["", "v1", "v1:k1:", "v1:k1:!!", "v1:k2:AAAA", "v0:k1:AAAA", "v1:k1:AAAA"])
def test_what_is_not_sealed_does_not_open(sealed: str) -> None:
    with pytest.raises(StoreCorrupt):
        unseal(KEYS, sealed, "x")


def test_rotation_keeps_old_values_readable() -> None:
    old = seal(KEYS, "x", "p")
    rotated = StoreKeys(
        current="k2",
        field_keys={**KEYS.field_keys, "k2": b"2" * 32},
        lookup_key=KEYS.lookup_key,
        audit_key=KEYS.audit_key,
    )
    assert unseal(rotated, old, "p") == "x"
    assert seal(rotated, "x", "p").startswith("v1:k2:")


def test_the_key_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    save_keys(KEYS, path)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = load_keys(path)
    assert caller_hash(loaded, "+81312345678") == caller_hash(KEYS, "+81312345678")
    assert unseal(loaded, seal(KEYS, "x", "p"), "p") == "x"
    with pytest.raises(FileExistsError):
        save_keys(KEYS, path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_keys(path)
    with pytest.raises(KeyFileError, match="sipivr init"):
        load_keys(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "secret = 'abc", "[field]\ncurrent='k1'\n[field.keys]\nk1='AA=='\n"])
def test_a_broken_key_file_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as error:
        load_keys(path)
    assert "abc" not in str(error.value) and error.value.__cause__ is None


def test_keys_of_a_wrong_size_are_refused() -> None:
    with pytest.raises(KeyFileError):
        keys_from_mapping(
            {"field": {"current": "k", "keys": {}}, "lookup": {"key": ""}, "audit": {"key": ""}}
        )


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+819012341234", "+81••••••1234"),
        ("+81312345678", "+81•••••5678"),
        ("+110", "+•10"),
        ("+12345678", "+••••••78"),
    ],
)
def test_numbers_are_masked(number: str, shown: str) -> None:
    assert masked(number) == shown


def key(world: World) -> bytes:
    return world.keys.audit_key


def test_the_chain_verifies_and_its_head_is_known(world: World) -> None:
    world.session()
    head = audit.head(world.store.db)
    assert audit.verify(world.store.db, key(world), [head]) == head.sequence > 0
    with pytest.raises(StoreCorrupt):
        audit.verify(world.store.db, b"x" * 32)
    with pytest.raises(StoreCorrupt, match="noted"):
        audit.verify(world.store.db, key(world), [audit.Head(1, "0" * 64)])


def test_rows_cannot_be_changed_by_statements(world: World) -> None:
    import sqlite3

    for sql in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError):
            world.store.db.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET actor = 'someone' WHERE sequence = 2",
        "UPDATE audit SET detail = '{}' WHERE sequence = 2",
        "UPDATE audit SET merchant = NULL WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 1",
        "DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)",
        "INSERT INTO audit SELECT sequence + 100, at, actor, source, action, object, merchant, detail,"
        " previous, mac FROM audit WHERE sequence = 2",
    ],
)
def test_whoever_goes_round_the_triggers_breaks_the_chain(world: World, sql: str) -> None:
    world.store.db.execute("DROP TRIGGER audit_is_not_changed")
    world.store.db.execute("DROP TRIGGER audit_is_not_deleted")
    world.store.db.execute(sql)
    with pytest.raises(StoreCorrupt):
        audit.verify(world.store.db, key(world))


def test_a_cut_that_also_sets_the_counter_back_is_shown_by_a_noted_head(world: World) -> None:
    db = world.store.db
    head = audit.head(db)
    db.execute("DROP TRIGGER audit_is_not_deleted")
    db.execute("DELETE FROM audit WHERE sequence = ?", [head.sequence])
    db.execute("UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'audit'")
    audit.verify(db, key(world))
    with pytest.raises(StoreCorrupt, match="missing"):
        audit.verify(db, key(world), [head])


def test_secrets_and_callers_are_not_in_the_log(world: World) -> None:
    write.allow_caller(world.store, ADMIN, merchant=world.merchant, e164="+819012341234")
    text = str(world.store.db.execute("SELECT * FROM audit").fetchall())
    assert "shoppass" not in text and "v1:k1" not in text and "9012341234" not in text
