"""Keys of the store: sealing of single fields, the keyed hash of caller numbers, the audit chain's key.

A sealed value is text, `v1:<key id>:<base64 of nonce and AES-256-GCM output>`; the additional data names
table, column and row, so that a value copied to another row does not open. Rotation adds a key and makes it
current; old values open as long as their key stays in the file. The keyed hash (HMAC-SHA256) is there for
equality search: it has one key, and whoever lacks it cannot try out all telephone numbers.

`keys.toml` (mode 0600, `sipivr`'s user) is for `sipivr` alone; `api` never holds these keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sipivr.store.errors import StoreCorrupt

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class KeyFileError(Exception):
    """The key file cannot be used; the message names the mend."""


@dataclass(frozen=True, slots=True, repr=False)
class StoreKeys:
    """All keys of the store. They do not print or pickle.

    Attributes:
        current: id of the key that seals new values.
        field_keys: all keys that open sealed values, by id.
        lookup_key: key of the hash of caller numbers.
        audit_key: key of the audit chain.
    """

    current: str
    field_keys: Mapping[str, bytes]
    lookup_key: bytes
    audit_key: bytes

    def __post_init__(self) -> None:
        if self.current not in self.field_keys:
            raise KeyFileError(f"[field] current = {self.current!r} is not among [field.keys].")
        if any(":" in name for name in self.field_keys):
            raise KeyFileError("[field.keys]: a key id holds no colon.")
        for key in (*self.field_keys.values(), self.lookup_key, self.audit_key):
            if len(key) != _KEY_BYTES:
                raise KeyFileError("every key has 32 bytes in base64.")

    def __repr__(self) -> str:
        return f"StoreKeys(current={self.current!r}, …)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("StoreKeys are not serialised")


def generate_keys() -> StoreKeys:
    """New random keys."""
    return StoreKeys(
        current="k1",
        field_keys={"k1": secrets.token_bytes(_KEY_BYTES)},
        lookup_key=secrets.token_bytes(_KEY_BYTES),
        audit_key=secrets.token_bytes(_KEY_BYTES),
    )


def keys_from_mapping(tree: Mapping[str, Any]) -> StoreKeys:
    """Keys from the tree of a `keys.toml` (or of a secret store that holds the same).

    Raises:
        KeyFileError: something is missing or is no key.
    """
    try:
        return StoreKeys(
            current=str(tree["field"]["current"]),
            field_keys={
                str(name): base64.b64decode(text, validate=True)
                for name, text in tree["field"]["keys"].items()
            },
            lookup_key=base64.b64decode(tree["lookup"]["key"], validate=True),
            audit_key=base64.b64decode(tree["audit"]["key"], validate=True),
        )
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        raise KeyFileError(
            "the key file needs [field] current, [field.keys], [lookup] key and [audit] key."
        ) from None


def save_keys(keys: StoreKeys, path: Path) -> None:
    """Writes a new key file with mode 0600.

    Raises:
        FileExistsError: keys are never overwritten: what they sealed would be lost.
    """

    def text(key: bytes) -> str:
        return base64.b64encode(key).decode()

    lines = [
        "# Keys of switch.db. Whoever has this file can read caller numbers and gateway passwords; without",
        "# it they are lost. Keep a copy apart from the database's backup.",
        "[field]",
        f'current = "{keys.current}"',
        "[field.keys]",
        *(f'{name} = "{text(key)}"' for name, key in keys.field_keys.items()),
        "[lookup]",
        f'key = "{text(keys.lookup_key)}"',
        "[audit]",
        f'key = "{text(keys.audit_key)}"',
        "",
    ]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
        file.flush()
        os.fsync(file.fileno())


def load_keys(path: Path) -> StoreKeys:
    """Reads a key file.

    Raises:
        KeyFileError: not there, readable by others, or not a key file.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise KeyFileError(f"{path}: others may read it. Run: chmod 600 {path}")
        return keys_from_mapping(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read ({error.strerror}). `sipivr init` writes one.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The parser's message would quote the line, and the line may be a key.
        raise KeyFileError(f"{path}: is not TOML.") from None


def seal(keys: StoreKeys, plain: str, place: str) -> str:
    """Seals a value for one place, `table.column:row id`."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(keys.field_keys[keys.current]).encrypt(nonce, plain.encode(), place.encode())
    return f"v1:{keys.current}:{base64.b64encode(nonce + sealed).decode()}"


def unseal(keys: StoreKeys, sealed: str, place: str) -> str:
    """Opens a sealed value.

    Raises:
        StoreCorrupt: changed, moved from another place, or its key is gone.
    """
    version, _, rest = sealed.partition(":")
    name, _, text = rest.partition(":")
    key = keys.field_keys.get(name)
    if version != "v1" or key is None:
        raise StoreCorrupt(f"{place}: sealed by a key that is not in the key file")
    try:
        blob = base64.b64decode(text, validate=True)
        return AESGCM(key).decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], place.encode()).decode()
    except (InvalidTag, ValueError):
        raise StoreCorrupt(f"{place}: the sealed value does not open") from None


def caller_hash(keys: StoreKeys, e164: str) -> str:
    """The keyed hash by which a caller is found."""
    return hmac.new(keys.lookup_key, e164.encode(), hashlib.sha256).hexdigest()


def masked(e164: str) -> str:
    """A number as screens and events show it: `+819012341234` → `+81••••••1234`.

    The first two digits (the country, nearly always) and the last four stay; of a short one the last two.
    """
    digits = e164.removeprefix("+")
    keep = 4 if len(digits) >= 9 else 2
    head = digits[:2] if len(digits) >= 9 else ""
    return f"+{head}{'•' * (len(digits) - len(head) - keep)}{digits[-keep:]}"
