"""One record, one line, whatever a peer writes into it (CWE-117)."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr import log

HOSTILE = "BYE\r\n2026-11-23T00:00:00.000Z ERROR sipivr: forged\x1b[2J\u2028\u202eabc\x00"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level


def written(form: str, **more: object) -> str:
    stream = io.StringIO()
    log.start(level="DEBUG", form=form, process="sipivr", node="node1", stream=stream)
    logging.getLogger("sipivr.ua").warning("from %s", HOSTILE, **more)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_hostile_text_stays_in_its_line(form: str) -> None:
    text = written(form, extra={"user_agent": HOSTILE})
    assert len(text.splitlines()) == 1
    assert text.endswith("\n")
    assert not set("\r\x1b\u2028\u202e\x00") & set(text)
    assert "forged" in text


def test_json_has_the_fields() -> None:
    record = json.loads(written("json", extra={"call": "call_1", "legs": 2}))
    assert record["level"] == "WARNING"
    assert record["process"] == "sipivr"
    assert record["node"] == "node1"
    assert record["logger"] == "sipivr.ua"
    assert (record["call"], record["legs"]) == ("call_1", 2)
    assert record["time"].endswith("Z")


def test_json_keeps_a_traceback_in_one_line() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        text = written("json", exc_info=True)
    assert len(text.splitlines()) == 1
    assert "ValueError" in json.loads(text)["exception"]


def test_text_marks_the_lines_of_a_traceback() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        first, *rest = written("text", exc_info=True).split("\n")[:-1]
    assert "WARNING" in first
    assert all(line.startswith("  | ") for line in rest)


@given(st.text())
def test_escaped_text_is_one_printable_line(text: str) -> None:
    escaped = log.escaped(text)
    assert len(escaped.splitlines()) <= 1
    assert log.escaped(escaped) == escaped


@pytest.mark.parametrize(("level", "form"), [("TRACE", "json"), ("INFO", "xml")])
def test_unknown_level_or_form_is_an_error(level: str, form: str) -> None:
    with pytest.raises(ValueError, match=r"neither|none of"):
        log.start(level=level, form=form, process="sipivr")
