"""The receiver's half of the signatures: RFC 9421 with HMAC-SHA256, RFC 9530."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping

COVERED = ["@method", "@authority", "@path", "content-type", "content-digest", "idempotency-key"]


class Unsigned(Exception):
    pass


class Verifier:
    """Checks requests; a nonce is taken once."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self.keys = keys
        self._nonces: set[str] = set()

    def verify(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
        """Return the id of the key that signed."""
        digest = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
        if headers.get("content-digest") != digest:
            raise Unsigned("content-digest")
        label, _, parameters = headers.get("signature-input", "").partition("=")
        found = re.fullmatch(
            r'\(((?:"[a-z@-]+" ?)+)\);created=(\d+);keyid="([^"]+)";alg="hmac-sha256";nonce="([0-9a-f]{32})"',
            parameters,
        )
        if not found:
            raise Unsigned("signature-input")
        names = [name.strip('"') for name in found[1].split()]
        if names != COVERED or abs(time.time() - int(found[2])) > 300:
            raise Unsigned("components or age")
        if found[3] not in self.keys or found[4] in self._nonces:
            raise Unsigned("key or nonce")
        derived = {"@method": method, "@authority": headers["host"].lower(), "@path": path}
        lines = [f'"{name}": {derived.get(name, headers.get(name, ""))}' for name in names]
        base = "\n".join([*lines, f'"@signature-params": {parameters}'])
        if headers.get("signature") != f"{label}=:{mac(self.keys[found[3]], base)}:":
            raise Unsigned("signature")
        self._nonces.add(found[4])
        return found[3]


def signed_answer(key: bytes, status: int, body: bytes, request_signature: str) -> dict[str, str]:
    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
    parameters = f'("@status" "content-digest" "signature";req);created={int(time.time())};alg="hmac-sha256"'
    base = "\n".join(
        [
            f'"@status": {status}',
            f'"content-digest": {digest}',
            f'"signature";req: {request_signature}',
            f'"@signature-params": {parameters}',
        ]
    )
    return {
        "Content-Digest": digest,
        "Signature-Input": f"sig={parameters}",
        "Signature": f"sig=:{mac(key, base)}:",
    }


def mac(key: bytes, text: str) -> str:
    return base64.b64encode(hmac.new(key, text.encode("latin-1"), hashlib.sha256).digest()).decode()
