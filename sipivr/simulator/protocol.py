"""Formats and limits of the protocol type, as the simulator enforces them.

The order of the checks is that of the recorded answers: EntryTran with ``null`` for OrderID, JobCd and Amount
gives ``E01050002|E01060006``; ExecTran with ``null`` everywhere gives
``E01090008|E01100008|E01110002|E01170011|E01170006|E01180006``, so Method is looked at only when the rest is
in order.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final
from urllib.parse import unquote_to_bytes

JST: Final = dt.timezone(dt.timedelta(hours=9), "JST")

_ORDER_ID: Final = re.compile(r"[A-Za-z0-9-]*", re.ASCII)
_MEMBER_ID: Final = re.compile(r"[A-Za-z0-9@._-]+", re.ASCII)
_ENTRY_JOBS: Final = ("CHECK", "AUTH", "CAPTURE", "SAUTH")
_ALTER_JOBS: Final = ("SALES", "VOID", "RETURN", "RETURNX", "AUTH", "CAPTURE")


def parse_form(body: bytes) -> dict[str, str]:
    """Decode a form body: percent-encoded Shift_JIS. What does not decode becomes U+FFFD."""
    fields: dict[str, str] = {}
    for piece in body.split(b"&"):
        name, _, value = piece.partition(b"=")
        text = unquote_to_bytes(value.replace(b"+", b" ")).decode("cp932", "replace")
        fields.setdefault(name.decode("ascii", "replace"), text)
    return fields


def form_answer(fields: dict[str, str]) -> bytes:
    """Write an answer; values are not encoded."""
    return "&".join(f"{name}={value}" for name, value in fields.items()).encode("cp932", "replace")


def error_answer(codes: list[str]) -> bytes:
    """Write an error answer: two parallel lists. The class of ``42G020000`` is ``G02``."""
    classes = [code[2:5] if code.startswith("42") else code[:3] for code in codes]
    return f"ErrCode={'|'.join(classes)}&ErrInfo={'|'.join(codes)}".encode("ascii")


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def shop_errors(fields: dict[str, str], shops: dict[str, str]) -> list[str]:
    """Check ShopID and ShopPass."""
    shop_id, shop_pass = fields.get("ShopID", ""), fields.get("ShopPass", "")
    errors = []
    if not shop_id:
        errors.append("E01010001")
    elif len(shop_id) > 13:
        errors.append("E01010008")
    if not shop_pass:
        errors.append("E01020001")
    elif len(shop_pass) > 10:
        errors.append("E01020008")
    if not errors and shops.get(shop_id) != shop_pass:
        errors.append("E01030002")
    return errors


def order_id_errors(fields: dict[str, str]) -> list[str]:
    """Check OrderID's presence, length and characters."""
    order_id = fields.get("OrderID", "")
    if not order_id:
        return ["E01040001"]
    if len(order_id) > 27:
        return ["E01040003"]
    return [] if _ORDER_ID.fullmatch(order_id) else ["E01040013"]


def amount_errors(fields: dict[str, str], *, needed: bool) -> list[str]:
    """Check Amount and Tax."""
    amount, tax = fields.get("Amount", ""), fields.get("Tax", "")
    errors = []
    if not amount:
        if needed:
            errors.append("E01060001")
    elif not _digits(amount):
        errors.append("E01060006")
    elif len(amount) > 8:
        errors.append("E01060005")
    elif int(amount) == 0:
        errors.append("E01060001")
    if tax and not _digits(tax):
        errors.append("E01070006")
    elif len(tax) > 7:
        errors.append("E01070005")
    if not errors and int(amount or 0) + int(tax or 0) > 99_999_999:
        errors.append("E01490005")
    return errors


def entry_errors(fields: dict[str, str]) -> list[str]:
    """Check EntryTran's own fields."""
    errors = order_id_errors(fields)
    job = fields.get("JobCd", "")
    if not job:
        errors.append("E01050001")
    elif job not in _ENTRY_JOBS:
        errors.append("E01050002")
    if job != "CHECK":
        errors += amount_errors(fields, needed=True)
    return errors


def access_errors(fields: dict[str, str]) -> list[str]:
    """Check the form of AccessID and AccessPass."""
    errors = []
    for name, missing, wrong in (
        ("AccessID", "E01090001", "E01090008"),
        ("AccessPass", "E01100001", "E01100008"),
    ):
        text = fields.get(name, "")
        if not text:
            errors.append(missing)
        elif len(text) != 32 or not text.isalnum():
            errors.append(wrong)
    return errors


def card_errors(fields: dict[str, str], today: dt.date) -> list[str]:
    """Check CardNo, Expire and SecurityCode."""
    number, expire, code = (fields.get(name, "") for name in ("CardNo", "Expire", "SecurityCode"))
    errors = []
    if not number:
        errors.append("E01170001")
    else:
        if len(number) > 16:
            errors.append("E01170003")
        elif len(number) < 10:
            errors.append("E01170011")
        if not _digits(number):
            errors.append("E01170006")
    if not expire:
        errors.append("E01180001")
    elif len(expire) != 4:
        errors.append("E01180003")
    elif not _digits(expire):
        errors.append("E01180006")
    elif not 1 <= int(expire[2:]) <= 12:
        errors.append("E01180008")
    elif (2000 + int(expire[:2]), int(expire[2:])) < (today.year, today.month):
        errors.append("E01180011")
    if code and not (_digits(code) and 3 <= len(code) <= 4):
        errors.append("E01460008")
    return errors


def method_errors(fields: dict[str, str]) -> list[str]:
    """Check Method and PayTimes; a trade without Method is a lump sum."""
    method, pay_times = fields.get("Method", "") or "1", fields.get("PayTimes", "")
    if method not in ("1", "2", "3", "4", "5"):
        return ["E01260002"]
    if method in ("2", "4"):
        if not pay_times:
            return ["E01270001"]
        if len(pay_times) > 2:
            return ["E01270005"]
        if not _digits(pay_times):
            return ["E01270006"]
    return []


def client_field_errors(fields: dict[str, str]) -> list[str]:
    """Check the lengths of ClientField1 to 3 and the flag."""
    codes = ("E01320012", "E01330012", "E01340012")
    errors = [code for n, code in enumerate(codes, 1) if len(fields.get(f"ClientField{n}", "")) > 100]
    if fields.get("ClientFieldFlag", "") not in ("", "0", "1"):
        errors.append("E01400007")
    return errors


def alter_job_errors(fields: dict[str, str]) -> list[str]:
    """Check AlterTran's JobCd."""
    job = fields.get("JobCd", "")
    if not job:
        return ["E01050001"]
    return [] if job in _ALTER_JOBS else ["E01050002"]


def change_job_errors(fields: dict[str, str]) -> list[str]:
    """Check ChangeTran's JobCd."""
    job = fields.get("JobCd", "")
    if not job:
        return ["E01050001"]
    return [] if job in ("AUTH", "CAPTURE", "SAUTH") else ["E01050002"]


def site_errors(fields: dict[str, str], sites: dict[str, str]) -> list[str]:
    """Check SiteID and SitePass."""
    site_id, site_pass = fields.get("SiteID", ""), fields.get("SitePass", "")
    errors = []
    if not site_id:
        errors.append("E01190001")
    elif len(site_id) > 13:
        errors.append("E01190008")
    if not site_pass:
        errors.append("E01200001")
    elif len(site_pass) > 20:
        errors.append("E01200008")
    if not errors and site_id not in sites:
        errors.append("E01210002")
    elif not errors and sites[site_id] != site_pass:
        errors.append("E01200007")
    return errors


def member_errors(fields: dict[str, str]) -> list[str]:
    """Check MemberID and the lengths of MemberName, HolderName and CardName."""
    member = fields.get("MemberID", "")
    if not member:
        return ["E01220001"]
    if len(member) > 60:
        return ["E01220005"]
    if not _MEMBER_ID.fullmatch(member):
        return ["E01220008"]
    lengths = (
        ("MemberName", 50, "E01310007"),
        ("HolderName", 50, "E01650012"),
        ("CardName", 10, "E01640010"),
    )
    return [code for name, most, code in lengths if len(fields.get(name, "")) > most]


def card_sequence_errors(fields: dict[str, str]) -> list[str]:
    """Check CardSeq."""
    sequence = fields.get("CardSeq", "")
    if not sequence:
        return ["E01230001"]
    return [] if _digits(sequence) and len(sequence) <= 4 else ["E01230006"]


def luhn_holds(number: str) -> bool:
    """Check digit of ISO/IEC 7812-1."""
    total = 0
    for place, digit in enumerate(int(character) for character in reversed(number)):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0
