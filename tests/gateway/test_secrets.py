"""Nothing of a card or a password in logs, exceptions, reprs or left-over buffers, whatever the peer does."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import sipivr
from sipivr.gateway import gmo, gmo_wire
from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.port import (
    Entry,
    GatewayUnavailable,
    Job,
    Order,
    OutcomeUnknown,
    Secret,
)
from sipivr.gateway.transport import Timeouts
from tests.gateway.conftest import SHOP, SimulatorProcess, make_card
from tests.gateway.numbers import NUMBERS

PAN = NUMBERS["visa-approved"]
CODE = "739"
ORDER = Order("order-s", 1_000, Job.CAPTURE, "intent-s")
ENTRY = Entry("order-s", "a" * 32, Secret("passpasspasspasspasspasspasspass"))

FORBIDDEN = [
    PAN,
    PAN[::-1],
    " ".join(PAN[i : i + 4] for i in range(0, 16, 4)),
    PAN.encode().hex(),
    base64.b64encode(PAN.encode()).decode().rstrip("="),
    f"SecurityCode={CODE}",
    SHOP.password.reveal(),
    ENTRY.access_pass.reveal(),
]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any logger says, at DEBUG, with tracebacks."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> list[gmo_wire.FormBody]:
    made: list[gmo_wire.FormBody] = []

    class Recorded(gmo_wire.FormBody):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(gmo, "FormBody", Recorded)
    return made


def clean(text: str) -> None:
    for forbidden in FORBIDDEN:
        assert forbidden not in text


#: Where our package lies; the clone's own directory may be called sipivr as well.
OURS = str(Path(sipivr.__file__).parent)


def whole_traceback(exc: BaseException) -> str:
    """The traceback with locals, and with every exception that hangs on it, suppressed ones too."""
    texts, seen, waiting = [], set(), [exc]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        texts.append(repr(one) + repr(one.args) + repr(vars(one)))
        # The test's own frames hold the card's number; the adapter's begin below.
        trace = one.__traceback__
        while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(OURS):
            trace = trace.tb_next
        texts.extend(
            traceback.TracebackException(type(one), one, trace, capture_locals=True).format(chain=False)
        )
        waiting.extend(link for link in (one.__cause__, one.__context__) if link is not None)
    return "\n".join(texts)


Answering = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(answering: Answering) -> AsyncIterator[str]:
    """A peer that reads a whole request and then does what it likes with it."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        assert PAN.encode() in body
        try:
            await answering(body, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def answer(head: bytes, body: bytes = b"") -> Answering:
    async def send(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace(b"@", request) + b"\r\n\r\n" + body.replace(b"@", request))
        await writer.drain()

    return send


async def endless(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not writer.is_closing():
        writer.write(request * 100)
        await writer.drain()


async def nothing(_request: bytes, _writer: asyncio.StreamWriter) -> None:
    return


HOSTILE: dict[str, tuple[Answering, str]] = {
    "no answer": (nothing, "protocol"),
    "card in the status line": (answer(b"@"), "protocol"),
    "card as reason": (answer(b"HTTP/1.1 500 @\r\nContent-Length: 0"), "http_500"),
    "card in a header": (answer(b"HTTP/1.1 200 OK\r\nX-Echo: @\r\nContent-Length: 3", b"A=1"), "malformed"),
    "card as a header name": (answer(b"HTTP/1.1 200 OK\r\n@: 1\r\nContent-Length: 0"), "protocol"),
    "card as content length": (answer(b"HTTP/1.1 200 OK\r\nContent-Length: @"), "protocol"),
    "card as chunk size": (
        answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"@\r\n"),
        "protocol",
    ),
    "redirect": (
        answer(b"HTTP/1.1 307 Gone\r\nLocation: http://127.0.0.1:1/@\r\nContent-Length: 0"),
        "http_307",
    ),
    "body is the request": (answer(b"HTTP/1.1 200 OK", b"@"), "malformed"),
    "body names the card as an error": (
        answer(b"HTTP/1.1 200 OK", b"ErrCode=E01&ErrInfo=" + PAN.encode() + b"1"),
        "malformed",
    ),
    "compressed": (answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip", b"@"), "encoded"),
    "endless": (endless, "too_long"),
    "cookie": (answer(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=@\r\nContent-Length: 1", b"x"), "malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_peer(
    name: str, log: io.StringIO, bodies: list[gmo_wire.FormBody], caplog: pytest.LogCaptureFixture
) -> None:
    answering, detail = HOSTILE[name]
    card = make_card(PAN, code=CODE)
    async with peer(answering) as url:
        gateway = GMOGateway(GMOSettings(url, test_mode=True))
        outcome = await gateway.execute(SHOP, ORDER, ENTRY, card)
        await gateway.aclose()
    assert isinstance(outcome, OutcomeUnknown)
    if name != "body is the request":
        assert outcome.detail == detail
    clean(repr(outcome) + log.getvalue() + caplog.text + repr(gateway) + repr(vars(gateway)) + repr(card))
    assert bodies
    for body in bodies:
        assert not any(body._buffer)
    assert "httpcore" in log.getvalue()  # the capture does see the library


async def test_logs_of_a_payment(log: io.StringIO, simulator: SimulatorProcess) -> None:
    gateway = GMOGateway(GMOSettings(simulator.url, test_mode=True))
    order = Order("order-logs", 1_000, Job.CAPTURE, "intent-logs")
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    outcome = await gateway.execute(SHOP, order, entry, make_card(PAN, code=CODE))
    found = await gateway.look_up(SHOP, order.order_id)
    await gateway.aclose()
    clean(log.getvalue() + repr(outcome) + repr(found) + repr(entry))
    assert entry.access_pass.reveal() not in log.getvalue() + repr(outcome) + repr(found) + repr(entry)


async def test_nothing_listens_says_nothing(log: io.StringIO) -> None:
    gateway = GMOGateway(GMOSettings("http://127.0.0.1:1", test_mode=True))
    with pytest.raises(GatewayUnavailable) as caught:
        await gateway.execute(SHOP, ORDER, ENTRY, make_card(PAN, code=CODE))
    await gateway.aclose()
    clean(log.getvalue() + whole_traceback(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_untrusted_certificate_gets_no_byte(log: io.StringIO, certificate: tuple[str, str]) -> None:
    heard: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(10_000))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway = GMOGateway(GMOSettings(url, test_mode=True))
    with pytest.raises(GatewayUnavailable, match="tls") as caught:
        await gateway.execute(SHOP, ORDER, ENTRY, make_card(PAN, code=CODE))
    await gateway.aclose()
    trusting = GMOGateway(GMOSettings(url, test_mode=True, ca_file=certificate[0]))
    assert isinstance(await trusting.execute(SHOP, ORDER, ENTRY, make_card(PAN, code=CODE)), OutcomeUnknown)
    await trusting.aclose()
    server.close()
    await server.wait_closed()
    assert len(heard) == 1  # the second, trusted one
    assert PAN.encode() in heard[0]
    clean(log.getvalue() + whole_traceback(caught.value))


async def test_cancelled_in_flight_wipes(bodies: list[gmo_wire.FormBody]) -> None:
    arrived = asyncio.Event()

    async def never(_request: bytes, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await writer.wait_closed()

    async with peer(never) as url:
        gateway = GMOGateway(GMOSettings(url, True, timeouts=Timeouts(charge_s=30)))
        task = asyncio.create_task(gateway.execute(SHOP, ORDER, ENTRY, make_card(PAN, code=CODE)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gateway.aclose()
    assert bodies
    for body in bodies:
        assert not any(body._buffer)


async def test_wiped_card_is_not_sent(bodies: list[gmo_wire.FormBody]) -> None:
    from sipivr.card import CardWipedError

    card = make_card(PAN, code=CODE)
    card.wipe()
    gateway = GMOGateway(GMOSettings("http://127.0.0.1:1", test_mode=True))
    with pytest.raises(CardWipedError):
        await gateway.execute(SHOP, ORDER, ENTRY, card)
    live = GMOGateway(GMOSettings("https://192.0.2.1", test_mode=False))
    with pytest.raises(CardWipedError):
        await live.execute(SHOP, ORDER, ENTRY, card)
    await gateway.aclose()
    await live.aclose()
    for body in bodies:
        assert not any(body._buffer)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1",
        "http://gateway.example",
        "ftp://127.0.0.1",
        "https://user:pass@gateway.example",
        "https://gateway.example/path",
        "https://gateway.example/?q",
        "https://",
        "http://127.0.0.1.example",
        "http://localhost.example",
    ],
)
def test_where_a_card_may_not_go(url: str) -> None:
    with pytest.raises(ValueError, match="gateway URL"):
        GMOGateway(GMOSettings(url, test_mode=True))


def test_loopback_is_a_simulator() -> None:
    with pytest.raises(ValueError, match="test_mode"):
        GMOSettings("http://127.0.0.1:8590", test_mode=False)
