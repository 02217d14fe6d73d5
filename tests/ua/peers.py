"""Peers of the switch under test: the switch's own process, SIPp with scenarios made here, a raw socket."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TIMEOUT_S = 10.0
SDP = "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {c}\r\nt=0 0\r\nm=audio {port} RTP/AVP {formats}\r\n"


EVENTS = "a=rtpmap:101 telephone-event/8000\r\n"


def sdp(*, ip="127.0.0.1", c="127.0.0.1", port=40000, formats="0 8 101", extra="") -> str:
    events = EVENTS if "101" in formats else ""
    return SDP.format(ip=ip, c=c, port=port, formats=formats) + events + extra


class Switch:
    """`agent_process` as a child; events are awaited, never slept for."""

    def __init__(self, **options) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.ua.agent_process", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self._events: queue.Queue = queue.Queue()
        self._seen: list[dict] = []
        self.log: list[str] = []
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._read, self._read_log)]
        for thread in self._threads:
            thread.start()
        listening = self.wait("listening")
        self.edge = listening["edge"]
        self.udp = listening["sockets"][0][2]
        self.tcp = listening["sockets"][1][2]

    def _read(self) -> None:
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def _read_log(self) -> None:
        self.log.extend(self.process.stderr)

    def tell(self, do: str, **fields) -> None:
        self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.process.stdin.flush()

    def wait(self, event: str, **fields) -> dict:
        """The next event of that name and these fields; events before it stay for other waits."""
        end = time.monotonic() + TIMEOUT_S
        index = 0
        while True:
            while index < len(self._seen):
                found = self._seen[index]
                if found["event"] == event and all(found.get(k) == v for k, v in fields.items()):
                    return self._seen.pop(index)
                index += 1
            try:
                item = self._events.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                item = None
            if item is None:
                raise AssertionError(f"no {event} {fields}; seen {self._seen}; log {self.log}")
            self._seen.append(item)

    def statistics(self) -> dict:
        self.tell("statistics")
        return self.wait("statistics")

    def clear(self) -> None:
        self.statistics()
        self._seen.clear()

    def stop(self) -> None:
        if self.process.poll() is None:
            try:
                self.tell("stop")
                self.process.wait(TIMEOUT_S)
            finally:
                self.process.kill()
        self.process.wait()
        self._threads[0].join()
        self._threads[1].join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


REQUEST = """{method} sip:{user}@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:0311112222@[local_ip]>;tag=[call_number]
To: <sip:{user}@[remote_ip]>{tag}
Call-ID: [call_id]
CSeq: {cseq} {cseq_method}
Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
{headers}Content-Length: [len]

{body}"""


def send(
    method: str,
    user: str,
    cseq: int,
    body: str = "",
    *headers: str,
    cseq_method: str = "",
    dialog: bool = True,
) -> str:
    lines = list(headers)
    if body and not any(h.lower().startswith("content-type") for h in headers):
        lines.append("Content-Type: application/sdp")
    text = REQUEST.format(
        method=method,
        user=user,
        tag="[peer_tag_param]" if dialog else "",
        cseq=cseq,
        cseq_method=cseq_method or method,
        headers="".join(f"{line}\n" for line in lines),
        body=body.replace("\r\n", "\n"),
    )
    options = ' retrans="500"' if method not in {"ACK"} else ""
    return f"<send{options}><![CDATA[\n{text}\n]]></send>"


def invite(user: str, body: str, *headers: str) -> str:
    return send("INVITE", user, 1, body, *headers, dialog=False)


def ack(user: str, cseq: int = 1, body: str = "") -> str:
    return send("ACK", user, cseq, body)


def expect(response: int, *, optional: bool = False, contains: str = "") -> str:
    flag = ' optional="true"' if optional else ""
    action = ""
    if contains:
        action = (
            f'<action><ereg regexp="{contains}" search_in="msg" check_it="true" assign_to="1"/>'
            '<log message="[$1]"/></action>'
        )
    return f'<recv response="{response}"{flag}>{action}</recv>'


def expect_request(method: str) -> str:
    return f'<recv request="{method}"/>'


def respond(status: int, reason: str, body: str = "") -> str:
    kind = "Content-Type: application/sdp\n" if body else ""
    return f"""<send><![CDATA[
SIP/2.0 {status} {reason}
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:peer@[local_ip]:[local_port]>
{kind}Content-Length: [len]

{body.replace(chr(13), "")}
]]></send>"""


def pause(ms: int) -> str:
    return f'<pause milliseconds="{ms}"/>'


def sipp(switch: Switch, *steps: str, transport: str = "u1", port: int | None = None) -> None:
    """Runs one SIPp call of these steps; fails with SIPp's own words."""
    remote = port or (switch.udp if transport == "u1" else switch.tcp)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scenario.xml")
        body = "\n".join(steps)
        path.write_text(f'<?xml version="1.0"?>\n<scenario name="test">\n{body}\n</scenario>\n')
        run_sipp("-sf", str(path), "-t", transport, f"127.0.0.1:{remote}", folder=folder)


def run_sipp(*arguments: str, folder: str) -> None:
    done = subprocess.run(
        [
            "sipp",
            *arguments,
            "-i",
            "127.0.0.1",
            "-m",
            "1",
            "-nostdin",
            "-timeout",
            "9",
            "-timeout_error",
            "-trace_err",
            "-error_file",
            "errors",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )
    errors = Path(folder, "errors")
    said = errors.read_text() if errors.exists() else done.stdout[-500:] + done.stderr[-500:]
    assert done.returncode == 0, f"SIPp ended with {done.returncode}: {said}"


class Socket:
    """A raw UDP peer bound to an address of 127/8."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.address, self.port = self.socket.getsockname()
        self._count = 0

    def __del__(self) -> None:
        self.socket.close()

    def request(
        self, method: str, user: str = "answer", *headers: str, body: str = "", to_tag: str = ""
    ) -> bytes:
        self._count += 1
        tag = f";tag={to_tag}" if to_tag else ""
        kind = ["Content-Type: application/sdp"] if body else []
        lines = [
            f"{method} sip:{user}@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address}:{self.port};branch=z9hG4bK{self.port}x{self._count};rport",
            f"From: <sip:0311112222@{self.address}>;tag=t{self.port}",
            f"To: <sip:{user}@127.0.0.1>{tag}",
            f"Call-ID: c{self.port}-{self._count}@{self.address}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:peer@{self.address}:{self.port}>",
            "Max-Forwards: 70",
            *headers,
            *kind,
            f"Content-Length: {len(body)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def send(self, raw: bytes, port: int) -> None:
        self.socket.sendto(raw, ("127.0.0.1", port))

    def receive(self, timeout_s: float = TIMEOUT_S) -> bytes | None:
        self.socket.settimeout(timeout_s)
        try:
            return self.socket.recv(65535)
        except TimeoutError:
            return None

    def status(self, raw: bytes, port: int) -> int:
        """Sends and returns the final status."""
        self.send(raw, port)
        while True:
            answer = self.receive()
            assert answer is not None, "nothing came back"
            status = int(answer.split(b" ", 2)[1])
            if status >= 200:
                return status
