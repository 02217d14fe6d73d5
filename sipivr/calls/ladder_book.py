"""The SIP ladders of running calls, in memory until each is written to the store at the call's end.

Messages arrive from the user agent's tap already reduced to allow-listed headers and typed SDP. A dialog's
ladder begins with its INVITE; what comes without one (the ACK of a refusal, a late retransmission) belongs to
no ladder. Dialogs that no call has claimed are forgotten when their leg ends, or when no message of their
INVITE can be under way any more. Everything is bounded: messages of a dialog, dialogs without a call.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final

from sipivr.store import records
from sipivr.ua.ladder import LadderEntry, Way

#: Messages kept of one dialog; a call with more has a peer that repeats itself.
MAX_MESSAGES: Final = 300
#: Dialogs kept that have no leg (yet): refused ones and the INVITEs of a moment ago.
MAX_UNCLAIMED: Final = 500
#: How long messages of an INVITE can be under way (RFC 3261 §17.2.1: 64·T1 until its ACK must have come).
UNCLAIMED_S: Final = 32.0


class LadderBook:
    """Ladders by SIP Call-ID."""

    def __init__(self) -> None:
        self._claimed: dict[str, list[LadderEntry]] = {}
        self._unclaimed: OrderedDict[str, list[LadderEntry]] = OrderedDict()
        self.dropped = 0

    def add(self, entry: LadderEntry) -> None:
        """Takes a message."""
        messages = self._claimed.get(entry.call_id)
        if messages is None:
            messages = self._unclaimed.get(entry.call_id)
        if messages is None:
            if entry.method != "INVITE" or entry.status:
                return
            messages = self._unclaimed[entry.call_id] = []
            if len(self._unclaimed) > MAX_UNCLAIMED:
                self._unclaimed.popitem(last=False)
        if len(messages) < MAX_MESSAGES:
            messages.append(entry)
        else:
            self.dropped += 1

    def claim(self, call_id: str) -> None:
        """The dialog belongs to a call: keep what it says until `take`."""
        self._claimed[call_id] = self._unclaimed.pop(call_id, [])

    def forget(self, call_id: str) -> None:
        """The dialog has ended and no call claimed it."""
        self._unclaimed.pop(call_id, None)

    def expire(self, now: float) -> None:
        """Forgets what nobody claimed in time; `now` is in seconds since the epoch."""
        for call_id, messages in list(self._unclaimed.items()):
            if messages and messages[0].at > now - UNCLAIMED_S:
                return
            del self._unclaimed[call_id]

    def __len__(self) -> int:
        return len(self._claimed) + len(self._unclaimed)

    def take(self, call_id: str, *, call: str, leg: str | None) -> tuple[records.LadderEntry, ...]:
        """The dialog's messages as the store keeps them; the book forgets them."""
        messages = self._claimed.pop(call_id, None) or self._unclaimed.pop(call_id, [])
        return tuple(_record(entry, call=call, leg=leg) for entry in messages)


def _record(entry: LadderEntry, *, call: str, leg: str | None) -> records.LadderEntry:
    lines = [f"{name}: {value}" for name, value in entry.headers]
    if entry.sdp:
        lines += ["", entry.sdp.replace("\r\n", "\n").rstrip()]
    if entry.body:
        lines += ["", f"[{entry.body}]"]
    summary = f"{entry.status} ({entry.method})" if entry.status else entry.method
    return records.LadderEntry(
        call=call,
        at=datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        direction="in" if entry.way is Way.RECEIVED else "out",
        peer=f"{entry.transport} {entry.remote}",
        summary=summary,
        text="\n".join(lines),
        leg=leg,
    )
