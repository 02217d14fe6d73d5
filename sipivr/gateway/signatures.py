"""Signed HTTP messages: RFC 9421 with HMAC-SHA256, and RFC 9530's Content-Digest. No I/O here.

A request is signed over method, authority, path, content type, digest of the body and idempotency key; an
answer over its status, its digest and the request's signature, so that the answer to one request is not taken
for another's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final

LABEL: Final = "sipivr"
#: Seconds by which the clocks may differ, and how long a signature is good.
MAX_AGE_S: Final = 300

REQUEST_COMPONENTS: Final = (
    '("@method" "@authority" "@path" "content-type" "content-digest" "idempotency-key")'
)
ANSWER_COMPONENTS: Final = '("@status" "content-digest" "signature";req)'

_CREATED: Final = re.compile(r";created=([0-9]{1,12})(?:;|\Z)", re.ASCII)


class BadSignature(ValueError):
    """The answer is not signed as agreed. Carries nothing of it."""


def content_digest(body: bytes | memoryview) -> str:
    """RFC 9530 §2."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def sign_request(
    key: bytes, key_id: str, *, authority: str, path: str, headers: Mapping[str, str], created: int
) -> dict[str, str]:
    """Return ``Signature-Input`` and ``Signature`` of a POST.

    Args:
        key: Shared secret.
        key_id: Which secret it is.
        authority: Host and port, as in ``Host``.
        path: Of the URL.
        headers: With content-type, content-digest and idempotency-key, in lower case.
        created: Seconds since the epoch.
    """
    nonce = secrets.token_hex(16)
    parameters = f'{REQUEST_COMPONENTS};created={created};keyid="{key_id}";alg="hmac-sha256";nonce="{nonce}"'
    base = _base(
        [
            ('"@method"', "POST"),
            ('"@authority"', authority.lower()),
            ('"@path"', path),
            *((f'"{name}"', headers[name]) for name in ("content-type", "content-digest", "idempotency-key")),
        ],
        parameters,
    )
    return {"Signature-Input": f"{LABEL}={parameters}", "Signature": f"{LABEL}=:{_mac(key, base)}:"}


def verify_answer(
    key: bytes, *, status: int, body: bytes, headers: Mapping[str, str], request_signature: str, now: float
) -> None:
    """Check an answer's digest, signature and age.

    Args:
        key: Shared secret.
        status: Of the answer.
        body: Of the answer.
        headers: content-digest, signature-input and signature, in lower case.
        request_signature: The ``Signature`` header of the request.
        now: Seconds since the epoch.

    Raises:
        BadSignature: Something of it is missing or wrong.
    """
    digest = headers.get("content-digest", "")
    label, _, parameters = headers.get("signature-input", "").partition("=")
    given = headers.get("signature", "")
    created = _CREATED.search(parameters)
    fresh = created is not None and abs(now - int(created[1])) <= MAX_AGE_S
    if not (
        hmac.compare_digest(digest.encode("latin-1", "replace"), content_digest(body).encode("ascii"))
        and fresh
    ):
        raise BadSignature("digest or age")
    if not parameters.startswith(ANSWER_COMPONENTS + ";"):
        raise BadSignature("components")
    base = _base(
        [
            ('"@status"', str(status)),
            ('"content-digest"', digest),
            ('"signature";req', request_signature),
        ],
        parameters,
    )
    expected = f"{label}=:{_mac(key, base)}:"
    if not hmac.compare_digest(given.encode("latin-1", "replace"), expected.encode("latin-1", "replace")):
        raise BadSignature("signature")


def _base(lines: list[tuple[str, str]], parameters: str) -> bytes:
    """RFC 9421 §2.5."""
    text = "".join(f"{name}: {value}\n" for name, value in lines) + f'"@signature-params": {parameters}'
    return text.encode("latin-1", "replace")


def _mac(key: bytes, base: bytes) -> str:
    return base64.b64encode(hmac.new(key, base, hashlib.sha256).digest()).decode("ascii")
