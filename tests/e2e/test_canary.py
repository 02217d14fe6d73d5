"""A whole call with a known card, at log level DEBUG; then the card is searched for wherever it must not be.

The card number is searched for in every form that `leaks.patterns` knows: in the logs of all processes, in every
file of the switch's directory (databases with their WAL, prompts, sockets' neighbours, settings), in the
temporary directory that the switch was given, in every answer of the API, in each process's environment and
command line, and in the memory of the processes that must never hold it or hold it no longer.

The security code has four digits and is somewhere by chance: in a port, a duration, a process id. So it counts
where it has company, in a line of log or API that names a field of a card, this call, its session or its payment
(see `leaks`), and it is chosen so that none of what such lines rightly hold (amount, order, number to call,
last 4) contains it. A count against the run of another card would not do better: one leaked line more is within
the noise of timestamps.

Memory of `sipivr` is reported and not judged: CPython and the TLS library keep copies that nobody can reach
(invariant 2).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from bench.harness import Switch, prompt_cache
from bench.telephone.customer import CardInHand
from tests.e2e.conftest import Stage, plays
from tests.e2e.leaks import Card, Leak, Remains, count_in_memory, patterns, read_files, search
from tests.e2e.visit import visit

#: American Express: a code of four digits is rarer than one of three.
CANARY = CardInHand("378282246310005", "1130", "8306")
AMOUNT = 45_217
#: After the end of the call; what is to be wiped is wiped by then (invariant 2).
SETTLED_S = 5.0
#: A key with one digit: `key=4`, `"digit": 7`, `KeyPressed(leg=1, key=4`, `pressed 4`.
_KEY_LOGGED = re.compile(
    rb"(?i)\b(?:(?:key|keys|digit|digits|signal|dtmf|pressed)[\"']?\s*[=:]?|code[\"']?\s*[=:])"
    rb"\s*[\"']?[0-9*#](?![0-9a-z_.])"
)


#: As the search wants it.
SOUGHT = Card(CANARY.number, CANARY.security_code)


@dataclass(frozen=True)
class Searched:
    """What was left, and what the search has found in it."""

    remains: Remains
    leaks: list[Leak]
    memory: dict[str, int]


async def everything_it_leaves(stage: Stage) -> Searched:
    # In a process of its own: a search would keep the telephone waiting.
    with ProcessPoolExecutor(1, get_context("spawn")) as searcher:
        return await leaves(stage, searcher)


async def leaves(stage: Stage, searcher: ProcessPoolExecutor) -> Searched:
    loop = asyncio.get_running_loop()
    cache = stage.directory / "prompts"
    await asyncio.to_thread(shutil.copytree, prompt_cache(), cache)
    temporary = stage.directory / "temporary"
    temporary.mkdir()
    environment = {
        "SIPIVR_LOG__LEVEL": "DEBUG",
        "SIPIVR_PROMPTS__CACHE_DIR": str(cache),
        "TMPDIR": str(temporary),
    }
    async with stage.another("canary", environment=environment) as own:
        customer = await visit(own, amount=AMOUNT)
        await customer.identify()
        await customer.pay(CANARY)
        ended = await customer.ended()
        assert ended.call["outcome"] == "paid"
        over = loop.time()
        session = await own.session_now(ended.session)
        answers = await crawl(own.switch)
        await asyncio.sleep(over + SETTLED_S - loop.time())
        switch = own.switch
        processes = {**switch.children(), "supervisor": switch.pid}
        memory = {
            kind: await loop.run_in_executor(searcher, count_in_memory, pid, CANARY.number)
            for kind, pid in processes.items()
            if kind != "simulator"
        }
        # While the switch runs, its databases have their WAL beside them.
        files = await asyncio.to_thread(read_files, switch.directory, temporary, cache)
        about = {
            f"{kind} {name}": Path(f"/proc/{pid}/{name}").read_bytes()
            for kind, pid in processes.items()
            for name in ("environ", "cmdline", "status")
        }
        company = (ended.call["id"], session["id"], session["payment"], session["order_id"])
    files |= {
        f"after the end: {name}": data for name, data in read_files(switch.directory, temporary).items()
    }
    remains = Remains(company, switch.log_path.read_bytes(), files, answers, about)
    return Searched(remains, await loop.run_in_executor(searcher, search, remains, SOUGHT), memory)


async def crawl(switch: Switch) -> dict[str, bytes]:
    """Everything that the API tells a merchant."""
    answers: dict[str, bytes] = {}

    async def ask(path: str) -> Any:
        answer = await switch.api.get(path)
        assert answer.status_code == 200, (path, answer.text)
        answers[path] = answer.content
        return answer.json() if "json" in answer.headers["content-type"] else None

    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/shops", "/v1/numbers"):
        await ask(path)
    for name in ("payment_sessions", "calls", "payments", "events"):
        page = await ask(f"/v1/{name}?limit=100")
        assert page["data"] and not page["has_more"]
        for entry in page["data"] if name != "events" else ():
            await ask(f"/v1/{name}/{entry['id']}")
            if name == "calls":
                await ask(f"/v1/calls/{entry['id']}/ladder")
    return answers


def planted_in(result: Searched, leak: bytes) -> list[Leak]:
    """What the search finds when the log of the finished switch goes on with `leak`."""
    end = b"".join(result.remains.log.splitlines(keepends=True)[-100:])
    return search(replace(result.remains, log=end + leak, files={}, answers={}, processes={}), SOUGHT)


@plays(everything_it_leaves)
@pytest.mark.asyncio(loop_scope="session")
async def test_the_card_is_nowhere(stage: Stage, result: Searched) -> None:
    assert result.leaks == []


@plays(everything_it_leaves)
@pytest.mark.asyncio(loop_scope="session")
async def test_the_search_has_looked_at_what_there_is(stage: Stage, result: Searched) -> None:
    names = set(result.remains.files)
    for name in ("switch.db", "switch.db-wal", "api.db", "ledger.db", "keys.toml", "switch.log", ".s16"):
        assert any(found.endswith(name) for found in names), name
    assert b" DEBUG " in result.remains.log
    assert {"main environ", "media-0 cmdline", "api environ"} <= set(result.remains.processes)
    assert any("ladder" in path for path in result.remains.answers)
    call = result.remains.company[0].encode()
    assert call in result.remains.log and any(call in data for data in result.remains.answers.values())


@plays(everything_it_leaves)
@pytest.mark.asyncio(loop_scope="session")
async def test_no_key_is_logged(stage: Stage, result: Searched) -> None:
    assert [line for line in result.remains.log.splitlines() if _KEY_LOGGED.search(line)] == []


@plays(everything_it_leaves)
@pytest.mark.asyncio(loop_scope="session")
async def test_memory_holds_the_card_no_longer(
    stage: Stage, result: Searched, record_property: pytest.RecordProperty
) -> None:
    if -1 in result.memory.values():
        pytest.skip("the memory of other processes is root's")
    record_property("card numbers left in memory", result.memory)
    print(f"card numbers left in memory, by process: {result.memory}")
    elsewhere = {kind: count for kind, count in result.memory.items() if kind != "main"}
    assert {"api", "media-0", "supervisor"} <= set(elsewhere)
    assert set(elsewhere.values()) == {0}


@plays(everything_it_leaves)
@pytest.mark.parametrize("form", list(patterns(CANARY.number)))
@pytest.mark.asyncio(loop_scope="session")
async def test_a_leak_of_the_card_number_fails_the_search(stage: Stage, result: Searched, form: str) -> None:
    planted = patterns(CANARY.number)[form]
    leak = b"2026-01-01T00:00:00.000Z DEBUG   sipivr: leak " + planted + b"\n"
    assert Leak("log", f"PAN: {form}") in planted_in(result, leak)


_CODE = CANARY.security_code


@plays(everything_it_leaves)
@pytest.mark.parametrize(
    "line",
    [
        f"security_code={_CODE}",
        f"cvc '{_CODE}'",
        f'{{"securityCode": "{_CODE}"}}',
        "code 38333036",
        "card code ODMwNg==",
        "code=%38%33%30%36",
        "digits [8, 3, 0, 6]",
        f"call CALL: {_CODE}",
        f"session SESSION {_CODE[::-1]}",
    ],
)
@pytest.mark.asyncio(loop_scope="session")
async def test_a_leak_of_the_security_code_fails_the_search(
    stage: Stage, result: Searched, line: str
) -> None:
    call, session, *_ = result.remains.company
    line = line.replace("CALL", call).replace("SESSION", session)
    leak = f"2026-01-01T00:00:00.000Z DEBUG   sipivr: {line}\n".encode()
    assert any(found.form.startswith("security code") for found in planted_in(result, leak))


@plays(everything_it_leaves)
@pytest.mark.asyncio(loop_scope="session")
async def test_keys_logged_one_by_one_fail_the_search(stage: Stage, result: Searched) -> None:
    lines = b"".join(
        b"2026-01-01T00:00:00.%03dZ DEBUG   sipivr: KeyPressed(leg=7, pressed_as=%c, way=2)\n" % (at, digit)
        for at, digit in enumerate(CANARY.number.encode())
    )
    assert any("key by key" in leak.form for leak in planted_in(result, lines))


@pytest.mark.asyncio(loop_scope="session")
async def test_memory_is_really_read(stage: Stage) -> None:
    holding = "import sys; held = sys.stdin.readline(); print(1, flush=True); sys.stdin.readline()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", holding, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{CANARY.number}\n".encode())
    await process.stdout.readline()
    count = await asyncio.to_thread(count_in_memory, process.pid, CANARY.number)
    process.stdin.write(b"\n")
    await process.wait()
    assert count != 0
