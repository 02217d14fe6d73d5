"""What the two ledgers say after a crash run: the gateway simulator's and the switch's, compared order by order."""

from __future__ import annotations

import base64
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

OPEN: Final = ("intent", "entered", "executing", "unknown")
_REVERSALS: Final = ("VOID", "RETURN", "RETURNX")


@dataclass
class Verdict:
    """Counts; `details` names the orders."""

    payments: int = 0
    orders_charged: int = 0
    double_charges: int = 0
    lost_approvals: int = 0
    phantom_approvals: int = 0
    unresolved: int = 0
    late_captures: int = 0
    late_captures_unresolved: int = 0
    pan_bytes_found: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not (
            self.double_charges
            or self.lost_approvals
            or self.phantom_approvals
            or self.unresolved
            or self.late_captures_unresolved
            or self.pan_bytes_found
        )


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Reads a database that another process writes."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def open_payments(switch_db: Path) -> int:
    """Payments whose outcome is not known."""
    ((count,),) = rows(switch_db, f"SELECT count(*) FROM payment WHERE status IN {OPEN}")
    return int(count)


def judge(switch_db: Path, ledger: Path) -> Verdict:
    """Compares both ledgers; `pan_bytes_found` is left to `search`."""
    standing: Counter[str] = Counter()
    by_attempt: dict[str, int] = defaultdict(int)
    for order_id, kind in rows(ledger, "SELECT order_id, kind FROM charges ORDER BY id"):
        change = 1 if kind == "CAPTURE" else -1 if kind in _REVERSALS else 0
        standing[base_of(order_id)] += change
        by_attempt[order_id] += change
    approved: Counter[str] = Counter()
    verdict = Verdict()
    found = rows(switch_db, "SELECT order_id, gateway_order_id, status FROM payment")
    verdict.payments = len(found)
    verdict.statuses = dict(Counter(status for _, _, status in found))
    for order_id, attempt, status in found:
        if status in OPEN:
            verdict.unresolved += 1
            verdict.details.append(f"{attempt}: {status}")
        if status == "approved":
            approved[order_id] += 1
            if by_attempt[attempt] != 1:
                verdict.phantom_approvals += 1
                verdict.details.append(f"{attempt}: approved here, {by_attempt[attempt]} charges there")
        elif status != "unknown" and by_attempt[attempt] > 0:
            verdict.late_captures_unresolved += 1
            verdict.details.append(f"{attempt}: {status} here, charged there")
    for order_id, charges in standing.items():
        verdict.orders_charged += charges > 0
        if charges > 1 or approved[order_id] > 1:
            verdict.double_charges += 1
            verdict.details.append(f"{order_id}: {charges} charges stand")
        if charges > 0 and not approved[order_id]:
            verdict.lost_approvals += 1
            verdict.details.append(f"{order_id}: charged there, not approved here")
    ((verdict.late_captures,),) = rows(
        switch_db, "SELECT count(DISTINCT object) FROM audit WHERE action = 'payment.late_approval'"
    )
    return verdict


def base_of(order_id: str) -> str:
    """The merchant's order id of an attempt's."""
    return re.sub(r"-[0-9]{1,2}\Z", "", order_id)


def everything(directory: Path) -> list[Path]:
    """Every file below a directory."""
    return list(directory.rglob("*"))


def search(paths: Iterable[Path], texts: Iterable[bytes], numbers: Iterable[str]) -> list[str]:
    """Where card numbers are found, in every usual encoding: in files and in answers."""
    needles = {number: encodings(number) for number in numbers}
    places = [(str(path), path.read_bytes()) for path in paths if path.is_file()]
    places += [("an answer of the API", text) for text in texts]
    return [
        f"{place}: a card number"
        for place, octets in places
        for found in needles.values()
        if any(n in octets for n in found)
    ]


def encodings(number: str) -> list[bytes]:
    """A number as it may lie in bytes."""
    spaced = [number[i : i + 4] for i in range(0, len(number), 4)]
    plain = number.encode()
    forms = [plain, " ".join(spaced).encode(), "-".join(spaced).encode(), number[::-1].encode()]
    forms += [number.encode("utf-16-le"), number.encode("utf-16-be"), plain.hex().encode()]
    # Base64 at each of the three alignments, without the characters that depend on the neighbours.
    for shift in range(3):
        forms.append(base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4])
    return forms
