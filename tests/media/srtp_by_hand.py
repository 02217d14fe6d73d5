"""RFC 3711 and RFC 7714 written down with the primitives of `cryptography`: what libsrtp is held to.

No replay window, no key lifetime, no contributing sources or extensions: one packet, one roll-over counter.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from media.protocol import CryptoSuite

_RTP_LABELS = (0, 1, 2)
_RTCP_LABELS = (3, 4, 5)
_GCM = CryptoSuite.AEAD_AES_128_GCM


def key_stream(key: bytes, start: int, length: int) -> bytes:
    """AES in counter mode from a 128-bit start (RFC 3711 §4.1.1)."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(start.to_bytes(16, "big"))).encryptor()
    return encryptor.update(bytes(length))


def derive(master: bytes, label: int, length: int) -> bytes:
    """A session key from master key and salt, key derivation rate 0 (RFC 3711 §4.3; RFC 7714 §11)."""
    salt = int.from_bytes(master[16:].ljust(14, b"\0"), "big")
    return key_stream(master[:16], (salt ^ label << 48) << 16, length)


def _transform(master: bytes, labels: tuple[int, int, int], ssrc: int, index: int, text: bytes) -> bytes:
    """Counter mode over a payload (RFC 3711 §4.1.1)."""
    key, salt = derive(master, labels[0], 16), int.from_bytes(derive(master, labels[2], 14), "big")
    stream = key_stream(key, salt << 16 ^ ssrc << 64 ^ index << 16, len(text))
    return bytes(a ^ b for a, b in zip(text, stream, strict=True))


def _tag(master: bytes, label: int, text: bytes) -> bytes:
    return hmac.new(derive(master, label, 20), text, hashlib.sha1).digest()


def protect(suite: CryptoSuite, master: bytes, packet: bytes, roll_over: int = 0) -> bytes:
    """SRTP of an RTP packet with a plain header."""
    head, payload = packet[:12], packet[12:]
    sequence, ssrc = int.from_bytes(head[2:4], "big"), int.from_bytes(head[8:12], "big")
    if suite is _GCM:
        # RFC 7714 §8.1: two zero bytes, SSRC, roll-over counter, sequence, all over the salt.
        nonce = ssrc << 48 | roll_over << 16 | sequence
        nonce ^= int.from_bytes(derive(master, 2, 12), "big")
        return head + AESGCM(derive(master, 0, 16)).encrypt(nonce.to_bytes(12, "big"), payload, head)
    body = head + _transform(master, _RTP_LABELS, ssrc, roll_over << 16 | sequence, payload)
    size = 4 if suite is CryptoSuite.AES_CM_128_HMAC_SHA1_32 else 10
    return body + _tag(master, 1, body + roll_over.to_bytes(4, "big"))[:size]


def protect_rtcp(suite: CryptoSuite, master: bytes, packet: bytes, index: int = 1) -> bytes:
    """SRTCP of a compound packet, encrypted."""
    head, payload = packet[:8], packet[8:]
    ssrc, word = int.from_bytes(head[4:8], "big"), (1 << 31 | index).to_bytes(4, "big")
    if suite is _GCM:
        # RFC 7714 §9.1: two zero bytes, SSRC, two zero bytes, index.
        nonce = (ssrc << 48 | index) ^ int.from_bytes(derive(master, 5, 12), "big")
        sealed = AESGCM(derive(master, 3, 16)).encrypt(nonce.to_bytes(12, "big"), payload, head + word)
        return head + sealed + word
    body = head + _transform(master, _RTCP_LABELS, ssrc, index, payload) + word
    return body + _tag(master, 4, body)[:10]
