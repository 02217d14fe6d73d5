"""The simulator's control endpoints: its ledger as JSON, faults, and waiting for requests to arrive."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

from sipivr.simulator.faults import BadFault, Faults
from sipivr.simulator.ledger import Ledger
from sipivr.simulator.page import ledger_page
from sipivr.simulator.results import Clock
from sipivr.simulator.server import Reply, Request


class Control:
    """Answers what is below ``/_simulator/``.

    Args:
        ledger: Read only here.
        faults: Shared with the calls.
        token: If set, every request needs it as a bearer token.
        clock: Of the gateway; can be moved.
        token_key: PEM and hash of the key that cards are encrypted to for a token.
    """

    def __init__(
        self,
        ledger: Ledger,
        faults: Faults,
        token: str,
        clock: Clock,
        token_key: Callable[[], tuple[str, str]],
    ) -> None:
        self._ledger = ledger
        self._faults = faults
        self._token = token
        self._clock = clock
        self._token_key = token_key
        self._arrived: Counter[str] = Counter()
        self._arrival: Final = asyncio.Condition()

    async def arrived(self, call: str) -> None:
        """Count a request of the protocol, before anything else happens to it."""
        async with self._arrival:
            self._arrived[call] += 1
            self._arrival.notify_all()

    async def handle(self, request: Request) -> Reply:
        """Answer one control request."""
        given = request.headers.get("authorization", "").encode("latin-1")
        if self._token and not secrets.compare_digest(given, f"Bearer {self._token}".encode()):
            return _json({"error": "token needed"}, 401)
        path = request.path.removeprefix("/_simulator")
        if (request.method, path) == ("GET", "/wait"):
            return await self._wait(request)
        if (request.method, path) == ("GET", "/ledger"):
            return _json(self._ledger.as_json())
        if (request.method, path) in (("GET", ""), ("GET", "/")):
            return Reply(ledger_page(self._ledger.as_json()), 200, "text/html; charset=utf-8")
        if (request.method, path) == ("GET", "/token-key"):
            pem, key_hash = self._token_key()
            return _json({"public_key": pem, "key_hash": key_hash})
        if (request.method, path) == ("POST", "/clock"):
            return self._move(request)
        if path == "/faults":
            return self._fault(request)
        return _json({"error": "not found"}, 404)

    def _move(self, request: Request) -> Reply:
        try:
            self._clock.offset_s = float(json.loads(request.body)["offset_s"])
        except (ValueError, KeyError, TypeError):
            return _json({"error": "offset_s: seconds"}, 400)
        return _json({"offset_s": self._clock.offset_s})

    def _fault(self, request: Request) -> Reply:
        if request.method == "DELETE":
            self._faults.clear()
        elif request.method == "POST":
            try:
                return _json(self._faults.add(json.loads(request.body)).as_json(), 201)
            except (BadFault, json.JSONDecodeError, UnicodeDecodeError) as exc:
                return _json({"error": str(exc)}, 400)
        return _json(self._faults.as_json())

    async def _wait(self, request: Request) -> Reply:
        """Wait until `count` requests of `call` have arrived since the start; 408 after `seconds`."""
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        try:
            call, count = query["call"], int(query.get("count", "1"))
            seconds = float(query.get("seconds", "10"))
        except (KeyError, ValueError):
            return _json({"error": "call, count, seconds"}, 400)
        async with self._arrival:
            try:
                async with asyncio.timeout(seconds):
                    await self._arrival.wait_for(lambda: self._arrived[call] >= count)
            except TimeoutError:
                return _json({"error": "timeout", "arrived": self._arrived[call]}, 408)
        return _json({"arrived": self._arrived[call]})


def _json(value: object, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status, "application/json")
