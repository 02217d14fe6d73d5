"""The simulator's test cards, known by digest and name only.

In test mode the card is compared with this list before the first byte goes out: whatever is not on it may be
a real card, and a real card has no business on a test line. The list holds SHA-256 digests, not numbers, so
that a search of this process's memory for card numbers finds those of calls only. The numbers themselves are
in `docs/simulator.md`; a test compares the two.
"""

from __future__ import annotations

import hashlib
from typing import Final

#: SHA-256 of the PAN's ASCII digits → the card's name.
TEST_CARDS: Final[dict[str, str]] = {
    "9bbef19476623ca56c17da75fd57734dbf82530686043a6e491c6d71befe8f6e": "visa-approved",
    "2f725bbd1f405a1ed0336abaf85ddfeb6902a9984a76fd877c3b5cc3b5085a82": "mastercard-approved",
    "1c9d38ed26cd808fa3b02b9b3b988a7caf474e2e42d95789c0fe07e267c80d8f": "jcb-approved",
    "3a134ef77d4e2e4cdad2d2945ff1f76c1a23296c93c851f6244220a8cedea130": "amex-approved",
    "51a4ae4c6ae999146474a67cbcb3b05fbcf4c17ab683043a066459da95513ea8": "diners-approved",
    "19ff47cc8024c133d5845d3f8938caca289929031e7d508c3adf7adff177f0c2": "discover-approved",
    "7cbcc57fc39e4317fa8d55bb2d442f829f0c21ffa4c4683c48e7263faf1a871a": "unionpay-approved",
    "9d30cab39083ce5a8a9bb9c2c045246aee509d7cbc77bbe220c35670c9caccf4": "decline-card",
    "d4384f9864ba532925a1c5f7fc6c33c987438a3421541a35bc07b126bda92ec0": "decline-limit",
    "82786151a955ce009ba7b8793195684ea47e79d4d050485fb5b67b6d226d36c5": "decline-balance",
    "48fd9a020aec886ac091bc6d2d3dc0db7e8c56f1ee79695f9943a37b12030d12": "decline-issuer",
    "4a484d4309aa2e942f7549ef841d1afa24fd4b7bd3ea6c5c338a8ca7ac8b7db5": "decline-number",
    "ac0e8d68ddd06c4e180c7bc05c3aac86b13e45a53a0926735db880790d01c96b": "decline-expiry",
    "5bd1b1906153991d482894d09871737dcb6f22943b250fe70ebc1eebb8117632": "decline-security-code",
    "8f30afaa9298ca982ea1126480eea4140f7a0c18ef88355aeb474e2dfbecfd62": "security-code-missing",
    "c812ed8176f45254ced3c89f5e64aeb41377952a34be1a0c3f765bf9c4c0cdda": "brand-not-accepted",
    "1d1a4effe620b0ead672701d37a244ccfeacce2e4cef21c10bcd0d1f6d0f8674": "shop-settings",
    "00386bc02befc21d19505fb8f50c3d273cec130be83b33db4324d01491481c5b": "raw-pan-refused",
    "d2bf29ce87dc8b5ba8884dc9b50114209cceb9764f87990f6db14c03b49330ee": "congested",
    "6160557e325463a8240412c30efd3f15843d4530df1e0179ccd01b1d9d3821af": "try-later",
    "459a55e42346cc45ea39da0619cd708e85fa38db43d81ee5ff4af16be163ec90": "acquirer-failure",
    "80b718a8323930a3e1de223dc8e3da2eecbb8f2372d16d3907607ae9a185eb22": "timeout-charged",
    "5e1873b551a2fa31839cc8f80c82a0b6fa34a6c9f655867d20ab036332035fb8": "timeout-not-charged",
    "93e418f69438ee8a5cb15c97876dd5f3e9b091a7abbc9f2e24ef48caf815624c": "lost-answer-charged",
    "8f4e0ac5acd48a3ce377e05533c3465581d2ce44492c789492ddc29105dd20a8": "lost-request",
    "5bd7e7d18fdd7ce11ddaaa456336470726c2e6a38469aa4d9e3076f5f992efa3": "error-500-charged",
    "05c479d1adf03e682f4557395cc863f164ee63b0ae4b6e3c4aad16cac2524088": "error-500-not-charged",
    "b4ca9ab0011f62906a68cf4b18d423bd3889cb74dc7ab3f2fec5a5956bc05554": "garbage-charged",
    "5271245e1677d83c3d23ada6398852dfcb1af2e1156fe48f6b62ec1d9724b720": "wrong-check-string",
    "2811edffcc15200f9d222e767d6ed6f1c7b92af6b055023a6c9e658472c1416c": "trickle-charged",
    "8703efebf4dab91da4fb8fa06f91a1e93944d40698f279546a8e09c69d4072f7": "slow",
    "6a3c113e12fdefeed02eeedd7982faeae8b7a8095936b8d30044b1d769a6c4c6": "late-approval",
    "97043e3cbc0538d3fcbf2e68e50cacc3b574f29d869b1796077d48e5749febc0": "still-processing",
    "630a92264cd144bfbb94e16f4dbf41776962e446ec29f91f900132c9f25768d9": "already-settled",
    "962f4f04dcabab3e920f5b397b68843c8706aa7a6aa186bd48429680a26b2ce1": "duplicate-answer",
}


def test_card_name(pan: bytes | bytearray | memoryview) -> str | None:
    """Return the name of the test card with these ASCII digits, None if it is no test card."""
    return TEST_CARDS.get(hashlib.sha256(pan).hexdigest())


# Not a test, whatever its name says to a collector.
test_card_name.__test__ = False  # type: ignore[attr-defined]
