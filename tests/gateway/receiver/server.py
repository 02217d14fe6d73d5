"""The receiver as an HTTPS server in a thread, with faults for the tests."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.gateway.receiver.ledger import Ledger
from tests.gateway.receiver.signing import Unsigned, Verifier, signed_answer


class Receiver:
    """``with Receiver(certificate, keys, cards) as receiver:``; `fault` strikes the next request of an operation."""

    def __init__(self, certificate: tuple[str, str], keys: dict[str, bytes], cards: dict[str, str]) -> None:
        self.ledger = Ledger(cards)
        self.faults: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.requests: list[str] = []
        verifier, lock = Verifier(keys), threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                operation = self.path.removeprefix("/v1/")
                receiver.requests.append(operation)
                try:
                    key_id = verifier.verify("POST", self.path, headers, body)
                except Unsigned as why:
                    receiver.refused.append(str(why))
                    self._send(401, b"{}", {})
                    return
                with lock:
                    kind = receiver.strike(operation)
                    if kind == "drop_before":
                        self._reset()
                        return
                    answer = json.dumps(
                        getattr(receiver.ledger, operation)(key_id, json.loads(body))
                    ).encode()
                self._deliver(kind, answer, verifier.keys[key_id], headers["signature"])

            def _deliver(self, kind: str, answer: bytes, key: bytes, request_signature: str) -> None:
                if kind == "drop_after":
                    self._reset()
                    return
                if kind == "garbage_after":
                    answer = b'{"result": "fine"'
                signed = signed_answer(key, 200, answer, request_signature)
                if kind == "other_request_after":
                    signed = signed_answer(key, 200, answer, "sipivr=:another:")
                if kind == "unsigned_after":
                    signed = {}
                if kind == "tampered_after":
                    answer = answer.replace(b'"ok"', b'"OK"')
                if kind == "wrong_key_after":
                    signed = signed_answer(b"x" * 32, 200, answer, request_signature)
                if kind == "http_500_after":
                    self._send(500, b"{}", {})
                elif kind == "redirect_after":
                    self._send(307, b"", {"Location": "https://127.0.0.1:1/"})
                else:
                    self._send(200, answer, signed, partial=kind == "partial_after")

            def _send(
                self, status: int, body: bytes, headers: dict[str, str], *, partial: bool = False
            ) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if partial else body)
                self.close_connection = True
                if partial:
                    self._reset()

            def _reset(self) -> None:
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

            def log_message(self, *_: Any) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def strike(self, operation: str) -> str:
        for fault in self.faults:
            if fault[0] == operation:
                self.faults.remove(fault)
                return fault[1]
        return ""

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was reset, by us or by a peer that distrusts us."""
