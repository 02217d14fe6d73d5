"""Faults set through the control endpoint, on top of what the test cards do by themselves.

A fault waits for requests of one call (and, if given, one order), strikes as often as it is told, and is
gone. ``before`` faults strike before the ledger is touched, ``after`` faults when the charge stands.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from sipivr.simulator.cards import Delivery

_DELIVERIES: Final = {
    "drop": Delivery.DROP,
    "partial": Delivery.PARTIAL,
    "http_500": Delivery.ERROR_500,
    "garbage": Delivery.GARBAGE,
    "trickle": Delivery.TRICKLE,
    "twice": Delivery.TWICE,
}

#: kind → what it does; the documentation's table is checked against this one.
KINDS: Final[dict[str, str]] = {
    "delay": "waits `seconds`, then goes on",
    "hold_before": "waits before processing until the faults are cleared",
    "hold_after": "processes, then waits with the answer until the faults are cleared",
    "error": "answers with the error `code`, nothing processed",
    "hide": "processes; SearchTrade answers UNPROCESSED for `seconds`",
    **{f"{name}_before": f"{name} instead of processing" for name in ("drop", "http_500", "garbage")},
    **{f"{name}_after": f"processes, then {name}" for name in _DELIVERIES},
}


class BadFault(ValueError):
    """The control request does not describe a fault."""


@dataclass(slots=True)
class Fault:
    """One fault, waiting."""

    call: str
    kind: str
    times: int = 1
    seconds: float = 0.0
    code: str = ""
    order_id: str = ""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def before(self) -> bool:
        """Whether it keeps the request from being processed."""
        return self.kind == "error" or (self.kind.endswith("_before") and not self.kind.startswith("hold"))

    @property
    def delivery(self) -> Delivery:
        """How the answer goes out."""
        return _DELIVERIES.get(self.kind.rpartition("_")[0], Delivery.NORMAL)

    def as_json(self) -> dict[str, Any]:
        """Return what the control endpoint shows."""
        return {
            "call": self.call,
            "kind": self.kind,
            "times": self.times,
            "seconds": self.seconds,
            "code": self.code,
            "order_id": self.order_id,
        }


class Faults:
    """The faults that wait; those that strike are handed out one by one."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._struck: list[Fault] = []

    def add(self, described: object) -> Fault:
        """Add a fault from JSON.

        Raises:
            BadFault: Unknown kind or member, or a member of the wrong type.
        """
        if not isinstance(described, dict):
            raise BadFault("an object is needed")
        unknown = set(described) - set(Fault.as_json(Fault("", "")))
        if unknown:
            raise BadFault(f"unknown: {', '.join(sorted(unknown))}")
        try:
            fault = Fault(
                call=str(described["call"]),
                kind=str(described["kind"]),
                times=int(described.get("times", 1)),
                seconds=float(described.get("seconds", 0.0)),
                code=str(described.get("code", "")),
                order_id=str(described.get("order_id", "")),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise BadFault(f"call and kind are needed, numbers must be numbers: {exc}") from None
        if fault.kind not in KINDS:
            raise BadFault(f"kind: one of {', '.join(KINDS)}")
        self._waiting.append(fault)
        return fault

    def strike(self, call: str, order_id: str) -> Fault | None:
        """Take the first fault that waits for such a request."""
        for fault in self._waiting:
            if fault.call == call and fault.order_id in ("", order_id):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                self._struck.append(fault)
                return fault
        return None

    def clear(self) -> None:
        """Drop all faults and release every request that one of them holds."""
        for fault in (*self._waiting, *self._struck):
            fault.released.set()
        self._waiting.clear()
        self._struck.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """Return the faults that still wait."""
        return [fault.as_json() for fault in self._waiting]
