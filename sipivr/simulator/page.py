"""The simulator's ledger as a page for people: what was traded, charged, registered and asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

#: Of the requests, only the newest: a soak makes a hundred thousand.
MAX_REQUESTS: Final = 500

_TITLES: Final = {
    "trades": "Trades · 取引",
    "charges": "Charges · 請求の記録",
    "members": "Members · 会員",
    "cards": "Registered cards · 登録カード",
    "requests": f"Requests, newest {MAX_REQUESTS} · 要求",
}
_STYLE: Final = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2rem;max-width:100rem}table{border-collapse:collapse}"
    "td,th{border-bottom:1px solid #ccc;padding:.2rem .6rem;text-align:left;white-space:nowrap}"
    "section{overflow-x:auto;margin-bottom:2rem}"
)


def ledger_page(ledger: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Write the page.

    Args:
        ledger: As `Ledger.as_json` gives it; it holds no card number and no password.
    """
    sections = []
    for name, title in _TITLES.items():
        rows = list(ledger[name])[::-1][: MAX_REQUESTS if name == "requests" else None]
        sections.append(f"<section><h2>{escape(title)} ({len(ledger[name])})</h2>{_table(rows)}</section>")
    text = (
        "<!doctype html><html lang=ja><meta charset=utf-8><title>Gateway simulator</title>"
        f"<style>{_STYLE}</style><h1>Gateway simulator · 決済シミュレータ</h1>{''.join(sections)}</html>"
    )
    return text.encode()


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>None yet. まだありません。</p>"
    head = "".join(f"<th scope=col>{escape(name)}" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(str(value))}" for value in row.values()) for row in rows)
    return f"<table><thead><tr>{head}<tbody>{body}</table>"
