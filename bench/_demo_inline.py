"""The inline half of `make demo`: the merchant's number rings at the switch, which dials the operator.

The customer is bridged to the operator, keys the card behind the mask, and is handed back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench._talking import talk, voice, watch
from bench.harness import Switch
from bench.telephone.customer import VISA, Customer
from bench.telephone.desks import Desks
from bench.telephone.recording import write_spectrograms, write_wav
from media.protocol import KeyWay
from sipivr.seeds import MERCHANT
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM, Mask, NumberUse

NUMBER = "0312349000"
DESK = "desk"
_TRUNK = "trk_desk"

Say = Callable[[str, str], None]


def plant(store: WritableStore, phone: Desks, mask: Mask) -> None:
    """An inline number whose calls ring at the telephone's desk."""
    write.set_masks(store, SYSTEM, merchant=MERCHANT, mask=mask)
    write.put_trunk(
        store,
        SYSTEM,
        id=_TRUNK,
        name="Desk",
        networks=("127.0.0.1",),
        merchant=MERCHANT,
        options={"proxy": f"127.0.0.1:{phone.port}"},
    )
    write.put_number(
        store,
        SYSTEM,
        id="num_inline",
        merchant=MERCHANT,
        e164="+81312349000",
        use=NumberUse.INLINE,
        rules={"destinations": [{"target": phone.uri(DESK), "trunk": _TRUNK}]},
    )


async def converse(
    switch: Switch, phone: Desks, say: Say, *, caller: str, keys: KeyWay, amount: int, out: Path
) -> dict[str, Any]:
    """Plays it; what became of it, and the recordings' paths."""
    mine, theirs = voice(150.0), voice(230.0)
    say("customer", f"calls the merchant at {switch.uri(NUMBER)}")
    customer = await phone.dial(switch.uri(NUMBER), caller=caller)
    operator = await phone.call_at(DESK)
    await customer.answered()
    say("operator", f"is rung by the switch as {operator.caller} and answers; they talk")
    before = await talk(customer, operator, mine, theirs)

    session = await switch.create_session(amount=amount)
    page = await switch.get("/v1/calls?status=active&limit=1")
    call = page["data"][0]["id"]
    events = asyncio.create_task(watch(switch, session["id"], say))
    answer = await switch.api.post(f"/v1/calls/{call}/capture", json={"payment_session": session["id"]})
    answer.raise_for_status()
    say("operator", f"registers {amount:,} yen and begins the capture; the mask is on")
    person = Customer(customer, way=keys, told=lambda step: say("customer", step))
    await person.enter_card(VISA)
    await person.confirm()
    await customer.ears.announcement(900)  # the result and the farewell
    await _together(switch, call)
    after = await talk(customer, operator, mine, theirs)
    say("customer", "and operator talk again" if after else "and operator do not hear each other")
    customer.hang_up()
    await operator.ended(10)
    events.cancel()

    paid = await switch.get(f"/v1/payment_sessions/{session['id']}")
    payment = await switch.get(f"/v1/payments/{paid['payment']}")
    charges = [trade for trade in await switch.ledger() if trade["client_field1"] == payment["id"]]
    say("api", f"{payment['status']} {payment['amount']} yen, approval {payment['approval_number']}")
    rows = [
        ("Inline: what the customer heard", customer.heard.samples),
        ("Inline: what the operator heard", operator.heard.samples),
        ("Inline: what the switch was sent by the customer", customer.said.samples),
    ]
    files = []
    for name, (_, samples) in zip(("customer", "operator", "switch"), rows, strict=True):
        files.append(out / f"inline-{name}.wav")
        write_wav(files[-1], samples)
    files.append(out / "inline-spectrograms.png")
    write_spectrograms(files[-1], rows)
    for file in files:
        say("written", str(file))
    return {
        "session": paid["status"],
        "payment": payment["status"],
        "charges_in_ledger": len(charges),
        "talked_before": before,
        "talked_after": after,
        "operator_keys": len(operator.keys_heard),
        "files": [str(file) for file in files],
    }


async def _together(switch: Switch, call: str) -> None:
    """Waits until the capture has closed."""
    async with asyncio.timeout(60):
        while (await switch.get(f"/v1/calls/{call}"))["capture_ended_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)  # the API pushes events, but this is only a bystander
