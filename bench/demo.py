"""The main job on loopback: a customer, an operator and their PBX, the switch and the sandbox gateway.

Real SIP and RTP between all of them. A customer calls the merchant, the operator answers, they talk; the operator
registers the payment, takes the switch into the conference and keys the identification number; the customer
keys the card; the switch charges it and leaves; the two are together again. Prints the timeline as it happens
and leaves what each of them heard as WAV files and one spectrogram, and beside these an example of every mask.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import _mask_examples
from bench.harness import Switch, SwitchFailed, running_switch
from bench.telephone.customer import VISA, Customer
from bench.telephone.pbx import ThreeWayBridge
from bench.telephone.phone import PhoneCall, Telephone
from bench.telephone.recording import write_spectrograms, write_wav
from media.protocol import KeyWay
from sipivr.seeds import MERCHANT
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM, BridgeMask

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

    async with running_switch(directory, plant=plant) as switch, Telephone(lines=8) as phone:
        timeline.say("switch", f"ready: {switch.uri()}, API {switch.api_url}")
        return await _conversation(switch, phone, args, timeline)


async def _conversation(
    switch: Switch, phone: Telephone, args: argparse.Namespace, timeline: Timeline
) -> dict[str, Any]:
    voice_customer, voice_operator = voice(150.0), voice(230.0)
    bridge = ThreeWayBridge(phone)

    timeline.say("customer", "calls the merchant")
    customer = await phone.dial(f"sip:pbx@127.0.0.1:{phone.port}", caller=CUSTOMER_NUMBER)
    at_pbx = await phone.next_call()
    await customer.answered()
    to_operator = await phone.dial(f"sip:operator@127.0.0.1:{phone.port}", caller=CUSTOMER_NUMBER)
    operator = await phone.next_call()
    await to_operator.answered()
    bridge.join(at_pbx)
    bridge.join(to_operator)
    timeline.say("operator", "answers; they talk")
    before = await _talk(customer, operator, voice_customer, voice_operator)

    session = await switch.create_session(amount=args.amount)
    timeline.say("operator", f"registers {args.amount:,} yen: identification number issued")
    events = asyncio.create_task(_watch(switch, session["id"], timeline))

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
    after = await _talk(customer, operator, voice_customer, voice_operator)
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
    if (paid["status"], payment["status"], len(charges), after) != ("paid", "approved", 1, True):
        print(f"It did not go as it should: {result}\n{switch.log_tail()}", file=sys.stderr)
        raise SystemExit(1)
    return result


async def _talk(
    customer: PhoneCall, operator: PhoneCall, mine: NDArray[np.int16], theirs: NDArray[np.int16]
) -> bool:
    """Each says something; whether each heard the other's pitch."""
    heard = []
    for speaker, listener, voice in ((customer, operator, mine), (operator, customer, theirs)):
        start = len(listener.heard.samples)
        await speaker.say(voice)
        await listener.ears.listen(300)
        heard.append(pitch_of(listener.heard.samples[start:]) - pitch_of(voice))
    return all(abs(difference) < 12 for difference in heard)


def voice(pitch_hz: float, seconds: float = 1.2) -> NDArray[np.int16]:
    """A hummed vowel: harmonics of one pitch under formants, told apart by its spectrum."""
    time_s = np.arange(int(seconds * 8000)) / 8000
    wave = np.zeros_like(time_s)
    for harmonic in range(1, int(3400 / pitch_hz)):
        frequency = harmonic * pitch_hz
        gain = sum(np.exp(-(((frequency - formant) / 180) ** 2)) for formant in (700, 1220, 2600)) + 0.05
        wave += gain * np.sin(2 * np.pi * frequency * time_s + harmonic)
    envelope = np.minimum(1, np.minimum(time_s, seconds - time_s) * 20)
    scaled: NDArray[np.int16] = (wave * envelope / np.abs(wave).max() * 9000).astype(np.int16)
    return scaled


def pitch_of(samples: NDArray[np.int16]) -> float:
    """Fundamental frequency by the autocorrelation's first peak, 0 for silence."""
    signal = samples.astype(np.float64)
    if len(signal) < 800 or np.abs(signal).max() < 300:
        return 0.0
    spectrum = np.fft.rfft(signal, 2 * len(signal))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(signal)]
    lags = slice(int(8000 / 320), int(8000 / 100))
    return 8000 / (lags.start + int(np.argmax(correlation[lags])))


async def _watch(switch: Switch, session: str, timeline: Timeline) -> None:
    """Prints the API's live events of the session, as an operator's screen would show them."""
    async with switch.api.stream("GET", "/v1/events/stream", timeout=None) as stream:
        name = ""
        async for line in stream.aiter_lines():
            if line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            elif line.startswith("data:") and session in line:
                timeline.say("api", name)


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
