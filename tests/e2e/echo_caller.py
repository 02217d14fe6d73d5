"""Calls an echo, keys tones and prints the keys that come back, as one JSON object.

A program of its own: where all scenarios share one loop, its pauses would be gaps in the tones.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from bench.telephone.phone import Telephone
from media.protocol import KeyWay

TONE_MS = 120


async def call(uri: str, keys: str) -> dict[str, str]:
    """What the call agreed on and heard."""
    async with Telephone(lines=1) as phone:
        call = await phone.dial(uri, caller="echo")
        await call.answered()
        assert call.agreed is not None
        codec = call.agreed.codec.name
        await call.key(keys, KeyWay.INBAND, tone_ms=TONE_MS, pause_ms=TONE_MS)
        async with asyncio.timeout(10):
            while len(call.keys_heard) < len(keys):
                await call.ears.listen(100)
        call.hang_up()
        await call.ended(10)
        return {"codec": codec, "heard": "".join(call.keys_heard)}


def main() -> None:
    """Reads the arguments, calls, prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("keys")
    args = parser.parse_args()
    print(json.dumps(asyncio.run(call(args.uri, args.keys))))


if __name__ == "__main__":
    main()
