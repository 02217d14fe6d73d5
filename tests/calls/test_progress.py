"""The board publishes by its own clock and forgets calls that are over."""

from __future__ import annotations

import asyncio

import pytest

from sipivr.calls import progress
from sipivr.calls.progress import ProgressBoard
from sipivr.control.messages import ProgressNotice


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BEAT_S", 0.01)


async def test_a_calls_last_state_is_published_and_then_forgotten() -> None:
    told: asyncio.Queue[ProgressNotice] = asyncio.Queue()
    board = ProgressBoard(told.put_nowait)
    board.start()
    board.show(merchant="mer_1", session="ses_1", call="call_1", values={"payment": "charging"})
    assert (await told.get()).values == {"payment": "charging"}
    board.show(merchant="mer_1", session="ses_1", call="call_1", values={"payment": "approved"})
    board.forget("call_1")
    assert (await told.get()).values == {"payment": "approved"}
    board.show(merchant="mer_1", session="ses_2", call="call_2", values={})
    await told.get()  # the next beat: the former one is over
    assert len(board) == 1
    board.stop()


async def test_what_has_not_changed_is_not_published_again() -> None:
    told: asyncio.Queue[ProgressNotice] = asyncio.Queue()
    board = ProgressBoard(told.put_nowait)
    board.start()
    for call in ("call_1", "call_1", "call_2"):
        board.show(merchant="mer_1", session="ses_1", call=call, values={})
        if call == "call_1":
            board.show(merchant="mer_1", session="ses_1", call=call, values={})
    assert {(await told.get()).call, (await told.get()).call} == {"call_1", "call_2"}
    board.show(merchant="mer_1", session="ses_1", call="call_1", values={})
    board.show(merchant="mer_1", session="ses_1", call="call_3", values={})
    assert (await told.get()).call == "call_3"
    board.stop()
