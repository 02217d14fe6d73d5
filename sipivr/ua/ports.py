"""The ports between call logic and SIP: `sipivr.calls` is written against these, tests fake them.

`sipivr.ua.endpoint.PJUserAgent` and `sipivr.ua.leg.PJLeg` implement them with pjsua2. Everything here runs on
the one asyncio thread that owns pjsua2.

Life of a leg::

    incoming ─► ring()* ─► answer() ─► answered ─► … ─► ended         refuse() ─► ended
    dial() ─► ringing/early_media* ─► answered ─► … ─► ended           ended (busy, no answer, unreachable …)

Every leg that `incoming` delivered or `dial` returned gets exactly one `ended`, faults and our own
`hang_up` included; no event of a leg comes after its `ended`. Handler methods run outside pj's callbacks, so
they may call any method of any leg. `incoming` and `reoffered` are the exceptions: pjsua wants our SDP before
they return. Inside `incoming`, what is asked of the leg is carried out right after the callback. An exception
from one of them ends that leg with 500 and is reported to `fault`, then `ended` follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sipivr.ua.edge import EdgePolicy, EdgeRefusal
from sipivr.ua.identity import InviteReading
from sipivr.ua.ladder import LadderEntry
from sipivr.ua.sdp import SDPError, SessionDescription


@dataclass(frozen=True, slots=True)
class SIPCause:
    """How a leg ended.

    Attributes:
        status: SIP status of the final response, 200 for an ordinary BYE, 487 for CANCEL, 408 …
        reason: reason phrase, bounded and printable.
        by_remote: the peer ended it.
        q850: cause of a `Reason: Q.850` header, None when absent (RFC 3326).
    """

    status: int
    reason: str
    by_remote: bool
    q850: int | None = None


@dataclass(slots=True)
class LegTimes:
    """Seconds since the epoch; None while it has not happened."""

    invite: float
    ringing: float | None = None
    answered: float | None = None
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class IncomingInvite:
    """What came with an INVITE.

    Attributes:
        trunk: id of the trunk by source address (None only on an agent without an edge: loopback tests).
        reading: identities, before the trunk's rules (`sipivr.ua.identity.identify`).
        offer: the peer's offer, None for a delayed offer or when `offer_error` is set.
        offer_error: the body was no usable SDP; refuse with its `status`.
        source_address, source_port, transport: where it came from (`UDP`, `TCP`, `TLS`).
    """

    trunk: str | None
    reading: InviteReading
    offer: SessionDescription | None
    offer_error: SDPError | None
    source_address: str
    source_port: int
    transport: str


class SIPLeg(Protocol):
    """One SIP dialog of ours. Methods on an ended leg do nothing."""

    @property
    def number(self) -> int:
        """Unique in the life of the process, never re-used."""

    @property
    def call_id(self) -> str:
        """SIP Call-ID."""

    @property
    def outgoing(self) -> bool:
        """Whether we dialled it."""

    @property
    def times(self) -> LegTimes:
        """When what happened."""

    @property
    def cause(self) -> SIPCause | None:
        """How it ended, None while it lives."""

    def prepare(self, sdp: SessionDescription) -> None:
        """The answer that `ring` or `answer` will send; to be given within `incoming` when there is an offer.

        pjsua settles the session's description before it sends 100, so it cannot be chosen later. `ring` and
        `answer` called within `incoming` imply it; after it they must name the same description.
        """

    def ring(self, sdp: SessionDescription | None = None, status: int = 180) -> None:
        """180 or 183, with our answer when the peer shall hear us early (which fixes it, RFC 3264)."""

    def answer(self, sdp: SessionDescription) -> None:
        """200 with `sdp`: the answer to the offer, or our offer when there was none.

        Raises:
            UAError: there was an offer and `sdp` is not what `prepare` was given.
        """

    def refuse(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """A final 3xx–6xx to an INVITE not yet answered."""

    def hang_up(self, status: int = 0, headers: Mapping[str, str] | None = None) -> None:
        """BYE, CANCEL or a final refusal (`status`, default 603), whichever the state calls for."""

    def send_info(self, content_type: str, body: str) -> None:
        """An INFO in the dialog. Its body is never logged."""

    def reinvite(self, sdp: SessionDescription) -> None:
        """Offers `sdp` anew; ends in `reanswered` or `reoffer_failed` (491 is retried, RFC 3261 §14.1)."""

    def refer(self, target: str) -> None:
        """REFER: asks the peer to call `target` itself (RFC 3515); `transferred` tells how far that is."""


class UAHandler(Protocol):
    """What the call logic is told. `sdp` is a new description of the peer, None when nothing is new."""

    def incoming(self, leg: SIPLeg, invite: IncomingInvite) -> None:
        """A new call: `leg.prepare(answer)` at once; ring, answer or refuse it now or later (100 is sent)."""

    def ringing(self, leg: SIPLeg, status: int) -> None:
        """A 18x without SDP on a dialled leg."""

    def early_media(self, leg: SIPLeg, status: int, sdp: SessionDescription) -> None:
        """A 18x with the peer's answer."""

    def answered(self, leg: SIPLeg, sdp: SessionDescription | None) -> None:
        """Dialled: 2xx has come. Incoming: ACK has come, with the answer to a delayed offer of ours."""

    def reoffered(self, leg: SIPLeg, offer: SessionDescription | None) -> SessionDescription:
        """re-INVITE or UPDATE: return our answer, or our offer when `offer` is None. Inside the callback.

        Raises:
            SDPError: refuses the change with its status (488); the call goes on as it was (RFC 3261 §14.2).
        """

    def reanswered(self, leg: SIPLeg, sdp: SessionDescription) -> None:
        """The peer's answer to our `reinvite` or to the offer that `reoffered` made."""

    def reoffer_failed(self, leg: SIPLeg, status: int) -> None:
        """The peer refused our `reinvite`; the call goes on as it was."""

    def info_key(self, leg: SIPLeg, key: int, duration_ms: int) -> None:
        """A key by INFO (dtmf-relay or dtmf), as telephone-event code 0–15."""

    def referred(self, leg: SIPLeg, refer_to: str) -> None:
        """A REFER that the edge let pass. It has been refused with 603: pjsua would follow it by itself."""

    def transferred(self, leg: SIPLeg, status: int, *, final: bool) -> None:
        """A REFER of ours: refused (a final status from 300 on), or what the peer's NOTIFY says of its call."""

    def ended(self, leg: SIPLeg, cause: SIPCause) -> None:
        """The leg is over; exactly once."""

    def fault(self, leg: SIPLeg | None, error: BaseException) -> None:
        """Something of ours raised; `leg` (if any) is being ended with 500."""

    def turned_away(self, refusal: EdgeRefusal) -> None:
        """A known trunk's INVITE that the edge refused: leaves a call record."""

    def ladder(self, entry: LadderEntry) -> None:
        """One message, either way (only where `edge.c` is there)."""


@dataclass(frozen=True, slots=True)
class UAStatistics:
    """Numbers for /metrics and doctor.

    `buried` are pj calls that have ended and wait for their slot to be nobody's.
    """

    calls: int
    call_limit: int
    faults: int
    foreign_sdp: int
    edge: Mapping[str, int] = field(default_factory=dict)
    buried: int = 0


class UserAgent(Protocol):
    """The switch's SIP user agent."""

    @property
    def edge(self) -> EdgePolicy:
        """The edge's policy, for trunks and overload."""

    @property
    def listening(self) -> Sequence[tuple[str, str, int]]:
        """(`UDP`, address, port) of each listener, with the real ports."""

    async def start(self) -> None:
        """Brings up the listeners.

        Raises:
            UAError: a listener could not start, or an outside address without `edge.c`.
        """

    async def stop(self, drain_s: float = 0.0) -> None:
        """No new calls; waits up to `drain_s` for running ones; ends the rest; closes everything."""

    async def dial(
        self,
        target: str,
        *,
        from_uri: str,
        sdp: SessionDescription | None,
        headers: Mapping[str, str] | None = None,
    ) -> SIPLeg:
        """INVITEs `target` (a sip:/sips: URI, its host resolved by us). `sdp=None`: delayed offer.

        Raises:
            UAError: nothing to send to (no such host, no free call slot, bad URI): `status` says which.
        """

    def statistics(self) -> UAStatistics:
        """Counters and gauges."""


class UAError(Exception):
    """The user agent cannot do what was asked; `status` is the nearest SIP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
