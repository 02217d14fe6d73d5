"""Whom a merchant's calls may be put through to: the one rule, asked when it is written and when it is dialled.

A trunk that several merchants share must not let one of them call the world at the platform's cost (toll fraud). So a
number needs one of the beginnings that the platform opened, and a URI, which says nothing about what a proxy makes of
it (`sip:+81901234567@proxy` is a number in disguise), is dialled only by a trunk that belongs to the merchant alone and
that leads to no numbers at all.
"""

from __future__ import annotations

import ipaddress

from sipivr.store.number_rules import Destination
from sipivr.store.records import Trunk


def reason_against(destination: Destination, trunk: Trunk | None, merchant: str) -> str | None:
    """Why a destination may not be dialled.

    Args:
        destination: that somebody wants.
        trunk: what `destination.trunk` names, None if there is no such trunk.
        merchant: whose number it stands on.

    Returns:
        A sentence that begins with the field's name; None if it may be dialled.
    """
    reason = reason_against_trunk(trunk, merchant)
    if reason is not None or trunk is None or trunk.rules.proxy is None:
        return reason
    number = destination.number
    if number is not None:
        if number.startswith(trunk.rules.outbound_prefixes or ("-",)):
            return None
        return "target: the trunk's outbound_prefixes do not allow this number"
    if trunk.merchant is None or trunk.rules.outbound_prefixes:
        return (
            "target: a sip: URI is dialled only by a trunk of the merchant's own that has no outbound_prefixes; "
            "a number in E.164 (+81...) by any that has"
        )
    place = destination.target.split(":", 1)[1].rpartition("@")[2]
    if not _leads_to(place, trunk.rules.proxy, trunk.networks):
        return "target: its host is neither the trunk's proxy nor inside the trunk's networks"
    return None


def reason_against_trunk(trunk: Trunk | None, merchant: str) -> str | None:
    """Why a merchant's calls may not go out by a trunk at all; None if they may."""
    if trunk is None or trunk.merchant not in (None, merchant):
        return "trunk: no such trunk"
    if not trunk.active:
        return "trunk: it is switched off"
    if trunk.rules.proxy is None:
        return "trunk: nobody may be dialled by this trunk (its rule proxy is not set)"
    return None


def _leads_to(place: str, proxy: str, networks: tuple[str, ...]) -> bool:
    if place == proxy:
        return True
    host = place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == proxy.partition(":")[0]
    return any(address in ipaddress.ip_network(network) for network in networks)
