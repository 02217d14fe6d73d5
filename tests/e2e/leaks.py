"""Finds a card number in bytes, whatever an ordinary program would have made of it.

`Finder` knows one card. A card number has 15 digits and is found by its pattern alone. A security code has 4 and
is in any large file by chance, so it counts only in company: in a line that also names a field of a card or this
call, and as a word of its own. What is written key by key is found too: `trail_found` reads each column of
like-looking log lines downwards.
"""

from __future__ import annotations

import array
import base64
import io
import mmap
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Words beside which four digits are a security code.
FIELD_WORDS: Final = (
    b"security",
    b"cvc",
    b"cvv",
    b"cvn",
    b"csc",
    b"code",
    b"card",
    b"pan",
    b"digits",
    b"keyed",
    b"entry",
)
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]?\d*(?:Z|[+-]\d\d:?\d\d)?")
_NUMBER: Final = re.compile(rb"\d+")
#: Memory is read so many bytes at a time.
_STEP: Final = 1 << 24


def _grouped(digits: bytes, sizes: Iterable[int], separator: bytes) -> bytes:
    parts, start = [], 0
    for size in sizes:
        parts.append(digits[start : start + size])
        start += size
    return separator.join(part for part in parts if part)


def _base64(name: str, digits: bytes) -> Iterator[tuple[str, bytes]]:
    """What of the encoding depends on nothing but the digits, at each of the three alignments."""
    for alignment in range(3):
        encoded = base64.b64encode(bytes(alignment) + digits)
        first = -(-alignment * 8 // 6)
        last = (alignment + len(digits)) * 8 // 6
        yield f"{name} base64 at {alignment}", encoded[first:last]


def _arrays(digits: bytes) -> Iterator[tuple[str, bytes]]:
    """A number of the digits each: as numpy or struct would keep them."""
    values = [digit - ord("0") for digit in digits]
    for width, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"), (4, "f"), (8, "d")):
        yield f"array of {code}{width}", struct.pack(f"<{len(values)}{code}", *values)


def _packed(number: int) -> Iterator[tuple[str, bytes]]:
    for order in ("<", ">"):
        yield f"integer {order}", struct.pack(f"{order}Q", number)
    yield "double", struct.pack("<d", float(number))
    # CPython's own int: 30-bit digits, the lowest first.
    limbs = []
    while number:
        limbs.append(number & (2**30 - 1))
        number >>= 30
    yield "CPython integer", struct.pack(f"<{len(limbs)}I", *limbs)


def patterns(pan: str) -> dict[str, bytes]:
    """Every form of a card number: name → bytes."""
    digits = pan.encode()
    found: dict[str, bytes] = {}
    for name, form in (("plain", digits), ("reversed", digits[::-1])):
        found[name] = form
        found[f"{name} hex"] = form.hex().encode()
        found |= dict(_base64(name, form))
    for mark, separator in (("space", b" "), ("dash", b"-"), ("dot", b"."), ("no-break space", b"\xc2\xa0")):
        found[f"groups of four by {mark}"] = _grouped(digits, (4, 4, 4, 4, 4), separator)
        found[f"4-6-5 by {mark}"] = _grouped(digits, (4, 6, 9), separator)
    for mark, separator in (("comma", b","), ("comma and space", b", "), ("space", b" "), ("NUL", b"\0")):
        found[f"single digits by {mark}"] = separator.join(digits[i : i + 1] for i in range(len(digits)))
    found["URL-encoded"] = b"".join(b"%%%02X" % digit for digit in digits)
    found["URL-encoded groups"] = _grouped(digits, (4, 4, 4, 4, 4), b"%20")
    found["groups by plus"] = _grouped(digits, (4, 4, 4, 4, 4), b"+")
    found["UTF-16-BE"] = pan.encode("utf-16-be")
    found["UTF-32"] = pan.encode("utf-32-le")
    found["full-width"] = "".join(chr(ord(d) - ord("0") + 0xFF10) for d in pan).encode()
    found["integer in hex"] = f"{int(pan):x}".encode()
    found["integer in HEX"] = f"{int(pan):X}".encode()
    for side, padded in (("right", digits + b"f"), ("left", b"0" + digits)):
        found[f"BCD padded {side}"] = bytes.fromhex((padded if len(digits) % 2 else digits).decode())
    found |= dict(_packed(int(pan)))
    found |= dict(_arrays(digits))
    return found


@dataclass(frozen=True)
class Card:
    """What is searched for; the security code has 4 digits."""

    number: str
    security_code: str


@dataclass(frozen=True)
class Leak:
    """Where something was found. Says the form, never the digits."""

    place: str
    form: str


class Finder:
    """Searches for one card.

    Args:
        card: the one.
        company: what else ties a line to this call (ids of call, session, payment).
    """

    def __init__(self, card: Card, company: Iterable[str] = ()) -> None:
        self._patterns = patterns(card.number)
        self._code_forms = dict(self._codes(card.security_code.encode()))
        self._company = (*FIELD_WORDS, *(word.encode() for word in company))
        self._trail = re.compile(card.number.encode())

    @staticmethod
    def _codes(code: bytes) -> Iterator[tuple[str, re.Pattern[bytes]]]:
        for name, form in (
            ("plain", code),
            ("reversed", code[::-1]),
            ("hex", code.hex().encode()),
            ("base64", base64.b64encode(code).rstrip(b"=")),
            ("UTF-16", code.decode().encode("utf-16-le")),
            ("URL-encoded", b"".join(b"%%%02X" % digit for digit in code)),
            *(
                (f"by {mark!r}", re.escape(mark).join(code[i : i + 1] for i in range(4)))
                for mark in (b", ", b",", b" ")
            ),
        ):
            yield name, re.compile(rb"(?<![0-9A-Za-z.:])" + form + rb"(?![0-9A-Za-z]|\.\d)")

    def found(self, place: str, data: bytes) -> list[Leak]:
        """The card number in any form."""
        return [Leak(place, f"PAN: {name}") for name, form in self._patterns.items() if form in data]

    def code_found(self, place: str, text: bytes) -> list[Leak]:
        """The security code beside a word that says so, or in a line of this call."""
        leaks = []
        for raw in text.splitlines():
            line = _TIME.sub(b"", raw)
            lowered = line.lower()
            if any(word in lowered for word in self._company):
                leaks += [
                    Leak(place, f"security code: {name}")
                    for name, form in self._code_forms.items()
                    if form.search(line)
                ]
        return leaks

    def trail_found(self, place: str, log: bytes) -> list[Leak]:
        """The card number key by key: lines that differ in numbers alone, a column of them read downwards."""
        columns: dict[tuple[bytes, int], list[bytes]] = defaultdict(list)
        for raw in log.splitlines():
            line = _TIME.sub(b"", raw)
            numbers = _NUMBER.findall(line)
            template = _NUMBER.sub(b"#", line)
            for column, number in enumerate(numbers):
                columns[template, column].append(number if len(number) == 1 else b"~")
        return [
            Leak(place, f"PAN key by key: {template.decode(errors='replace')}")
            for (template, _), values in columns.items()
            if self._trail.search(b"".join(values))
        ]


@dataclass(frozen=True)
class Remains:
    """What the finished call has left."""

    company: tuple[str, ...]
    log: bytes
    files: dict[str, bytes]
    answers: dict[str, bytes]
    processes: dict[str, bytes]


def search(remains: Remains, card: Card) -> list[Leak]:
    """Everything that is where it must not be."""
    finder = Finder(card, remains.company)
    leaks = finder.trail_found("log", remains.log)
    for where in ({"log": remains.log}, remains.files, remains.answers, remains.processes):
        for place, data in where.items():
            leaks += finder.found(place, data)
    # Lines of text; a database's pages are no lines.
    for where in ({"log": remains.log}, remains.answers, remains.processes):
        for place, data in where.items():
            leaks += finder.code_found(place, data)
    return leaks


def read_files(*roots: Path) -> dict[str, bytes]:
    """Every regular file below."""
    return {
        f"{root.name}/{path.relative_to(root)}": path.read_bytes()
        for root in roots
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def count_in_memory(pid: int, pan: str) -> int:
    """How often the card number is in a process's writable memory; −1 where we may not look."""
    forms = tuple(patterns(pan).values())
    overlap = max(map(len, forms)) - 1
    count = 0
    try:
        with (
            Path(f"/proc/{pid}/maps").open() as maps,
            Path(f"/proc/{pid}/pagemap").open("rb", 0) as pages,
            Path(f"/proc/{pid}/mem").open("rb", 0) as memory,
        ):
            for start, end in _touched(maps, pages):
                kept = b""
                for at in range(start, end, _STEP):
                    try:
                        memory.seek(at)
                        data = kept + memory.read(min(_STEP, end - at))
                    except OSError:  # a device's pages, or pages that went while we read
                        kept = b""
                        continue
                    # What lies wholly in the overlap was counted with the step before.
                    count += sum(data.count(form) - kept.count(form) for form in forms)
                    kept = data[-overlap:]
    except PermissionError:
        return -1
    return count


def _touched(maps: Iterable[str], pages: io.FileIO) -> Iterator[tuple[int, int]]:
    """Runs of writable pages that are in memory or in swap (proc(5): pagemap's bits 63 and 62)."""
    for line in maps:
        span, rights, *_ = line.split()
        if not rights.startswith("rw"):
            continue
        start, end = (int(part, 16) for part in span.split("-"))
        pages.seek(start // mmap.PAGESIZE * 8)
        entries = array.array("Q", pages.read((end - start) // mmap.PAGESIZE * 8))
        run = None
        for index, entry in enumerate((*entries, 0)):
            if entry >> 62 and run is None:
                run = index
            elif not entry >> 62 and run is not None:
                yield start + run * mmap.PAGESIZE, start + index * mmap.PAGESIZE
                run = None
