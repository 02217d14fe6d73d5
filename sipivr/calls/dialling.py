"""Legs that we dial: to whom, by which trunk, in whose name, and never in a circle.

A destination is reached only by a trunk that an administrator opened for it (`TrunkRules.proxy`): a number through the
proxy and with an allowed beginning, a URI only at the proxy or inside the trunk's own networks. Every INVITE of ours
carries a hop mark; one that comes back with it is refused (`admission`).
"""

from __future__ import annotations

import ipaddress
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
from sipivr.store import write
from sipivr.store.identifiers import new_id
from sipivr.store.number_rules import Destination
from sipivr.store.records import Trunk
from sipivr.store.trunk_rules import OutgoingFrom
from sipivr.ua.identity import HOP_HEADER
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
        self, owner: SideOwner, destination: Destination, *, caller: str | None, called: str, beside: MediaLeg
    ) -> Side:
        """INVITEs a destination; what follows is told to `owner`.

        Args:
            owner: the call.
            destination: that is rung.
            caller: E.164, None where it is withheld.
            called: the number that was called, E.164.
            beside: the customer's leg, whose worker this one goes to.

        Raises:
            Unreachable: it cannot be rung.
        """
        services, agent = self._services, self._agent
        trunk = services.directory.trunk(destination.trunk)
        target = self._target(destination, trunk)
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
        try:
            await media.add(None)
            sip = await agent.dial(
                target,
                from_uri=self._from(trunk, caller, called),
                sdp=media.negotiator.offer(),
                headers={HOP_HEADER: services.node} | ({} if caller else {"Privacy": "id"}),
            )
        except (UAError, MediaRefused, SDPError) as error:
            media.remove()
            log.warning("call %s: %s could not be dialled: %s", owner.id, destination.trunk, error)
            raise Unreachable("unreachable") from None
        record = LegRecord(owner.id, leg_id, sip, "operator", services)
        side = Side("operator", trunk=trunk.id, sip=sip, record=record, owner=owner, services=services)
        side.media = media
        media.own(side)
        self._channels.take(trunk.id)
        services.ladders.claim(sip.call_id)
        services.record(
            write.leg_started,
            id=leg_id,
            call=owner.id,
            party="operator",
            sip_call_id=sip.call_id,
            trunk=trunk.id,
        )
        self._adopt(owner, side)
        return side

    def _media(self, trunk: Trunk, beside: MediaLeg) -> MediaLeg:
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

    def _target(self, destination: Destination, trunk: Trunk | None) -> str | None:
        """The URI to dial, None where it must not be."""
        if trunk is None or not trunk.active or trunk.rules.proxy is None:
            return None
        number = destination.number
        if number is not None:
            allowed = number.startswith(trunk.rules.outbound_prefixes or ("-",))
            ours = self._services.directory.number((number,)) is not None
            return f"sip:{number}@{trunk.rules.proxy}" if allowed and not ours else None
        place = destination.target.split(":", 1)[1].rpartition("@")[2]
        if place == trunk.rules.proxy:
            return destination.target
        host = place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return destination.target if host == trunk.rules.proxy.partition(":")[0] else None
        inside = any(address in ipaddress.ip_network(network) for network in trunk.networks)
        return destination.target if inside else None

    def _from(self, trunk: Trunk, caller: str | None, called: str) -> str:
        if trunk.rules.outgoing_from is OutgoingFrom.CALLED:
            return f"sip:{called}@{self._domain}"
        return f"sip:{caller}@{self._domain}" if caller is not None else _ANONYMOUS
