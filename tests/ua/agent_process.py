"""A switch in a process of its own for tests: one agent, a handler that does what the called user says.

Prints one JSON object a line for each event; takes one JSON command a line: `{"do": "dial", …}`, `trunks`,
`statistics`, `stop`. pjsua2 can be started once in a process, so every module of tests starts its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from ipaddress import ip_network

from sipivr.ua.edge import EdgeTrunk
from sipivr.ua.endpoint import PJUserAgent
from sipivr.ua.identity import IdentityRules, identify
from sipivr.ua.negotiation import MediaTerms, Negotiator
from sipivr.ua.ports import UAError
from sipivr.ua.sdes import SRTPPolicy
from sipivr.ua.sdp import NotAcceptable, SDPError
from sipivr.ua.settings import Listener, Transport, UASettings, Usage


def say(event: str, leg=None, **fields) -> None:
    line = {"event": event, **({"leg": leg.number} if leg else {}), **fields}
    print(json.dumps(line), flush=True)


def secret(agreed) -> list[str] | None:
    """What both ends of SRTP must agree on, without saying it: suite, our key, theirs."""
    keys = agreed.srtp
    if keys is None:
        return None
    return [keys.suite.value, *(hashlib.sha256(key).hexdigest() for key in (keys.send, keys.receive))]


class Scripted:
    """The called user of an incoming call names what happens to it."""

    def __init__(self, terms: MediaTerms) -> None:
        self.terms = terms
        self.negotiators: dict[int, Negotiator] = {}
        self.plans: dict[int, str] = {}
        self.legs = {}
        self.ladders: list = []

    def negotiator(self, leg) -> Negotiator:
        return self.negotiators.setdefault(
            leg.number, Negotiator("127.0.0.1", 20000 + 2 * (leg.number % 1000), self.terms)
        )

    def incoming(self, leg, invite) -> None:
        plan = invite.reading.request_uri.user if invite.reading.request_uri else ""
        self.plans[leg.number] = plan
        self.legs[leg.number] = leg
        identity = identify(invite.reading, IdentityRules())
        say(
            "incoming",
            leg,
            plan=plan,
            trunk=invite.trunk,
            source=invite.source_address,
            transport=invite.transport,
            caller=identity.caller,
            offer=invite.offer is not None,
            offer_error=invite.offer_error.status if invite.offer_error else None,
        )
        if plan == "raise":
            raise RuntimeError("a fault of the handler")
        if plan.startswith("refuse"):
            leg.refuse(int(plan[6:]), {"X-Why": "test"})
            return
        if invite.offer is None:
            if invite.offer_error:
                leg.refuse(invite.offer_error.status)
            else:
                leg.answer(self.negotiator(leg).offer())
            return
        try:
            sdp, agreed = self.negotiator(leg).answer(invite.offer)
        except SDPError as error:
            leg.refuse(error.status)
            return
        if plan != "unprepared":
            leg.prepare(sdp)
        say(
            "agreed",
            leg,
            codec=agreed.codec.name,
            port=agreed.remote_port,
            dtmf=agreed.event_payload_type,
            srtp=secret(agreed),
        )
        leg.ring(sdp if plan == "early" else None)
        if plan == "ring":
            return
        if plan in {"early", "later", "unprepared"}:
            asyncio.get_running_loop().call_later(0.05, leg.answer, sdp)
        else:
            leg.answer(sdp)

    def ringing(self, leg, status) -> None:
        say("ringing", leg, status=status)

    def early_media(self, leg, status, sdp) -> None:
        say("early_media", leg, status=status, port=sdp.audio.port)

    def answered(self, leg, sdp) -> None:
        plan = self.plans.get(leg.number, "")
        port, srtp = None, None
        if sdp is not None:
            agreed = self.negotiator(leg).accept(sdp)
            port, srtp = agreed.remote_port, secret(agreed)
        say("answered", leg, port=port, srtp=srtp)
        if plan == "bye":
            leg.hang_up()
        elif plan == "reinvite":
            self.negotiator(leg).move("127.0.0.1", 31000)
            leg.reinvite(self.negotiator(leg).offer())
        elif plan == "raise-later":
            raise RuntimeError("a fault of the handler")

    def reoffered(self, leg, offer):
        if offer is None:
            say("reoffered", leg, empty=True)
            return self.negotiator(leg).offer()
        if self.plans.get(leg.number) == "no-change":
            raise NotAcceptable("Not now.")
        answer, agreed = self.negotiator(leg).answer(offer)
        say(
            "reoffered",
            leg,
            holds=agreed.remote_holds,
            direction=agreed.direction.value,
            port=agreed.remote_port,
            srtp=secret(agreed),
        )
        return answer

    def reanswered(self, leg, sdp) -> None:
        agreed = self.negotiator(leg).accept(sdp)
        say("reanswered", leg, port=agreed.remote_port, srtp=secret(agreed))
        if self.plans.get(leg.number) == "reinvite":
            leg.hang_up()

    def transferred(self, leg, status, *, final) -> None:
        pass

    def reoffer_failed(self, leg, status) -> None:
        say("reoffer_failed", leg, status=status)

    def info_key(self, leg, key, duration_ms) -> None:
        say("info_key", leg, key=key, duration_ms=duration_ms)

    def referred(self, leg, refer_to) -> None:
        say("referred", leg, refer_to=refer_to)

    def ended(self, leg, cause) -> None:
        self.legs.pop(leg.number, None)
        times = leg.times
        say(
            "ended",
            leg,
            status=cause.status,
            by_remote=cause.by_remote,
            q850=cause.q850,
            answered=times.answered is not None,
        )

    def fault(self, leg, error) -> None:
        say("fault", leg, error=str(error))

    def turned_away(self, refusal) -> None:
        called = refusal.reading.request_uri.user if refusal.reading and refusal.reading.request_uri else None
        say("turned_away", status=refusal.status, reason=refusal.reason, trunk=refusal.trunk, called=called)

    def ladder(self, entry) -> None:
        self.ladders.append(entry)


async def run(argv: list[str]) -> None:
    options = json.loads(argv[0]) if argv else {}
    terms = MediaTerms(srtp=SRTPPolicy(options.get("srtp", "off")))
    handler = Scripted(terms)
    settings = UASettings(
        listeners=(Listener(Transport.UDP, "127.0.0.1", 0), Listener(Transport.TCP, "127.0.0.1", 0)),
        max_calls=options.get("max_calls", 0),
        reliable_provisional=Usage(options.get("prack", "optional")),
        log_level=options.get("log_level", 2),
    )
    agent = PJUserAgent(settings, handler)
    trunks = options.get("trunks", {"loopback": ["127.0.0.1/32"]})
    extra = frozenset(options.get("methods", ()))
    agent.edge.replace_trunks(
        tuple(EdgeTrunk(n, tuple(map(ip_network, nets)), extra_methods=extra) for n, nets in trunks.items())
    )
    await agent.start()
    say("listening", sockets=agent.listening, edge=agent.edge_present)
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        command = json.loads(line)
        match command["do"]:
            case "dial":
                negotiator = Negotiator("127.0.0.1", command.get("port", 30000), terms)
                sdp = None if command.get("empty") else negotiator.offer()
                try:
                    leg = await agent.dial(command["target"], from_uri=command["from"], sdp=sdp)
                except UAError as error:
                    say("dial_failed", status=error.status, reason=str(error))
                    continue
                handler.negotiators[leg.number] = negotiator
                handler.plans[leg.number] = command.get("plan", "")
                handler.legs[leg.number] = leg
                say("dialled", leg, call_id=leg.call_id)
            case "hang_up":
                handler.legs[command["leg"]].hang_up()
            case "reinvite":
                leg = handler.legs[command["leg"]]
                if command.get("renew"):
                    handler.negotiator(leg).renew_keys()
                leg.reinvite(handler.negotiator(leg).offer())
            case "info":
                handler.legs[command["leg"]].send_info("application/dtmf-relay", command["body"])
            case "statistics":
                s = agent.statistics()
                say(
                    "statistics",
                    calls=s.calls,
                    call_limit=s.call_limit,
                    faults=s.faults,
                    foreign_sdp=s.foreign_sdp,
                    edge=dict(s.edge),
                )
            case "ladder":
                say("ladder", entries=[repr(e) for e in handler.ladders])
            case "refuse_new":
                agent.edge.refuse_new(command["reason"])
                say("done")
            case "stop":
                break
    pipe.close()
    await agent.stop()
    say("stopped", calls=agent.statistics().calls)


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(run(sys.argv[1:]))
