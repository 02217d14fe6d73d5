"""Legs that we dial: to whom, by which trunk, in whose name, and never in a circle.

A destination is reached only by a trunk that is open for it (`store.reach`). Every INVITE of ours carries a hop mark;
one that comes back with it is refused (`admission`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from media.protocol import DTMFMode
from sipivr.calls.leg_record import LegRecord
from sipivr.calls.lines import Lines
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaRefused
from sipivr.calls.media_ports import PortsExhausted
from sipivr.calls.services import Services
from sipivr.calls.side import Side, SideOwner
from sipivr.store import reach, write
from sipivr.store.identifiers import new_id
from sipivr.store.number_rules import Destination
from sipivr.store.records import Trunk
from sipivr.store.trunk_rules import OutgoingFrom, Rewrite
from sipivr.ua.identity import HOP_HEADER, Rewrites, rewritten
from sipivr.ua.negotiation import MediaTerms
from sipivr.ua.ports import UAError, UserAgent
from sipivr.ua.sdes import SRTPPolicy
from sipivr.ua.sdp import Codec, SDPError

log = logging.getLogger(__name__)

#: RFC 3323 §4.1.1.3.
_ANONYMOUS: Final = '"Anonymous" <sip:anonymous@anonymous.invalid>'


class Unreachable(Exception):
    """The destination cannot even be rung; `reason` is a word for the call's timeline."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def media_terms(trunk: Trunk) -> MediaTerms:
    """What a trunk's legs may agree on."""
    codecs = tuple(Codec[name.value] for name in trunk.rules.codecs)
    return MediaTerms(codecs=codecs, srtp=SRTPPolicy(trunk.srtp.value))


def pairs(rewrites: tuple[Rewrite, ...]) -> Rewrites:
    """A trunk's rewrites in the user agent's form."""
    return tuple((rewrite.prefix, rewrite.to) for rewrite in rewrites)


class Dialler:
    """Makes legs.

    Args:
        services: the rest of the house.
        channels: calls by trunk; a leg that we dial takes one.
        adopt: is given each new side, before anything can happen on it.
    """

    def __init__(self, services: Services, channels: Lines, adopt: Callable[[SideOwner, Side], None]) -> None:
        self._services = services
        self._channels = channels
        self._adopt = adopt
        self._agent: UserAgent | None = None
        self._domain = ""

    def use(self, agent: UserAgent, domain: str) -> None:
        """The user agent, once there is one, and the host that our From names."""
        self._agent, self._domain = agent, domain

    async def ring(
        self,
        owner: SideOwner,
        destination: Destination,
        *,
        merchant: str,
        caller: str | None,
        called: str,
        beside: MediaLeg | None,
        party: str = "operator",
    ) -> Side:
        """INVITEs a destination; what follows is told to `owner`.

        Args:
            owner: the call.
            destination: that is rung.
            merchant: whose call it is.
            caller: E.164, None where it is withheld.
            called: the number that was called, E.164.
            beside: the customer's leg, whose worker this one goes to; None: any worker.
            party: who is rung, `operator` or `customer`.

        Raises:
            Unreachable: it cannot be rung.
        """
        services, agent = self._services, self._agent
        trunk = services.directory.trunk(destination.trunk)
        target = self._target(destination, trunk, merchant)
        if agent is None or trunk is None or target is None:
            raise Unreachable("not_allowed")
        limit = trunk.rules.channel_limit
        if limit is not None and self._channels.taken(trunk.id) >= limit:
            raise Unreachable("channel_limit")
        try:
            media, leg_id = self._media(trunk, beside), new_id("leg")
        except (MediaRefused, PortsExhausted) as error:
            log.error("call %s: no media for a leg to dial: %s", owner.id, error)
            raise Unreachable("media_unavailable") from None
        # Taken before the first wait: two calls that ring at once must not share the last channel.
        self._channels.take(trunk.id)
        try:
            await media.add(None)
            sip = await agent.dial(
                target,
                from_uri=self._from(trunk, caller, called),
                sdp=media.negotiator.offer(),
                headers={HOP_HEADER: services.node} | ({} if caller else {"Privacy": "id"}),
            )
        except BaseException as error:
            self._channels.free(trunk.id)
            media.remove()
            if not isinstance(error, UAError | MediaRefused | SDPError):
                raise
            log.warning("call %s: %s could not be dialled: %s", owner.id, destination.trunk, error)
            raise Unreachable("unreachable") from None
        record = LegRecord(owner.id, leg_id, sip, party, services)
        side = Side(party, trunk=trunk.id, sip=sip, record=record, owner=owner, services=services)
        side.media = media
        media.own(side)
        services.ladders.claim(sip.call_id)
        services.record(
            write.leg_started,
            id=leg_id,
            call=owner.id,
            party=party,
            sip_call_id=sip.call_id,
            trunk=trunk.id,
        )
        self._adopt(owner, side)
        return side

    def _media(self, trunk: Trunk, beside: MediaLeg | None) -> MediaLeg:
        return MediaLeg(
            self._services.media,
            None,
            remote=None,
            terms=media_terms(trunk),
            advertised=self._services.media_addresses,
            symmetric=trunk.rules.symmetric_rtp,
            dtmf=DTMFMode(trunk.rules.dtmf.value),
            beside=beside,
        )

    def _target(self, destination: Destination, trunk: Trunk | None, merchant: str) -> str | None:
        """The URI to dial, None where it must not be."""
        # Asked again: the trunk's rules may be newer than the destination.
        if trunk is None or reach.reason_against(destination, trunk, merchant) is not None:
            return None
        number = destination.number
        if number is None:
            return destination.target
        ours = self._services.directory.number((number,)) is not None
        if ours:
            return None
        return f"sip:{rewritten(number, pairs(trunk.rules.dialled_rewrite))}@{trunk.rules.proxy}"

    def _from(self, trunk: Trunk, caller: str | None, called: str) -> str:
        if trunk.rules.outgoing_from is OutgoingFrom.CALLED:
            return f"sip:{called}@{self._domain}"
        return f"sip:{caller}@{self._domain}" if caller is not None else _ANONYMOUS
