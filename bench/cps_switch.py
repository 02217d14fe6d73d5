"""The process that `bench.cps` measures: one user agent whose handler answers, or refuses, every call."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from ipaddress import ip_network

from sipivr.ua.edge import EdgeRefusal, EdgeTrunk
from sipivr.ua.endpoint import PJUserAgent
from sipivr.ua.ladder import LadderEntry
from sipivr.ua.negotiation import MediaTerms, Negotiator
from sipivr.ua.ports import IncomingInvite, SIPCause, SIPLeg
from sipivr.ua.sdp import SDPError, SessionDescription
from sipivr.ua.settings import Listener, UASettings


class Answering:
    """Answers every call but those for `busy`, which get 486."""

    def __init__(self) -> None:
        self.ended_calls = 0
        self.faults = 0
        self._negotiators: dict[int, Negotiator] = {}

    def incoming(self, leg: SIPLeg, invite: IncomingInvite) -> None:
        """See `UAHandler`."""
        uri = invite.reading.request_uri
        if invite.offer is None or uri is None or uri.user == "busy":
            leg.refuse(486)
            return
        negotiator = self._negotiators[leg.number] = Negotiator("127.0.0.1", 20000, MediaTerms())
        sdp, _ = negotiator.answer(invite.offer)
        leg.ring()
        leg.answer(sdp)

    def reoffered(self, leg: SIPLeg, offer: SessionDescription | None) -> SessionDescription:
        """See `UAHandler`."""
        if offer is None:
            raise SDPError("Nothing was offered.")
        return self._negotiators[leg.number].answer(offer)[0]

    def ended(self, leg: SIPLeg, cause: SIPCause) -> None:
        """See `UAHandler`."""
        self.ended_calls += 1
        self._negotiators.pop(leg.number, None)

    def fault(self, leg: SIPLeg | None, error: BaseException) -> None:
        """See `UAHandler`."""
        self.faults += 1

    def ringing(self, leg: SIPLeg, status: int) -> None:
        """See `UAHandler`."""

    def early_media(self, leg: SIPLeg, status: int, sdp: SessionDescription) -> None:
        """See `UAHandler`."""

    def answered(self, leg: SIPLeg, sdp: SessionDescription | None) -> None:
        """See `UAHandler`."""

    def reanswered(self, leg: SIPLeg, sdp: SessionDescription) -> None:
        """See `UAHandler`."""

    def transferred(self, leg: SIPLeg, status: int, *, final: bool) -> None:
        """See `UAHandler`."""

    def reoffer_failed(self, leg: SIPLeg, status: int) -> None:
        """See `UAHandler`."""

    def info_key(self, leg: SIPLeg, key: int, duration_ms: int) -> None:
        """See `UAHandler`."""

    def referred(self, leg: SIPLeg, refer_to: str) -> None:
        """See `UAHandler`."""

    def turned_away(self, refusal: EdgeRefusal) -> None:
        """See `UAHandler`."""

    def ladder(self, entry: LadderEntry) -> None:
        """See `UAHandler`."""


async def serve(*, ladder: bool) -> None:
    """Listens on a free port of loopback, says which, and serves until SIGTERM."""
    handler = Answering()
    agent = PJUserAgent(UASettings(listeners=(Listener(port=0),), ladder=ladder), handler)
    networks = (ip_network("127.0.0.1/32"),)
    agent.edge.replace_trunks((EdgeTrunk("load", networks, requests_per_s=1e6, burst=1_000_000),))
    await agent.start()
    print(json.dumps({"port": agent.listening[0][2]}), flush=True)
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    await done.wait()
    statistics = agent.statistics()
    await agent.stop()
    print(
        json.dumps(
            {
                "ended": handler.ended_calls,
                "faults": statistics.faults,
                "foreign_sdp": statistics.foreign_sdp,
                "left": statistics.calls,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(serve(ladder="--no-ladder" not in sys.argv))
