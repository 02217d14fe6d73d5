"""The machine: limits of the kernel, ports, disk, programs that the tests use."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sipivr import hardening
from sipivr.config import Paths, Settings, host_and_port
from sipivr.doctor.finding import Finding, fail, ok, warn
from sipivr.supervision.house import worker_count
from sipivr.supervision.serve import check_ports
from sipivr.supervision.sockets import (
    RECEIVE_BUFFER_BYTES,
    PortTakenError,
    bind_workers,
    close_all,
    receive_buffer_limit,
)

#: Descriptors besides those that grow with ports and calls.
_BASE_FILES: Final = 256
_DISK_BYTES: Final = 1 << 30
_TEST_PROGRAMS: Final = (
    ("sipp", "SIPp", "sip-tester", "the end-to-end tests' independent peer"),
    ("chromium", "Chromium", "chromium", "the console's tests"),
)


def findings(settings: Settings, paths: Paths) -> Iterator[Finding]:
    """Every check of this group."""
    yield open_files(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield udp_buffers(receive_buffer_limit(), may_force=os.geteuid() == 0)
    yield locked_memory()
    yield from ports(settings, paths)
    yield disk(paths)
    for program, name, package, purpose in _TEST_PROGRAMS:
        found = shutil.which(program)
        if found:
            yield ok(name, found)
        else:
            yield warn(name, "not installed", f"Only for {purpose}: apt-get install {package}")


def open_files(settings: Settings, hard_limit: int) -> Finding:
    """The hard limit of open files; the supervisor raises the soft one to it."""
    needed = (
        _BASE_FILES + 4 * settings.sip.max_calls + 2 * worker_count(settings) * settings.rtp.ports_per_worker
    )
    if hard_limit == resource.RLIM_INFINITY or hard_limit >= needed:
        return ok("open files", f"{hard_limit} allowed, {needed} needed at most")
    return fail(
        "open files",
        f"{hard_limit} allowed, {needed} needed with [sip] max_calls = {settings.sip.max_calls}",
        f"systemd: LimitNOFILE={needed}; shell: raise `nofile` in /etc/security/limits.conf.",
    )


def udp_buffers(limit: int, *, may_force: bool) -> Finding:
    """How many packets wait while a worker is busy; a root supervisor may exceed the limit."""
    if limit >= RECEIVE_BUFFER_BYTES:
        return ok("UDP buffers", f"net.core.rmem_max is {limit}")
    mend = (
        f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}; to keep it, write "
        f"`net.core.rmem_max = {RECEIVE_BUFFER_BYTES}` to /etc/sysctl.d/60-sipivr.conf."
    )
    if may_force:
        return warn("UDP buffers", f"net.core.rmem_max is {limit}; as root the switch takes more", mend)
    return warn("UDP buffers", f"net.core.rmem_max is {limit}: bursts of RTP may be lost", mend)


def locked_memory() -> Finding:
    """Whether card memory can be kept out of swap."""
    if hardening.may_lock_pages():
        return ok("locked memory", "pages can be kept out of swap")
    swap = Path("/proc/swaps").read_text("utf-8").splitlines()[1:]
    if not swap:
        return ok("locked memory", "not permitted, but this machine has no swap")
    return warn(
        "locked memory",
        "pages may be swapped out",
        "systemd: LimitMEMLOCK=infinity, or turn swap off: swapoff -a.",
    )


def ports(settings: Settings, paths: Paths) -> Iterator[Finding]:
    """Whether every listener can have its port; a switch that runs already has them."""
    if is_running(paths.control_socket):
        yield ok("ports", "the switch is running and has them")
        return
    try:
        check_ports(settings)
        close_all(bind_workers(settings.rtp, worker_count(settings)))
    except PortTakenError as error:
        yield fail(
            "ports", str(error), "Stop the other process (`ss -lntup` names it) or change the setting."
        )
        return
    api, _ = host_and_port(settings.api.listen)
    yield ok("ports", f"SIP, RTP and the API on {api} are free")


def is_running(control_socket: Path) -> bool:
    """Whether somebody listens on the control socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(control_socket))
        except OSError:
            return False
    return True


def disk(paths: Paths) -> Finding:
    """Room for records; a full disk stops payments before they are charged."""
    existing = next(one for one in (paths.state_dir, *paths.state_dir.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / (1 << 30):.1f} GiB free at {existing}"
    if free >= _DISK_BYTES:
        return ok("disk", text)
    return warn("disk", text, "Free some space: without room for records no payment is begun.")
