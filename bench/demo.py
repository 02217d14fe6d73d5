"""The main job on loopback: a customer, an operator and their PBX, the switch and the sandbox gateway.

Real SIP and RTP between all of them. A customer calls the merchant, the operator answers, they talk; the operator
registers the payment, takes the switch into the conference and keys the identification number; the customer
keys the card; the switch charges it and leaves; the two are together again. Prints the timeline as it happens
and leaves what each of them heard as WAV files and one spectrogram, and beside these an example of every mask. Then
the same by an inline call (`_demo_inline`), where the switch itself connects the two.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import _demo_inline, _mask_examples
from bench._talking import talk, voice, watch
from bench.harness import Switch, SwitchFailed, running_switch
from bench.telephone.customer import VISA, Customer
from bench.telephone.desks import Desks
from bench.telephone.pbx import ThreeWayBridge
from bench.telephone.phone import PhoneCall
from bench.telephone.recording import write_spectrograms, write_wav
from media.protocol import KeyWay
from sipivr.seeds import MERCHANT
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM, BridgeMask, Mask

CUSTOMER_NUMBER = "09011112222"


class Timeline:
    """Prints what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, who: str, what: str) -> None:
        """One line."""
        print(f"{time.monotonic() - self._start:7.2f}  {who:<10} {what}", flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m bench demo`."""
    parser.add_argument("--out", type=Path, default=Path("var/demo"), help="where recordings go")
    parser.add_argument(
        "--keys",
        choices=[KeyWay.RFC4733.value, KeyWay.INBAND.value],
        default=KeyWay.RFC4733.value,
        help="how the customer's telephone sends keys to the PBX",
    )
    parser.add_argument(
        "--bridge-mask",
        choices=[mask.value for mask in BridgeMask],
        default=BridgeMask.DECOY.value,
        help="what the switch plays into the conference during the capture",
    )
    parser.add_argument(
        "--flow",
        choices=["both", "transfer", "inline"],
        default="both",
        help="a transfer into the merchant's conference, a call that the switch bridges itself, or both",
    )
    parser.add_argument(
        "--mask",
        choices=[mask.value for mask in Mask if mask is not Mask.CLAMP],
        default=Mask.COMFORT_NOISE.value,
        help="what the operator hears of the customer during the capture of the inline call",
    )
    parser.add_argument("--amount", type=int, default=12_300, help="in yen")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Plays it; the result holds what was charged and where the recordings are."""
    args.out.mkdir(parents=True, exist_ok=True)
    timeline = Timeline()
    try:
        with tempfile.TemporaryDirectory(prefix="sipivr-demo-") as directory:
            return asyncio.run(_play(Path(directory), args, timeline))
    except SwitchFailed as error:
        print(f"The switch did not start:\n{error}", file=sys.stderr)
        raise SystemExit(1) from None


async def _play(directory: Path, args: argparse.Namespace, timeline: Timeline) -> dict[str, Any]:
    timeline.say("switch", "starts (the first start synthesises the prompts; later ones take seconds)")

    def plant(store: WritableStore) -> None:
        write.set_masks(store, SYSTEM, merchant=MERCHANT, bridge_mask=BridgeMask(args.bridge_mask))
        _demo_inline.plant(store, phone, Mask(args.mask))

    async with Desks(lines=12) as phone, running_switch(directory, plant=plant) as switch:
        timeline.say("switch", f"ready: {switch.uri()}, API {switch.api_url}")
        result: dict[str, Any] = {}
        if args.flow != "inline":
            result = await _conversation(switch, phone, args, timeline)
        if args.flow != "transfer":
            result["inline"] = await _demo_inline.converse(
                switch,
                phone,
                timeline.say,
                caller=CUSTOMER_NUMBER,
                keys=KeyWay(args.keys),
                amount=args.amount,
                out=args.out,
            )
            _check(result["inline"], switch)
        return result


async def _conversation(
    switch: Switch, phone: Desks, args: argparse.Namespace, timeline: Timeline
) -> dict[str, Any]:
    voice_customer, voice_operator = voice(150.0), voice(230.0)
    bridge = ThreeWayBridge(phone)

    timeline.say("customer", "calls the merchant")
    customer = await phone.dial(f"sip:pbx@127.0.0.1:{phone.port}", caller=CUSTOMER_NUMBER)
    at_pbx = await phone.call_at("pbx")
    await customer.answered()
    to_operator = await phone.dial(f"sip:operator@127.0.0.1:{phone.port}", caller=CUSTOMER_NUMBER)
    operator = await phone.call_at("operator")
    await to_operator.answered()
    bridge.join(at_pbx)
    bridge.join(to_operator)
    timeline.say("operator", "answers; they talk")
    before = await talk(customer, operator, voice_customer, voice_operator)

    session = await switch.create_session(amount=args.amount)
    timeline.say("operator", f"registers {args.amount:,} yen: identification number issued")
    events = asyncio.create_task(watch(switch, session["id"], timeline.say))

    timeline.say("pbx", f"takes {switch.uri()} into the conference")
    to_switch = await phone.dial(switch.uri(), caller=switch.caller)
    await to_switch.answered()
    bridge.join(to_switch, switch=True)
    await operator.ears.announcement(900)
    timeline.say("operator", "keys the identification number")
    await operator.key(session["identification_number"], KeyWay.RFC4733)
    person = Customer(customer, way=KeyWay(args.keys), told=lambda step: timeline.say("customer", step))
    await person.enter_card(VISA)
    await person.confirm()
    cause = await to_switch.ended(60)
    timeline.say("switch", f"leaves the conference (BYE from {'the switch' if cause.by_remote else 'us'})")
    bridge.leave(to_switch)
    after = await talk(customer, operator, voice_customer, voice_operator)
    timeline.say("customer", "and operator talk again" if after else "and operator do not hear each other")
    customer.hang_up()
    await customer.ended(5)
    for call in (to_operator, operator):
        call.hang_up()
    events.cancel()

    paid = await switch.get(f"/v1/payment_sessions/{session['id']}")
    payment = await switch.get(f"/v1/payments/{paid['payment']}")
    charges = [trade for trade in await switch.ledger() if trade["client_field1"] == payment["id"]]
    timeline.say("api", f"{payment['status']} {payment['amount']} yen, approval {payment['approval_number']}")
    files = _recordings(args.out, customer, operator, to_switch)
    for file in files:
        timeline.say("written", str(file))
    result = {
        "session": paid["status"],
        "payment": payment["status"],
        "charges_in_ledger": len(charges),
        "talked_before": before,
        "talked_after": after,
        "keys": args.keys,
        "files": [str(file) for file in files],
    }
    _check(result, switch)
    return result


def _check(result: dict[str, Any], switch: Switch) -> None:
    """Ends the demonstration with 1 if the job was not done."""
    done = [result[name] for name in ("session", "payment", "charges_in_ledger", "talked_after")]
    if done != ["paid", "approved", 1, True]:
        print(f"It did not go as it should: {result}\n{switch.log_tail()}", file=sys.stderr)
        raise SystemExit(1)


def _recordings(out: Path, customer: PhoneCall, operator: PhoneCall, to_switch: PhoneCall) -> list[Path]:
    rows = [
        ("What the customer heard", customer.heard.samples),
        ("What the operator heard", operator.heard.samples),
        ("What the switch was sent", to_switch.said.samples),
    ]
    files = []
    for name, (_, samples) in zip(("customer", "operator", "switch"), rows, strict=True):
        files.append(out / f"{name}.wav")
        write_wav(files[-1], samples)
    files.append(out / "spectrograms.png")
    write_spectrograms(files[-1], rows)
    return files + _mask_examples.write(out)
