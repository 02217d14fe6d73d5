"""What one trunk does its own way: checked when it is written, read back typed.

A value that nobody understands would show first during a call. So there is none: an unknown field or value is refused
with its name and what is allowed, and a row that an older version let in switches its trunk off (`rows.trunk`).
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from sipivr.store.errors import Invalid

_Prefix = Annotated[str, msgspec.Meta(pattern=r"^\+[1-9][0-9]{0,14}$")]
_Method = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2,20}$")]


class KeyWay(enum.StrEnum):
    """How a trunk's keys come; `auto` takes all ways and learns each leg's."""

    AUTO = "auto"
    RFC4733 = "rfc4733"
    INBAND = "inband"
    INFO = "info"


class CodecName(enum.StrEnum):
    """G.711's laws (RFC 3551 §4.5.14)."""

    PCMU = "PCMU"
    PCMA = "PCMA"


class CalledFrom(enum.StrEnum):
    """Where the called number may stand."""

    P_CALLED_PARTY_ID = "p-called-party-id"
    REQUEST_URI = "request-uri"
    HISTORY_INFO = "history-info"
    DIVERSION = "diversion"
    TO = "to"


class OutgoingFrom(enum.StrEnum):
    """Whose number a call that we make says it is from."""

    CALLER = "caller"
    CALLED = "called"


class Rewrite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A beginning of numbers, and what stands for it; an empty beginning is that of every number."""

    prefix: Annotated[str, msgspec.Meta(pattern=r"^[+]?[0-9*#]{0,20}$")]
    to: Annotated[str, msgspec.Meta(pattern=r"^[+]?[0-9*#]{0,20}$")]


_Rewrites = Annotated[tuple[Rewrite, ...], msgspec.Meta(max_length=20)]


class Preset(enum.StrEnum):
    """Kinds of networks whose ways are known."""

    JP_NGN = "jp-ngn"
    """A Japanese carrier's interconnection: PCMU at 20 ms, keys in band or by event, another number in To of forwarded
    calls, and contracted numbers only in our From."""


PRESETS: Final[Mapping[Preset, Mapping[str, Any]]] = {
    Preset.JP_NGN: {
        "codecs": (CodecName.PCMU,),
        "called_from": (
            CalledFrom.P_CALLED_PARTY_ID,
            CalledFrom.REQUEST_URI,
            CalledFrom.HISTORY_INFO,
            CalledFrom.DIVERSION,
            CalledFrom.TO,
        ),
        "outgoing_from": OutgoingFrom.CALLED,
    },
}


_REWRITES: Final = ("called_rewrite", "caller_rewrite", "dialled_rewrite")


class TrunkRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One trunk's rules.

    Attributes:
        preset: rules of a kind of network, for those that are not said themselves.
        dtmf: how keys come.
        codecs: that are offered and taken, in this order.
        symmetric_rtp: audio may come from another address than SDP says (NAT); the first proven source counts.
        called_from: where the called number is looked for, in order.
        channel_limit: calls of this trunk at once; None: as many as the node takes.
        extra_methods: SIP methods besides those that every trunk may use.
        allow_replaces: the header `Replaces` is let in.
        proxy: `host` or `host:port` that is asked to reach numbers and operators; None: nobody is dialled by it.
        outbound_prefixes: beginnings in E.164 of the numbers that may be dialled; a trunk without any, if it is one
            merchant's alone, dials operators' URIs instead (`reach`).
        outgoing_from: whose number From says when we dial: the caller's, or (where the carrier takes contracted numbers
            only) the called one.
        return_by_refer: after a blind transfer the PBX is asked by REFER to connect the customer with the operator
            (RFC 3515); its NOTIFY is let in.
        called_rewrite: what is made of called numbers as they arrive, before they are looked for among ours; the first
            beginning that fits counts.
        caller_rewrite: the same of callers' numbers.
        dialled_rewrite: what is made of numbers in E.164 when they are dialled through the proxy.
    """

    preset: Preset | None = None
    dtmf: KeyWay = KeyWay.AUTO
    codecs: Annotated[tuple[CodecName, ...], msgspec.Meta(min_length=1, max_length=2)] = (
        CodecName.PCMU,
        CodecName.PCMA,
    )
    symmetric_rtp: bool = False
    called_from: Annotated[tuple[CalledFrom, ...], msgspec.Meta(min_length=1, max_length=5)] = tuple(
        CalledFrom
    )
    channel_limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    extra_methods: Annotated[tuple[_Method, ...], msgspec.Meta(max_length=10)] = ()
    allow_replaces: bool = False
    proxy: (
        Annotated[
            str, msgspec.Meta(pattern=r"^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?$")
        ]
        | None
    ) = None
    outbound_prefixes: Annotated[tuple[_Prefix, ...], msgspec.Meta(max_length=50)] = ()
    outgoing_from: OutgoingFrom = OutgoingFrom.CALLER
    return_by_refer: bool = False
    called_rewrite: _Rewrites = ()
    caller_rewrite: _Rewrites = ()
    dialled_rewrite: _Rewrites = ()

    def __post_init__(self) -> None:
        """Refuses what stands twice."""
        for name in ("codecs", "called_from", "extra_methods", "outbound_prefixes", *_REWRITES):
            values = getattr(self, name)
            if name in _REWRITES:  # the second could never be used
                values = [rewrite.prefix for rewrite in values]
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value stands there twice")


_FIELDS: Final = TrunkRules.__struct_fields__
_WORDS: Final[Mapping[str, type[enum.StrEnum]]] = {
    "dtmf": KeyWay,
    "codecs": CodecName,
    "called_from": CalledFrom,
    "outgoing_from": OutgoingFrom,
    "preset": Preset,
}


def read(options: Mapping[str, Any]) -> TrunkRules:
    """Rules from plain values.

    Raises:
        Invalid: which field is wrong, and what may stand there.
    """
    for name in options:
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise Invalid(
                f"options.{name[:40]}: there is no such rule{meant} It is one of {', '.join(_FIELDS)}"
            )
    for name, value in options.items():
        try:
            msgspec.convert({name: value}, TrunkRules)
        except msgspec.ValidationError as error:
            allowed = f"; allowed: {', '.join(_WORDS[name])}" if name in _WORDS else ""
            raise Invalid(f"options.{name}: {str(error).split(' - at')[0]}{allowed}") from None
    said = msgspec.convert(dict(options), TrunkRules)
    if said.preset is None:
        return said
    return msgspec.convert({**PRESETS[said.preset], **options}, TrunkRules)
