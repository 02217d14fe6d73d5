"""Who is served and where cards go: merchants, numbers, shops, connectors, trunks, principals.

The `put_…` functions are for `sipivr init` and the platform's administrators: they insert, or replace what
has the same id, and are audited. Connectors (invariant 6) have no other way in: no command of the control
socket reaches `put_connector` or `put_shop`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from sipivr.store import crypto, number_rules, reach, rows, trunk_rules
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import Invalid, NotFound
from sipivr.store.identifiers import new_id
from sipivr.store.number_rules import NumberRules
from sipivr.store.records import (
    Actor,
    BridgeMask,
    Connector,
    Mask,
    Merchant,
    Mode,
    Number,
    NumberUse,
    Principal,
    Role,
    Shop,
    Trunk,
    TrunkSRTP,
)

E164: Final = re.compile(r"\+[1-9][0-9]{2,14}", re.ASCII)


def put_merchant(
    store: WritableStore,
    actor: Actor,
    *,
    name: str,
    mode: Mode,
    language: str = "ja",
    identification_digits: int = 6,
    active: bool = True,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Merchant:
    """A merchant. Fewer than 6 identification digits are only safe with an allowed-caller list."""
    if not 4 <= identification_digits <= 10:
        raise Invalid("identification_digits: 4 to 10")
    with transaction(store, now) as tx:
        merchant = id or new_id("mer", tx.now)
        values = {
            "name": name,
            "mode": mode,
            "language": language,
            "identification_digits": identification_digits,
            "active": active,
        }
        _put(tx, actor, "merchant", merchant, values, merchant=merchant)
        return rows.merchant(_row(tx, rows.MERCHANT, merchant))


def set_masks(
    store: WritableStore,
    actor: Actor,
    *,
    merchant: str,
    mask: Mask | None = None,
    bridge_mask: BridgeMask | None = None,
    now: dt.datetime | None = None,
) -> Merchant:
    """What the operator's side hears during a merchant's captures; None leaves a value as it is.

    Raises:
        NotFound: no such merchant.
        Invalid: a clamp, and the platform has not allowed it.
    """
    with transaction(store, now) as tx:
        current = rows.merchant(_row(tx, rows.MERCHANT, merchant))
        if mask is not None:
            check_mask(mask, clamp_allowed=current.clamp_allowed)
        wanted = {"mask": mask or current.mask, "bridge_mask": bridge_mask or current.bridge_mask}
        tx.run(
            "UPDATE merchant SET mask = :mask, bridge_mask = :bridge_mask WHERE id = :id",
            wanted | {"id": merchant},
        )
        tx.audit(actor, "merchant.set_masks", merchant, merchant, wanted)
        return rows.merchant(_row(tx, rows.MERCHANT, merchant))


def allow_clamp(
    store: WritableStore, actor: Actor, *, merchant: str, allowed: bool, now: dt.datetime | None = None
) -> Merchant:
    """Lets a merchant choose the mask that passes spoken digits, or takes it away: what chose it gets noise then.

    Raises:
        NotFound: no such merchant.
    """
    with transaction(store, now) as tx:
        _row(tx, rows.MERCHANT, merchant)
        tx.run("UPDATE merchant SET clamp_allowed = ? WHERE id = ?", [int(allowed), merchant])
        if not allowed:
            tx.run(
                "UPDATE merchant SET mask = ? WHERE id = ? AND mask = ?",
                [Mask.COMFORT_NOISE, merchant, Mask.CLAMP],
            )
        tx.audit(actor, "merchant.allow_clamp", merchant, merchant, {"allowed": allowed})
        return rows.merchant(_row(tx, rows.MERCHANT, merchant))


def check_mask(mask: Mask, *, clamp_allowed: bool) -> None:
    """Raises Invalid for a clamp that is not allowed."""
    if mask is Mask.CLAMP and not clamp_allowed:
        raise Invalid("mask: clamp passes spoken digits; the platform has to allow it for the merchant first")


def put_number(
    store: WritableStore,
    actor: Actor,
    *,
    merchant: str,
    e164: str,
    use: NumberUse = NumberUse.TRANSFER_IN,
    line_limit: int = 5,
    language: str = "ja",
    active: bool = True,
    rules: Mapping[str, object] | None = None,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Number:
    """A telephone number of a merchant; `rules` are the fields of `NumberRules` that are not their defaults.

    Raises:
        Invalid: not E.164, or another row has it; a rule is wrong (`set_number_rules`).
    """
    check_e164(e164)
    kept = number_rules.read(rules or {})
    with transaction(store, now) as tx:
        _check_destinations(tx, kept, merchant)
        number = id or new_id("num", tx.now)
        if tx.row("SELECT 1 FROM number WHERE e164 = ? AND id <> ?", [e164, number]):
            raise Invalid("e164: this number is in use")
        values = {
            "merchant": merchant,
            "e164": e164,
            "use": use,
            "line_limit": line_limit,
            "language": language,
            "active": active,
            "rules": _json(kept),
        }
        _put(tx, actor, "number", number, values, merchant=merchant)
        return rows.number(_row(tx, rows.NUMBER, number))


def set_number_rules(
    store: WritableStore,
    actor: Actor,
    *,
    number: str,
    rules: Mapping[str, object],
    merchant: str | None = None,
    now: dt.datetime | None = None,
) -> Number:
    """Where a number's inline calls go; `merchant`: whose number it has to be.

    Raises:
        NotFound: no such number of that merchant.
        Invalid: a rule is not known or has a wrong value; a destination that may not be dialled.
    """
    kept = number_rules.read(rules)
    with transaction(store, now) as tx:
        found = tx.row(f"{rows.NUMBER} WHERE id = ?", [number])
        current = rows.number(found) if found is not None else None
        if current is None or merchant not in (None, current.merchant):
            raise NotFound("no such number")
        _check_destinations(tx, kept, current.merchant)
        tx.run("UPDATE number SET rules = ? WHERE id = ?", [_json(kept), number])
        detail = {"destinations": len(kept.destinations)}
        tx.audit(actor, "number.set_rules", number, current.merchant, detail)
        return rows.number(_row(tx, rows.NUMBER, number))


def _check_destinations(tx: Transaction, rules: NumberRules, merchant: str) -> None:
    """Raises Invalid for one that no trunk open to the merchant may dial, or that is a number of ours (a loop)."""
    if rules.outbound_trunk is not None:
        row = tx.row(f"{rows.TRUNK} WHERE id = ?", [rules.outbound_trunk])
        reason = reach.reason_against_trunk(rows.trunk(row) if row is not None else None, merchant)
        if reason is not None:
            raise Invalid(f"rules.outbound_{reason}")
    for place, destination in enumerate(rules.destinations):
        where = f"rules.destinations[{place}]"
        row = tx.row(f"{rows.TRUNK} WHERE id = ?", [destination.trunk])
        trunk = rows.trunk(row) if row is not None else None
        reason = reach.reason_against(destination, trunk, merchant)
        if reason is not None:
            raise Invalid(f"{where}.{reason}")
        number = destination.number
        if number is None:
            continue
        if tx.row("SELECT 1 FROM number WHERE e164 = ?", [number]):
            raise Invalid(f"{where}.target: a number of this switch would be a loop")


def put_connector(
    store: WritableStore,
    actor: Actor,
    *,
    kind: str,
    url: str,
    mode: Mode,
    tls_pin: str | None = None,
    active: bool = True,
    confirmed_by: str | None = None,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Connector:
    """Where a card may go. `actor` proposes, `confirmed_by` is the second administrator (None when
    seeding).
    """
    with transaction(store, now) as tx:
        connector = id or new_id("con", tx.now)
        values = {
            "kind": kind,
            "url": url,
            "mode": mode,
            "tls_pin": tls_pin,
            "active": active,
            "proposed_by": actor.principal,
            "confirmed_by": confirmed_by,
        }
        _put(tx, actor, "connector", connector, values, merchant=None)
        return rows.connector(_row(tx, rows.CONNECTOR, connector))


def put_shop(
    store: WritableStore,
    actor: Actor,
    *,
    merchant: str,
    name: str,
    gateway_shop_id: str,
    gateway_password: str,
    connector: str,
    name_spoken: Mapping[str, str] | None = None,
    brands: Iterable[str] = ("visa", "mastercard", "jcb", "american_express", "diners"),
    security_code_required: bool = True,
    job: str = "CAPTURE",
    currency: str = "JPY",
    active: bool = True,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Shop:
    """A shop of a merchant at one connector; `gateway_password` (ShopPass) is sealed at once."""
    with transaction(store, now) as tx:
        shop = id or new_id("shop", tx.now)
        values = {
            "merchant": merchant,
            "name": name,
            "name_spoken": _json(dict(name_spoken or {})),
            "gateway_shop_id": gateway_shop_id,
            "password_sealed": crypto.seal(store.keys, gateway_password, f"shop.password:{shop}"),
            "connector": connector,
            "brands": _json(list(brands)),
            "security_code_required": security_code_required,
            "job": job,
            "currency": currency,
            "active": active,
        }
        _put(tx, actor, "shop", shop, values, merchant=merchant)
        return rows.shop(_row(tx, rows.SHOP, shop))


def put_trunk(
    store: WritableStore,
    actor: Actor,
    *,
    name: str,
    networks: Iterable[str],
    merchant: str | None = None,
    trust_identity: bool = False,
    options: Mapping[str, object] | None = None,
    srtp: TrunkSRTP = TrunkSRTP.OFF,
    active: bool = True,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Trunk:
    """A peer that may send SIP; `options` are the fields of `TrunkRules` that are not their defaults.

    Raises:
        Invalid: a network is no address or CIDR, or is everything; a rule is not known or has a wrong value.
    """
    trunk_rules.read(options or {})
    kept = []
    for network in networks:
        try:
            parsed = ipaddress.ip_network(network)
        except ValueError:
            raise Invalid(f"networks: {network!r} is not an address or CIDR") from None
        if parsed.prefixlen == 0:
            raise Invalid("networks: the whole Internet is no trunk (invariant 5)")
        kept.append(str(parsed))
    with transaction(store, now) as tx:
        trunk = id or new_id("trk", tx.now)
        values = {
            "name": name,
            "networks": _json(kept),
            "merchant": merchant,
            "trust_identity": trust_identity,
            # As they were said: what a preset says may change with it.
            "options": _json(dict(options or {})),
            "srtp": srtp,
            "active": active,
        }
        _put(tx, actor, "trunk", trunk, values, merchant=merchant)
        return rows.trunk(_row(tx, rows.TRUNK, trunk))


def put_principal(
    store: WritableStore,
    actor: Actor,
    *,
    role: Role,
    merchant: str | None,
    name: str,
    permissions: Iterable[str] = (),
    extension: str | None = None,
    active: bool = True,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Principal:
    """A principal; `permissions` come on top of none: see `control.authorise` for the vocabulary."""
    with transaction(store, now) as tx:
        return _put_principal(
            tx,
            actor,
            role=role,
            merchant=merchant,
            name=name,
            permissions=permissions,
            extension=extension,
            active=active,
            id=id,
        )


def register_principal(
    store: WritableStore,
    actor: Actor,
    *,
    merchant: str,
    name: str,
    role: Role,
    permissions: Iterable[str],
    extension: str | None = None,
    now: dt.datetime | None = None,
) -> Principal:
    """The principal of a new API key or operator of a merchant. The caller has checked what may be
    granted.
    """
    if role is Role.PLATFORM:
        raise Invalid("role: a merchant has no platform principals")
    if not 1 <= len(name) <= 200:
        raise Invalid("name: 1 to 200 characters")
    with transaction(store, now) as tx:
        return _put_principal(
            tx,
            actor,
            role=role,
            merchant=merchant,
            name=name,
            permissions=permissions,
            extension=extension,
        )


def deactivate_principal(
    store: WritableStore,
    actor: Actor,
    *,
    target: str,
    merchant: str | None = None,
    now: dt.datetime | None = None,
) -> Principal:
    """Takes every permission from a principal, for good.

    Raises:
        NotFound: no such principal of the merchant.
    """
    with transaction(store, now) as tx:
        current = rows.principal(_row(tx, rows.PRINCIPAL, target))
        if merchant is not None and current.merchant != merchant:
            raise NotFound("no such principal")
        if current.active:
            tx.run("UPDATE principal SET active = 0, deactivated_at = ? WHERE id = ?", [tx.at, target])
            tx.audit(actor, "principal.deactivate", target, current.merchant)
            tx.event("principal.deactivated", current.merchant, None, {"object": "principal", "id": target})
        return rows.principal(_row(tx, rows.PRINCIPAL, target))


def _put_principal(
    tx: Transaction,
    actor: Actor,
    *,
    role: Role,
    merchant: str | None,
    name: str,
    permissions: Iterable[str],
    extension: str | None,
    active: bool = True,
    id: str | None = None,
) -> Principal:
    principal = id or new_id("prn", tx.now)
    values = {
        "role": role,
        "merchant": merchant,
        "name": name,
        "extension": extension,
        "permissions": _json(sorted(set(permissions))),
        "active": active,
    }
    _put(tx, actor, "principal", principal, values, merchant=merchant)
    tx.event("principal.registered", merchant, None, {"object": "principal", "id": principal, "role": role})
    return rows.principal(_row(tx, rows.PRINCIPAL, principal))


def _put(
    tx: Transaction,
    actor: Actor,
    table: str,
    id: str,
    values: Mapping[str, Any],
    *,
    merchant: str | None,
) -> None:
    """Inserts or replaces by id (an UPDATE, so that what refers to the row stays) and audits."""
    names = list(values)
    tx.run(
        f"INSERT INTO {table} (id, created_at, {', '.join(names)})"  # noqa: S608 - our own names
        f" VALUES (?, ?, {', '.join('?' for _ in names)})"
        f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in names)}",
        [id, tx.at, *(int(v) if isinstance(v, bool) else v for v in values.values())],
    )
    told = {name: value for name, value in values.items() if not name.endswith("_sealed")}
    tx.audit(actor, f"{table}.put", id, merchant, told)


def _row(tx: Transaction, select: str, id: str) -> rows.Row:
    row = tx.row(select + " WHERE id = ?", [id])
    if row is None:
        raise NotFound("no such object")
    return row


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def check_e164(e164: str, field: str = "e164") -> None:
    """Raises Invalid for what is no number."""
    if not E164.fullmatch(e164):
        raise Invalid(f"{field}: + and 3 to 15 digits")
