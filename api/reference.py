"""The reference at `/docs`: written from the OpenAPI document on the server, no script, no outside asset."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from api.problems import CATALOGUE

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
h2{margin-top:2.5rem;border-bottom:1px solid #bbb}h3{margin-top:2rem}
code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f3f3}pre{padding:.8rem;overflow:auto}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;
border-bottom:1px solid #ddd}.m{color:#fff;background:#234;padding:.1rem .4rem;border-radius:3px}
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_t(document["info"]["title"])}</title>'
        f"<style>{_STYLE}</style><h1>{_t(document['info']['title'])} {_t(document['info']['version'])}</h1>"
        f"<p>{_t(document['info'].get('description', ''))}</p>"
        '<p>The same as a document for generators: <a href="/openapi.json">openapi.json</a>.</p>'
        f"<h2>Requests</h2>{''.join(_operations(document))}"
        f"<h2>Objects</h2>{''.join(_schemas(document))}"
        f"<h2>Problems</h2><table><tr><th>code<th>status<th>meaning</tr>{''.join(_problems())}</table></html>"
    )


def _t(text: object) -> str:
    return escape(str(text))


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f'<h3 id="{_t(operation["operationId"])}"><span class="m">{_t(method.upper())}</span> '
            yield f"<code>{_t(path)}</code></h3><p>{_t(operation.get('description', ''))}</p>"
            rows = [
                f"<tr><td><code>{_t(p['name'])}</code><td>{_t(p['in'])}<td>{_type(p.get('schema', {}))}"
                f"<td>{_t(p.get('description', ''))}</tr>"
                for p in operation.get("parameters", ())
            ]
            if rows:
                yield f"<table><tr><th>parameter<th>in<th>type<th></tr>{''.join(rows)}</table>"
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield f"<p>Body: {_type(content.get('schema', {}))}</p>"
            answers = [
                f"<tr><td>{_t(status)}<td>{_t(answer['description'])}<td>"
                + ", ".join(_type(c.get("schema", {})) for c in answer.get("content", {}).values())
                for status, answer in operation["responses"].items()
            ]
            yield f"<table><tr><th>status<th>meaning<th>body</tr>{''.join(answers)}</table>"


def _schemas(document: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="{_t(name)}">{_t(name)}</h3><p>{_t(schema.get("description", ""))}</p>'
        if "enum" in schema:
            yield f"<p>{', '.join(f'<code>{_t(value)}</code>' for value in schema['enum'])}</p>"
        required = schema.get("required", ())
        rows = [
            f"<tr><td><code>{_t(field)}</code>{' *' if field in required else ''}<td>{_type(kind)}"
            f"<td>{_t(kind.get('description', ''))}</tr>"
            for field, kind in schema.get("properties", {}).items()
        ]
        if rows:
            yield f"<table><tr><th>field<th>type<th></tr>{''.join(rows)}</table>"
        for example in schema.get("examples", ()):
            yield f"<pre>{_t(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"


def _problems() -> Iterator[str]:
    for code, (status, title) in CATALOGUE.items():
        yield f'<tr id="{_t(code)}"><td><code>{_t(code)}</code><td>{status}<td>{_t(title)}</tr>'


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{_t(name)}">{_t(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "≥"),
            ("maximum", "≤"),
            ("maxLength", "at most"),
            ("pattern", "matching"),
            ("default", "default"),
        )
        if schema.get(key) is not None
    ]
    kind = schema.get("const") or schema.get("format") or schema.get("type", "any")
    return _t(" ".join([str(kind), *limits]))
