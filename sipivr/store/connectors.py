"""Where a card may go: one platform administrator proposes, another confirms, both are audited (invariant 6).

    proposal ──confirm (another administrator)──► the connector is as proposed
       └────── reject, or 7 days pass ──────────► nothing changes

Nothing else writes a connector but the first seeding of an installation (`registry.put_connector`).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sipivr.store import rows
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import Conflict, Invalid, NotFound
from sipivr.store.identifiers import new_id, timestamp
from sipivr.store.records import Actor, Connector, ConnectorProposal, Mode, Role

KINDS: Final = ("gmo", "json")
VALID: Final = dt.timedelta(days=7)
MAX_PINS: Final = 5
MAX_NETWORKS: Final = 20

_PIN: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SELECT: Final = (
    "SELECT id, connector, kind, url, mode, tls_pin, networks, active, proposed_by, proposed_at, decided_by,"
    " decided_at, decision FROM connector_proposal"
)


def propose_connector(
    store: WritableStore,
    actor: Actor,
    *,
    kind: str,
    url: str,
    mode: Mode,
    pins: Iterable[str] = (),
    networks: Iterable[str] = (),
    active: bool = True,
    connector: str | None = None,
    now: dt.datetime | None = None,
) -> ConnectorProposal:
    """Proposes a new connector, or with `connector` a change of one.

    Args:
        store: the writable store.
        actor: a platform administrator.
        kind: `gmo` or `json`.
        url: `https://HOST[:PORT]`; `http` to this machine in test mode only.
        mode: a connector keeps the mode that it was made with.
        pins: SHA-256 of public keys that the host may show, hexadecimal; none: any that TLS accepts.
        networks: addresses that the host may have; none: any (`json`: any of the public internet).
        active: whether cards may go there.
        connector: what is changed.
        now: for tests.

    Raises:
        Invalid: a value outside its format, or an actor that is no platform administrator.
        NotFound: no such connector.
        Conflict: another mode than the connector's.
    """
    values = (kind, url, mode, _pins(pins), _networks(networks), int(active))
    _check_url(kind, url, mode)
    with transaction(store, now) as tx:
        _require_platform(tx, actor)
        if connector is not None:
            row = tx.row("SELECT mode FROM connector WHERE id = ?", [connector])
            if row is None:
                raise NotFound("no such connector")
            if row[0] != mode:
                raise Conflict("test and live are different connectors", connector)
        proposal, target = new_id("cpr", tx.now), connector or new_id("con", tx.now)
        tx.run(
            "INSERT INTO connector_proposal (id, connector, kind, url, mode, tls_pin, networks, active, proposed_by,"
            " proposed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [proposal, target, *values, actor.principal, tx.at],
        )
        tx.audit(actor, "connector.propose", proposal, None, {"connector": target, "kind": kind, "url": url})
        return _proposal(tx, proposal)


def decide_connector(
    store: WritableStore, actor: Actor, *, proposal: str, confirm: bool, now: dt.datetime | None = None
) -> ConnectorProposal:
    """Confirms or rejects; a rejection may come from the proposer too.

    Raises:
        Invalid: an actor that is no platform administrator.
        NotFound: no such proposal.
        Conflict: decided already, too old, or confirmed by the one who proposed it.
    """
    with transaction(store, now) as tx:
        _require_platform(tx, actor)
        found = _proposal(tx, proposal)
        if found.decision is not None:
            raise Conflict(f"the proposal was {found.decision}", proposal)
        if found.proposed_at < timestamp(tx.now - VALID):
            raise Conflict("the proposal is too old; propose it again", proposal)
        if confirm and found.proposed_by == actor.principal:
            raise Conflict("another administrator than the proposer has to confirm", proposal)
        decision = "confirmed" if confirm else "rejected"
        tx.run(
            "UPDATE connector_proposal SET decision = ?, decided_by = ?, decided_at = ? WHERE id = ?",
            [decision, actor.principal, tx.at, proposal],
        )
        if confirm:
            tx.run(
                "INSERT INTO connector (id, kind, url, mode, tls_pin, networks, active, proposed_by, confirmed_by,"
                " created_at) SELECT connector, kind, url, mode, tls_pin, networks, active, proposed_by, ?, ?"
                " FROM connector_proposal WHERE id = ?"
                " ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, url = excluded.url, tls_pin = excluded.tls_pin,"
                " networks = excluded.networks, active = excluded.active, proposed_by = excluded.proposed_by,"
                " confirmed_by = excluded.confirmed_by",
                [actor.principal, tx.at, proposal],
            )
        detail: dict[str, Any] = {
            "connector": found.connector,
            "url": found.url,
            "proposed_by": found.proposed_by,
        }
        tx.audit(actor, f"connector.{decision}", proposal, None, detail)
        return _proposal(tx, proposal)


def connector_of(tx: Transaction, id: str) -> Connector:
    """A connector as it is now.

    Raises:
        NotFound: no such connector.
    """
    row = tx.row(rows.CONNECTOR + " WHERE id = ?", [id])
    if row is None:
        raise NotFound("no such connector")
    return rows.connector(row)


def _require_platform(tx: Transaction, actor: Actor) -> None:
    row = tx.row("SELECT role, active FROM principal WHERE id = ?", [actor.principal])
    if row is None or row[0] != Role.PLATFORM or not row[1]:
        raise Invalid("only platform administrators decide where a card goes")


def _check_url(kind: str, url: str, mode: Mode) -> None:
    if kind not in KINDS:
        raise Invalid(f"kind: one of {', '.join(KINDS)}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise Invalid("url: not an address") from None
    if (
        parts.username
        or parts.password
        or parts.query
        or parts.fragment
        or parts.path not in ("", "/")
        or not host
    ):
        raise Invalid("url: scheme, host and port only")
    local = kind == "gmo" and mode is Mode.TEST and parts.scheme == "http" and _is_loopback(host)
    if parts.scheme != "https" and not local:
        raise Invalid("url: https; http only to a simulator on this machine, in test mode")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _pins(pins: Iterable[str]) -> str | None:
    found = [pin.lower() for pin in pins]
    if len(found) > MAX_PINS or not all(_PIN.fullmatch(pin) for pin in found):
        raise Invalid(f"pins: at most {MAX_PINS}, each 64 hexadecimal digits (SHA-256 of a public key)")
    return ",".join(found) or None


def _networks(networks: Iterable[str]) -> str:
    try:
        found = [str(ip_network(network)) for network in networks]
    except ValueError:
        raise Invalid("networks: addresses with their prefix, as 192.0.2.0/24") from None
    if len(found) > MAX_NETWORKS:
        raise Invalid(f"networks: at most {MAX_NETWORKS}")
    return msgspec.json.encode(found).decode()


def _proposal(tx: Transaction, id: str) -> ConnectorProposal:
    row = tx.row(_SELECT + " WHERE id = ?", [id])
    if row is None:
        raise NotFound("no such proposal")
    values = list(row)
    values[4] = Mode(values[4])
    values[5] = tuple(values[5].split(",")) if values[5] else ()
    values[6] = tuple(msgspec.json.decode(values[6]))
    values[7] = bool(values[7])
    return ConnectorProposal(*values)
