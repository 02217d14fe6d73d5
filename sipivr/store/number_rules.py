"""What one number does its own way with operators: checked when it is written, read back typed.

Like `trunk_rules`: an unknown field or value is refused with its name and what is allowed. Whether a
destination's trunk exists and may be dialled is the registry's to check, because it takes the store.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from sipivr.store.errors import Invalid

#: A plain `sip:` URI without parameters or a password, or a number in E.164.
_SIP: Final = re.compile(
    r"^sips?:(?:[A-Za-z0-9_.!~*'()+-]{1,64}@)?"
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?$"
)
_USER: Final = re.compile(r"^[A-Za-z0-9_.!~*'()+-]{1,64}$")
EXTENSION: Final = "{extension}"
_E164: Final = re.compile(r"^\+[1-9][0-9]{2,14}$")


class Destination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where an operator is rung.

    Attributes:
        target: `sip:user@host:port`, or a number in E.164 that the trunk's proxy is asked for. `{extension}` as the
            user is the extension of the operator who has registered the payment session (a transfer's return).
        trunk: id of the trunk that it is reached by; an administrator has allowed it to be dialled.
        ring_s: how long it rings before the next destination.
    """

    target: str
    trunk: str
    ring_s: Annotated[int, msgspec.Meta(ge=3, le=120)] = 20

    def __post_init__(self) -> None:
        """Refuses what can be no destination."""
        named = self.target.replace("sip:" + EXTENSION + "@", "sip:0@", 1)
        if not (_SIP.match(named) or _E164.match(self.target)):
            raise ValueError("target: a sip: URI (sip:user@host:port) or a number in E.164 (+81...)")

    def at(self, extension: str | None) -> Destination | None:
        """The destination with an operator's extension in its place; None: it needs one, and there is none."""
        if EXTENSION not in self.target:
            return self
        if extension is None or not _USER.match(extension):
            return None
        return Destination(
            target=self.target.replace(EXTENSION, extension), trunk=self.trunk, ring_s=self.ring_s
        )

    @property
    def number(self) -> str | None:
        """The number in E.164, None for a URI."""
        return self.target if self.target.startswith("+") else None


class NumberRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One number's rules for inline calls.

    Attributes:
        destinations: rung one after another until one answers: when an inline call comes in; of a number for transfers,
            when the result is known, because the merchant's PBX can only transfer blindly (else there are none).
        operator_heard: during a capture the customer goes on hearing the operator.
        relay_keys: before a session is attached keys pass in both directions (a PBX menu needs them); after that,
            and by default, the operator's side never hears a key.
        outbound_trunk: id of the trunk that customers are called by from this number, where its `outbound_prefixes`
            allow it; None: nobody is called from it.
    """

    destinations: Annotated[tuple[Destination, ...], msgspec.Meta(max_length=10)] = ()
    operator_heard: bool = True
    relay_keys: bool = False
    outbound_trunk: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None


_FIELDS: Final = NumberRules.__struct_fields__


def read(values: Mapping[str, Any]) -> NumberRules:
    """Rules from plain values.

    Raises:
        Invalid: which field is wrong, and what may stand there.
    """
    for name in values:
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise Invalid(
                f"rules.{name[:40]}: there is no such rule{meant} It is one of {', '.join(_FIELDS)}"
            )
    try:
        return msgspec.convert(dict(values), NumberRules)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        raise Invalid(f"rules{place.rstrip('`') and place[:-1]}: {reason}") from None
