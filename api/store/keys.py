"""API keys: `sk_<mode>_<8 public characters>_<43 secret characters>`.

The public characters find the row and appear in lists and logs; the secret is shown once and kept as SHA-256
(see `schema` for why that is enough).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import string
from dataclasses import dataclass
from typing import Any, Final

from sqlite_utils import Database

from api.store.schema import immediate, now_text

_ALPHABET: Final = string.ascii_letters + string.digits
_KEY: Final = re.compile(r"(sk_(?:test|live)_[A-Za-z0-9]{8})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class APIKey:
    """A key without its secret."""

    id: str
    prefix: str
    mode: str
    name: str
    principal: str
    merchant: str
    scopes: tuple[str, ...]
    created_by: str
    created_at: str
    last_used_at: str | None
    revoked_at: str | None
    principal_retired_at: str | None


@dataclass(frozen=True, slots=True, repr=False)
class NewSecret:
    """The whole key, on its way to the one person who may read it; it does not print itself."""

    prefix: str
    text: str


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def new_secret(mode: str) -> NewSecret:
    """A fresh key of 256 random bits."""
    prefix = f"sk_{mode}_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    return NewSecret(prefix, f"{prefix}_{secrets.token_urlsafe(32)}")


def _from_row(row: dict[str, Any]) -> APIKey:
    return APIKey(
        id=row["id"],
        prefix=row["prefix"],
        mode=row["mode"],
        name=row["name"],
        principal=row["principal"],
        merchant=row["merchant"],
        scopes=tuple(json.loads(row["scopes"])),
        created_by=row["created_by"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
        principal_retired_at=row["principal_retired_at"],
    )


def _one(db: Database, where: str, values: dict[str, object]) -> APIKey | None:
    row = next(iter(db.query(f"SELECT * FROM api_keys WHERE {where}", values)), None)  # noqa: S608  (ours)
    return _from_row(row) if row else None


def add(
    db: Database,
    secret: NewSecret,
    *,
    name: str,
    mode: str,
    principal: str,
    merchant: str,
    scopes: tuple[str, ...],
    created_by: str,
) -> APIKey:
    """Stores a new key's digest."""
    key_id = f"key_{secrets.token_hex(12)}"
    with immediate(db, durable=True):
        db.execute(
            """
            INSERT INTO api_keys (id, prefix, digest, mode, name, principal, merchant, scopes, created_by,
                                  created_at)
            VALUES (:id, :prefix, :digest, :mode, :name, :principal, :merchant, :scopes, :created_by, :now)
            """,
            {
                "id": key_id,
                "prefix": secret.prefix,
                "digest": _digest(secret.text),
                "mode": mode,
                "name": name,
                "principal": principal,
                "merchant": merchant,
                "scopes": json.dumps(scopes),
                "created_by": created_by,
                "now": now_text(),
            },
        )
    stored = _one(db, "id = :id", {"id": key_id})
    assert stored is not None
    return stored


def authenticate(db: Database, text: str) -> APIKey | None:
    """The key whose secret this is, revoked ones too; None for anything else.

    Notes the use, once a minute at most: a write for each request would cost more than the request.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    row = next(
        iter(db.query("SELECT * FROM api_keys WHERE prefix = :prefix", {"prefix": match.group(1)})), None
    )
    if not hmac.compare_digest(_digest(text), row["digest"] if row else bytes(32)) or row is None:
        return None
    key = _from_row(row)
    now = now_text()
    if key.revoked_at is None and (key.last_used_at or "")[:16] != now[:16]:
        with immediate(db, durable=False):
            db.execute("UPDATE api_keys SET last_used_at = :now WHERE id = :id", {"now": now, "id": key.id})
    return key


def of_merchant(db: Database, key_id: str, merchant: str) -> APIKey | None:
    """The key, if it is this merchant's."""
    return _one(db, "id = :id AND merchant = :merchant", {"id": key_id, "merchant": merchant})


def page(db: Database, merchant: str, *, limit: int, starting_after: str | None) -> list[APIKey] | None:
    """Newest first, one more than `limit` where there are more; None if the cursor is not this merchant's."""
    values: dict[str, object] = {"merchant": merchant, "limit": limit + 1}
    after = ""
    if starting_after is not None:
        cursor = of_merchant(db, starting_after, merchant)
        if cursor is None:
            return None
        values |= {"at": cursor.created_at, "id": cursor.id}
        after = "AND (created_at, id) < (:at, :id)"
    rows = db.query(
        f"SELECT * FROM api_keys WHERE merchant = :merchant {after} "  # noqa: S608  (ours)
        "ORDER BY created_at DESC, id DESC LIMIT :limit",
        values,
    )
    return [_from_row(row) for row in rows]


def revoke(db: Database, key_id: str, *, by: str) -> None:
    """From now on the key is refused. A second time changes nothing."""
    with immediate(db, durable=True):
        db.execute(
            "UPDATE api_keys SET revoked_at = :now, revoked_by = :by WHERE id = :id AND revoked_at IS NULL",
            {"now": now_text(), "by": by, "id": key_id},
        )


def note_retired(db: Database, key_id: str) -> None:
    """`sipivr` has taken every permission from the key's principal."""
    with immediate(db, durable=False):
        db.execute(
            "UPDATE api_keys SET principal_retired_at = :now WHERE id = :id",
            {"now": now_text(), "id": key_id},
        )


def unretired(db: Database) -> list[tuple[APIKey, str]]:
    """Revoked keys whose principals `sipivr` still has to be told about, with who revoked them."""
    rows = db.query(
        "SELECT * FROM api_keys WHERE revoked_at IS NOT NULL AND principal_retired_at IS NULL LIMIT 100"
    )
    return [(_from_row(row), row["revoked_by"]) for row in rows]
