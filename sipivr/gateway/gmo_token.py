"""One-time tokens for contracts that refuse a raw card number (E61040001).

The card goes as JSON, encrypted to the gateway's RSA key, to ``/ext/api/credit/getToken``; what comes
back is good for 30 minutes and one use. A token charges nothing, so a lost answer leaves nothing open.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sipivr.card import CardFields
from sipivr.gateway.gmo_wire import FormBody
from sipivr.gateway.port import Secret

_TOKEN: Final = re.compile(r"[A-Za-z0-9+/=_-]{1,512}", re.ASCII)
_RESULT: Final = re.compile(r"[0-9]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """How tokens are asked for.

    Attributes:
        public_key: The gateway's RSA key, PEM.
        key_hash: As the gateway names that key.
        path: Where.
        oaep: Padding with OAEP (SHA-256) instead of the PKCS #1 v1.5 that browsers' libraries use; sources differ.
    """

    public_key: str
    key_hash: str
    path: str = "/ext/api/credit/getToken"
    oaep: bool = False


def card_fields(fields: CardFields) -> bytearray:
    """Write the card as the JSON that is to be encrypted; the caller wipes it (`token_body` does)."""
    parts: list[bytes | bytearray] = [b'{"cardNo":"', fields.number, b'","expire":"', fields.expire, b'"']
    if fields.security_code is not None:
        parts += [b',"securityCode":"', fields.security_code, b'"']
    parts.append(b"}")
    text = bytearray(sum(len(part) for part in parts))
    at = 0
    for part in parts:
        text[at : at + len(part)] = part
        at += len(part)
    return text


def token_body(settings: TokenSettings, shop_id: str, text: bytearray) -> FormBody:
    """Encrypt `text`, wipe it, and build the request.

    Raises:
        ValueError: The key is not an RSA key.
    """
    try:
        key = serialization.load_pem_public_key(settings.public_key.encode("ascii"))
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("token key: not an RSA key")
        way: padding.AsymmetricPadding = padding.PKCS1v15()
        if settings.oaep:
            way = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        # The library wants bytes: a copy that lives until the garbage collector takes it.
        encrypted = key.encrypt(bytes(text), way)
    finally:
        text[:] = bytes(len(text))
    body = FormBody()
    body.add("ShopID", shop_id)
    body.add("Encrypted", base64.b64encode(encrypted).decode("ascii"))
    body.add("KeyHash", settings.key_hash)
    return body


def token_of(answer: bytes) -> Secret | tuple[str, ...] | str:
    """Read the answer: the token, or the codes of a refusal, or a word if it is no answer of this protocol."""
    try:
        read: Any = msgspec.json.decode(answer)
        result = read["resultCode"]
        codes = result if isinstance(result, list) else [result]
        if codes == ["000"]:
            token = read["tokenObject"]["token"]
            token = token[0] if isinstance(token, list) else token
            return Secret(token) if _TOKEN.fullmatch(token) else "malformed"
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        return "malformed"
    if not codes or not all(isinstance(code, str) and _RESULT.fullmatch(code) for code in codes):
        return "malformed"
    return tuple(f"token_{code}" for code in codes)
