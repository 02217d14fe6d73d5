"""Identification numbers that do not tie the call to a session: one and the same behaviour for each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from bench.telephone.customer import Customer
from sipivr.store.identification import check_digit
from tests.e2e.conftest import Stage, plays
from tests.e2e.visit import visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Pieces in which a message is looked for in another recording: a busy machine loses frames between them.
PIECE_SAMPLES = 2_000
#: Normalised correlation of a piece with the place where it stands in the other recording.
SAME_PIECE = 0.9
#: Share of the pieces; of two messages without a phrase in common less than 0.1 is found.
SAME_MESSAGE = 0.5


@dataclass(frozen=True)
class TurnedAway:
    """A call whose three tries were refused."""

    call: dict[str, Any]
    #: What was heard from the last refusal to the end of the call.
    last_heard: NDArray[np.int16]
    reasons: list[str]


async def nobodys(stage: Stage) -> str:
    """A number of the right form that was never issued."""
    issued = {row[0] for row in stage.rows("SELECT digits FROM identification_number")}
    return next(
        n for n in (body + check_digit(body) for body in ("13579", "24680", "11223")) if n not in issued
    )


async def misspelt(stage: Stage) -> str:
    """A number whose check digit does not fit."""
    good = await nobodys(stage)
    return good[:-1] + str((int(good[-1]) + 1) % 10)


async def foreign(stage: Stage) -> str:
    """Another merchant's number."""
    return stage.foreign_number


async def expired(stage: Stage) -> str:
    """A number whose five minutes are over."""
    session = await stage.session()
    stage.change(
        "UPDATE identification_number SET expires_at = '2001-01-01T00:00:00.000Z' WHERE session = ?",
        session["id"],
    )
    return str(session["identification_number"])


async def canceled(stage: Stage) -> str:
    """The number of a session that the merchant has cancelled."""
    session = await stage.session()
    answer = await stage.switch.api.post(f"/v1/payment_sessions/{session['id']}/cancel", json={})
    assert answer.status_code == 200, answer.text
    return str(session["identification_number"])


async def tries(stage: Stage, make: Callable[[Stage], Awaitable[str]]) -> TurnedAway:
    """Keys the number three times, hearing what is said each time."""
    return await _try(stage, await make(stage))


async def _try(stage: Stage, number: str) -> TurnedAway:
    call = await stage.call_up()
    customer = Customer(call)
    await call.ears.speech()
    await call.ears.listen(800)
    for _ in range(3):
        await customer.key("a number", number)
        keyed = len(call.heard.samples)
        # The last answer is followed by the end of the call.
        with contextlib.suppress(ConnectionError):
            await customer.prompted()
    await call.ended(30)
    record = await stage.find_call(call.sip.call_id)
    rows = stage.rows("SELECT reason FROM claim_failure WHERE call = ? ORDER BY id", record["id"])
    return TurnedAway(record, call.heard.samples[keyed:], [row[0] for row in rows])


async def tries_used(stage: Stage) -> TurnedAway:
    """Keys the number of a session that another call has claimed; that call goes on."""
    holder = await visit(stage)
    await holder.identify()
    away = await _try(stage, holder.session["identification_number"])
    assert holder.call.up
    assert (await stage.session_now(holder.session))["status"] == "claimed"
    holder.hang_up()
    await holder.ended()
    return away


MISSPELT: Any = partial(tries, make=misspelt)
WRONG: dict[str, Any] = {
    "wrong": partial(tries, make=nobodys),
    "foreign": partial(tries, make=foreign),
    "expired": partial(tries, make=expired),
    "canceled": partial(tries, make=canceled),
    "used": tries_used,
}

ALIKE: dict[str, Any] = {**WRONG, "a slip of the finger": MISSPELT}


@pytest.mark.parametrize("reason", [pytest.param(name, marks=plays(WRONG[name])) for name in WRONG])
async def test_a_refused_number_ends_the_call_after_three_tries(
    stage: Stage, result: TurnedAway, reason: str
) -> None:
    call = result.call
    assert (call["outcome"], call["ended_by"]) == ("identification_refused", "switch")
    assert call["session"] is None
    assert call["capture_started_at"] is None
    assert result.reasons == [reason] * 3


def shape(away: TurnedAway) -> list[Any]:
    """What became of the call, without whose and when."""
    call = away.call
    told = [(entry["type"], entry["detail"]) for entry in call["timeline"]]
    return [call["status"], call["outcome"], call["ended_by"], call["sip_status"], told]


def share_found(message: NDArray[np.int16], elsewhere: NDArray[np.int16]) -> float:
    """The share of a message's pieces of speech that stand, sample for sample, in another recording."""
    signal = np.pad(elsewhere.astype(np.float64), PIECE_SAMPLES)
    squares = np.concatenate(([0.0], np.cumsum(signal**2)))
    levels = np.sqrt(np.maximum(squares[PIECE_SAMPLES:] - squares[:-PIECE_SAMPLES], 1.0))
    starts = range(0, len(message) - PIECE_SAMPLES, PIECE_SAMPLES)
    pieces = [message[start : start + PIECE_SAMPLES].astype(np.float64) for start in starts]
    spoken = [piece for piece in pieces if np.abs(piece).mean() > 200]
    assert spoken, "nothing was heard"
    found = [
        (fftconvolve(signal, piece[::-1], mode="valid") / levels).max() / np.linalg.norm(piece)
        for piece in spoken
    ]
    return float(np.mean(np.array(found) > SAME_PIECE))


@pytest.mark.parametrize("reason", [pytest.param(name, marks=plays(ALIKE[name])) for name in ALIKE])
async def test_all_refusals_are_alike(stage: Stage, result: TurnedAway, reason: str) -> None:
    wrong: TurnedAway = await stage.outcome(WRONG["wrong"])
    assert shape(result) == shape(wrong)
    assert share_found(wrong.last_heard, result.last_heard) > SAME_MESSAGE
    assert share_found(result.last_heard, wrong.last_heard) > SAME_MESSAGE
