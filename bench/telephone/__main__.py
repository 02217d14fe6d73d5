"""One customer in a process of its own: `python -m bench.telephone URI --caller NUMBER --identification-number N`.

Calls a switch, pays with the simulator's Visa card as a person in a hurry does, and prints how the call ended as one
JSON object. Nothing else runs here, so the audio's timing is a telephone's and not that of whoever asked for the call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from bench.telephone.customer import Customer
from bench.telephone.phone import Telephone
from media.protocol import KeyWay
from sipivr.ua.negotiation import MediaTerms
from sipivr.ua.sdes import SRTPPolicy

_ANSWER_S = 20.0


async def _call(args: argparse.Namespace) -> dict[str, Any]:
    terms = MediaTerms(srtp=SRTPPolicy(args.srtp))
    async with Telephone(lines=1, record=False, terms=terms) as phone:
        call = await phone.dial(args.uri, caller=args.caller)
        await call.answered(_ANSWER_S)
        customer = Customer(
            call, way=KeyWay(args.keys), hurried=True, told=lambda step: print(step, flush=True)
        )
        await customer.pay(args.identification_number)
        cause = await call.ended(args.patience)
        return {
            "sip_call_id": call.sip.call_id,
            "status": cause.status,
            "ended_by_remote": cause.by_remote,
            "late_ticks": phone.late_ticks,
        }


def main() -> int:
    """Plays the call; 1 when it did not come to its end."""
    parser = argparse.ArgumentParser(prog="python -m bench.telephone", description="One customer who pays.")
    parser.add_argument("uri", help="whom to call, e.g. sip:0312345678@127.0.0.1:5060")
    parser.add_argument("--caller", required=True, help="our number, as the switch must know it")
    parser.add_argument("--identification-number", required=True, help="of the payment session")
    parser.add_argument("--keys", choices=[way.value for way in KeyWay], default=KeyWay.RFC4733.value)
    parser.add_argument("--srtp", choices=[policy.value for policy in SRTPPolicy], default="off")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds to wait for the end of the call"
    )
    try:
        print(json.dumps(asyncio.run(_call(parser.parse_args()))))
    except (ConnectionError, TimeoutError) as error:
        print(f"The call did not come to its end: {error or type(error).__name__}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
