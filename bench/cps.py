"""Call set-ups per second on one core: SIPp calls a process of our user agent, which answers; SIPp hangs up.

Every call is INVITE–100–180–200–ACK–BYE–200 over UDP on loopback. The switch is pinned to the first core and
SIPp to the last; CPU is the switch process's own, from /proc. First one call must succeed; then the rate
climbs until a run has a failed call or falls behind. A call costs less at a high rate, where one wake-up
serves several messages; so the CPU of a call is given for a low rate and for the highest.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_LOW_CPS: Final = 150
_STEP: Final = 1.3
#: A run has kept up when it took no more than a tenth longer than its calls were spread over.
_KEPT_UP: Final = 0.9
_BUSY: Final = 0.8
_SETTLE_S: Final = 1.0
_CLOCK_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")

_SCENARIO: Final = """<?xml version="1.0"?>
<scenario name="cps">
<send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:0311112222@[local_ip]>;tag=[pid]t[call_number]
To: <sip:[service]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:load@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 6000 RTP/AVP 0 8 101
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="{final}"/>
<send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch{ack_branch}]
From: <sip:0311112222@[local_ip]>;tag=[pid]t[call_number]
To: <sip:[service]@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
{bye}
</scenario>
"""
_BYE: Final = """<send retrans="500"><![CDATA[
BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:0311112222@[local_ip]>;tag=[pid]t[call_number]
To: <sip:[service]@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>"""


class BenchError(Exception):
    """The benchmark cannot run, or the thing it measures does not work."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m bench cps`."""
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measured run")
    parser.add_argument("--runs", type=int, default=3, help="runs at the low rate; the median counts")
    parser.add_argument("--no-ladder", action="store_true", help="without the SIP ladder")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures; `cps` is the highest rate without a failed call."""
    if shutil.which("sipp") is None:
        raise BenchError("sipp is needed (Debian package sip-tester)")
    low = [_measure("answer", _LOW_CPS, args) for _ in range(args.runs)]
    refused = _measure("busy", _LOW_CPS, args)
    best, tried = _highest(args)
    return {
        "cps": best["cps"],
        "ms_cpu_per_call": best["ms_cpu_per_call"],
        "failed": best["failed"],
        f"ms_cpu_per_call_at_{_LOW_CPS}": statistics.median(result["ms_cpu_per_call"] for result in low),
        f"ms_cpu_per_refused_call_at_{_LOW_CPS}": refused["ms_cpu_per_call"],
        "cps_by_cpu": round(1000 / best["ms_cpu_per_call"]),
        "switch_core_busy": best["core_busy"],
        "limited_by": "switch" if best["core_busy"] > _BUSY else "load generator or neighbours",
        "tried": tried,
        "ladder": not args.no_ladder,
        "machine": _machine(),
        "versions": _versions(),
    }


def _highest(args: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rate = float(_LOW_CPS)
    best: dict[str, Any] | None = None
    tried: list[dict[str, Any]] = []
    while True:
        result = _measure("answer", int(rate), args)
        tried.append({"rate": int(rate), **{k: result[k] for k in ("cps", "failed", "retransmissions")}})
        kept_up = result["failed"] == 0 and result["cps"] >= _KEPT_UP * int(rate)
        if best is None or kept_up:
            best = result
        if not kept_up:
            return best, tried
        rate *= _STEP


def _measure(service: str, rate: int, args: argparse.Namespace) -> dict[str, Any]:
    """One run against a fresh switch, after one call that must succeed."""
    with tempfile.TemporaryDirectory() as folder, closing(_Switch(ladder=not args.no_ladder)) as switch:
        check = _load(folder, service, switch.port, 1, 1)
        if check["failed"] or check["successful"] != 1:
            raise BenchError(f"a single call did not succeed: {check}")
        calls = max(1, int(rate * args.seconds))
        cpu_s, started = switch.cpu_s(), time.monotonic()
        result = _load(folder, service, switch.port, rate, calls)
        cpu_s, elapsed_s = switch.cpu_s() - cpu_s, time.monotonic() - started
        left = switch.finish()
    # SIPp takes a repeated 200 to the INVITE for the BYE's; the switch knows which calls never ended.
    result["failed"] += left
    print(f"  {service} at {rate}/s: {result}, {cpu_s * 1000 / calls:.2f} ms a call", file=sys.stderr)
    return {
        "cps": round(result["successful"] / elapsed_s, 1),
        "failed": result["failed"],
        "retransmissions": result["retransmissions"],
        "ms_cpu_per_call": round(cpu_s * 1000 / calls, 3),
        "core_busy": round(cpu_s / elapsed_s, 2),
    }


class _Switch:
    """The measured process, pinned to the first core."""

    def __init__(self, *, ladder: bool) -> None:
        command = [sys.executable, "-m", "bench.cps_switch", *([] if ladder else ["--no-ladder"])]
        root = Path(__file__).resolve().parents[1]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
        os.sched_setaffinity(self._process.pid, {min(os.sched_getaffinity(0))})
        self.port = int(self._line()["port"])

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def cpu_s(self) -> float:
        """CPU time so far, user and system."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _CLOCK_TICK_S

    def finish(self) -> int:
        """Ends it; how many calls had not ended.

        Raises:
            BenchError: it had faults.
        """
        time.sleep(_SETTLE_S)
        self._process.send_signal(signal.SIGTERM)
        result = self._line()
        if result["faults"] or result["foreign_sdp"]:
            raise BenchError(f"the switch had faults: {result}")
        return int(result["left"])

    def close(self) -> None:
        """Whatever happened, nothing is left."""
        self._process.kill()
        self._process.communicate()


def _load(folder: str, service: str, port: int, rate: int, calls: int) -> dict[str, int]:
    cores = sorted(os.sched_getaffinity(0))
    scenario, table = Path(folder, "scenario.xml"), Path(folder, "statistics.csv")
    table.unlink(missing_ok=True)
    refused = service == "busy"
    # RFC 3261 §17.1.1.3: the ACK of a refusal carries the INVITE's branch.
    scenario.write_text(
        _SCENARIO.format(
            final=486 if refused else 200, ack_branch="-4" if refused else "", bye="" if refused else _BYE
        )
    )
    command = [
        "sipp",
        "-sf",
        str(scenario),
        "-s",
        service,
        f"127.0.0.1:{port}",
        "-i",
        "127.0.0.1",
        "-nostdin",
    ]
    command += ["-r", str(rate), "-m", str(calls), "-l", "4000", "-timeout", str(int(calls / rate) + 40)]
    command += ["-recv_timeout", "8000", "-trace_stat", "-stf", str(table), "-fd", "1"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as load:
        os.sched_setaffinity(load.pid, {cores[-1]})
        load.wait()
    with table.open(newline="") as rows:
        last = list(csv.DictReader(rows, delimiter=";"))[-1]
    return {
        "successful": int(last["SuccessfulCall(C)"]),
        "failed": int(last["FailedCall(C)"]),
        "retransmissions": int(last["Retransmissions(C)"]),
    }


def _machine() -> dict[str, Any]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_average_1m": round(os.getloadavg()[0], 2),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("pjsua2", "sipivr"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "from source"
    return found
