"""A pjsua2 endpoint in a process of its own, told what to do by lines of JSON on its standard input.

A process of its own, because PJSIP is one for a process and for one thread, and because a test of robustness
may end it. Run as ``python -m tests.ua.edge_host``; ``tests.ua.edge_client`` speaks to it.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import ipaddress
import json
import select
import sys
import threading
from pathlib import Path
from typing import Any

import pjsua2 as pj

from sipivr.ua.edge_binding import (
    EdgeAddress,
    EdgeBinding,
    EdgeLookup,
    EdgeMessage,
    EdgeRequest,
    EdgeVerdict,
    build_info,
)
from tests.ua.edge_client import CRYPTO, REFUSAL, SDP


class Call(pj.Call):
    """Answers with an SDP of our own, and refuses to be replaced."""

    def __init__(self, host: Host, account: pj.Account, call_id: int) -> None:
        super().__init__(account, call_id)
        self.host = host

    def onCallSdpCreated(self, prm: Any) -> None:  # noqa: N802
        sdp = SDP.format(version=1)
        if "RTP/SAVP" in prm.remSdp.wholeSdp:  # RFC 3264 §6: the answer keeps the offer's profile
            sdp = sdp.replace("RTP/AVP", "RTP/SAVP") + CRYPTO
        prm.sdp.wholeSdp = sdp

    def onCallReplaceRequest(self, prm: Any) -> None:  # noqa: N802
        prm.statusCode = pj.PJSIP_SC_DECLINE
        prm.reason = REFUSAL

    def onCallState(self, prm: Any) -> None:  # noqa: N802
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.host.finished.append(self)


class Account(pj.Account):
    """Answers every call at once."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host

    def onIncomingCall(self, prm: Any) -> None:  # noqa: N802
        call = Call(self.host, self, prm.callId)
        self.host.calls.append(call)
        answer = pj.CallOpParam()
        answer.statusCode = pj.PJSIP_SC_OK
        answer.opt.audioCount, answer.opt.videoCount, answer.opt.textCount = 1, 0, 0
        call.answer(answer)


class Host:
    """The endpoint, its edge and what the test has ordered."""

    def __init__(self) -> None:
        self.verdict: dict[str, Any] = {"kind": "pass"}
        self.addresses: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []
        self.calls: list[Call] = []
        self.finished: list[Call] = []
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.maxCalls = 64
        config.logConfig.level = config.logConfig.consoleLevel = 0
        config.medConfig.clockRate = config.medConfig.sndClockRate = 8000
        config.medConfig.hasIoqueue = False
        config.medConfig.threadCnt = 0
        self.endpoint.libInit(config)
        self.edge = EdgeBinding(lambda error: self.seen.append({"failure": repr(error)}))
        self.edge.start(self.on_request, self.on_message)
        self.ports: dict[str, int] = {}
        for name, kind in (("UDP", pj.PJSIP_TRANSPORT_UDP), ("TCP", pj.PJSIP_TRANSPORT_TCP)):
            transport = pj.TransportConfig()
            transport.boundAddress = "127.0.0.1"
            self.ports[name] = self.listen(kind, transport)
        self.endpoint.libStart()
        self.endpoint.audDevManager().setNoDev()
        account = pj.AccountConfig()
        account.idUri = f"sip:switch@127.0.0.1:{self.ports['UDP']}"
        account.mediaConfig.useLoopMedTp = True
        account.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_OPTIONAL
        account.mediaConfig.srtpSecureSignaling = 0
        self.account = Account(self)
        self.account.create(account)

    def listen(self, kind: int, transport: Any) -> int:
        """Start a transport and return its port."""
        info = self.endpoint.transportGetInfo(self.endpoint.transportCreate(kind, transport))
        return int(info.localName.rpartition(":")[2])

    def on_request(self, request: EdgeRequest) -> Any:
        self.seen.append({"request": fields(request)})
        match self.verdict["kind"]:
            case "pass":
                return EdgeVerdict.PASS
            case "drop":
                return EdgeVerdict.DROP
            case "answer":
                return EdgeVerdict.answer(
                    self.verdict["status"], retry_after_s=self.verdict.get("retry_after_s", 0)
                )
            case "raise":
                raise RuntimeError("the policy is broken")
            case "code":
                return EdgeVerdict(self.verdict["code"])
        return None  # a handler that forgot to decide

    def on_message(self, message: EdgeMessage) -> None:
        self.seen.append({"message": fields(message)})

    def on_lookup(self, lookup: EdgeLookup) -> None:
        self.seen.append({"lookup": dataclasses.asdict(lookup)})

    def order(self, order: dict[str, Any]) -> Any:
        """Obey one line of the test's."""
        match order["op"]:
            case "verdict":
                self.verdict = order["verdict"]
            case "sources":
                networks = order["networks"]
                self.edge.set_sources(None if networks is None else map(ipaddress.ip_network, networks))
            case "lookups":
                self.edge.set_lookup(self.on_lookup)
            case "resolved":
                addresses = [
                    EdgeAddress(ipaddress.ip_address(a["address"]), a["port"], a["transport"])
                    for a in order["addresses"]
                ]
                return self.edge.resolved(order["lookup_id"], addresses)
            case "counters":
                return dataclasses.asdict(self.edge.counters())
            case "seen":
                seen, self.seen = self.seen, []
                return seen
            case "tls":
                transport = pj.TransportConfig()
                transport.boundAddress = "127.0.0.1"
                transport.tlsConfig.certFile = order["certificate"]
                transport.tlsConfig.privKeyFile = order["key"]
                return self.listen(pj.PJSIP_TRANSPORT_TLS, transport)
            case "hangup":
                self.endpoint.hangupAllCalls()
            case "facts":
                return facts(self)
            case "collect":
                gc.collect()
            case other:
                raise ValueError(other)
        return None

    def run(self) -> None:
        """Serve until the test closes our input."""
        reply(self.ports)
        while True:
            self.endpoint.libHandleEvents(5)
            self.calls = [call for call in self.calls if call not in self.finished]
            self.finished.clear()
            if select.select([sys.stdin], [], [], 0)[0]:
                line = sys.stdin.readline()
                if not line:
                    break
                reply(self.order(json.loads(line)))
        # The calls stay referenced: libDestroy ends them, and calls back into their objects.
        self.account.shutdown()
        self.endpoint.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)  # otherwise it waits a second for peers


def fields(value: EdgeRequest | EdgeMessage) -> dict[str, Any]:
    """Make a value fit for JSON."""
    result = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    result["raw"] = base64.b64encode(value.raw).decode()
    if isinstance(value, EdgeMessage):
        result["direction"] = value.direction.value
    return result


def facts(host: Host) -> dict[str, Any]:
    """What ``docs`` and code take for granted of pjsua2; compared in ``test_pjsua2_facts``."""
    import ctypes

    handle = host.endpoint.libGetSipIoqueueHandle()
    address = handle if isinstance(handle, int) else int(handle)
    fd = ctypes.c_int.from_address(address).value
    build = build_info()
    udp = [line.split()[1] for line in Path("/proc/self/net/udp").read_text().splitlines()[1:]]
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return {
        "version": host.endpoint.libVersion().full,
        "build": None if build is None else dataclasses.asdict(build),
        "poll_fd": str(Path(f"/proc/self/fd/{fd}").readlink()),
        "udp_sockets": sum(1 for link in links if str(link).startswith("socket:")),
        "udp_ports": udp,
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "python_threads": threading.active_count(),
        "calls": [call.getInfo().stateText for call in host.calls],
    }


def reply(value: Any) -> None:
    """Write one line back."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    Host().run()
