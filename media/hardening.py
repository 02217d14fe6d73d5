"""What a media process asks of the kernel and the C library.

Its memory to itself: no dump, no core, no swap (invariant 2 of the design). Its time: priority, and a heap that is
not given back and fetched anew in the middle of a tick. Its sockets: buffers and DSCP.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
#: As much as glibc allows (`DEFAULT_MMAP_THRESHOLD_MAX`).
_LARGEST_IN_HEAP: Final = 32 << 20
_NEVER_TRIMMED: Final = 1 << 30
_PRIORITY: Final = -15
_REALTIME_PRIORITY: Final = 10
#: Expedited forwarding (RFC 3246).
DSCP_EF: Final = 46
_SO_MEMINFO: Final = 55
_DROPS: Final = 8
_BUFFER_BYTES: Final = 4 << 20
_SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32


def harden_process() -> list[str]:
    """Makes this process undumpable, coreless and unswappable as far as it may.

    Returns:
        What was not permitted, as sentences for the log.
    """
    missing: list[str] = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "prctl") or library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        missing.append("the process stays dumpable")
    # With a limit on locked memory, MCL_FUTURE would make later allocations fail instead.
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        missing.append("memory is not locked: RLIMIT_MEMLOCK is limited")
    elif library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        missing.append("memory is not locked: mlockall is not permitted")
    return missing


def keep_heap(size: int) -> bool:
    """Keeps memory that has been freed, and fetches some in advance.

    glibc maps large blocks one by one and unmaps them when they are freed, until it has learnt better: a tick's
    intermediate arrays would be made of new pages each time for the first ticks at each number of legs.

    Args:
        size: bytes to fetch.

    Returns:
        Whether the C library can be told; another than glibc goes its own way.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    told = library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP) and library.mallopt(
        _M_TRIM_THRESHOLD, _NEVER_TRIMMED
    )
    bytearray(min(size, _LARGEST_IN_HEAP // 2))  # is overwritten with zeros, page by page, and freed
    return bool(told)


def name_process(name: str) -> None:
    """What `ps` and `top` call this process, at most 15 bytes: a spare becomes a worker in place."""
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "prctl"):
        library.prctl(_PR_SET_NAME, name.encode()[:15] + b"\0", 0, 0, 0)


def raise_priority() -> bool:
    """Puts this process before ordinary ones, where permitted: real-time, or at least a better nice value.

    A nice value alone counts only among the processes of one session where the kernel groups by session.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_REALTIME_PRIORITY))
    except OSError:
        pass
    else:
        return True
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    except OSError:
        return False
    return True


def tune_socket(sock: socket.socket, dscp: int = DSCP_EF) -> bool:
    """The DSCP of what is sent (RFC 2474), 4 MiB of buffer each way, as far as permitted; non-blocking.

    Returns:
        Whether the DSCP could be set.
    """
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        if not _try_set(sock, socket.SOL_SOCKET, forced, _BUFFER_BYTES):
            _try_set(sock, socket.SOL_SOCKET, plain, _BUFFER_BYTES)
    return mark_socket(sock, dscp)


def mark_socket(sock: socket.socket, dscp: int = DSCP_EF) -> bool:
    """The same without the buffers, for a socket that carries little (RTCP)."""
    sock.setblocking(False)
    level, option = (
        (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
        if sock.family == socket.AF_INET6
        else (socket.IPPROTO_IP, socket.IP_TOS)
    )
    return _try_set(sock, level, option, dscp << 2)  # the lower two bits are ECN's (RFC 3168)


def _try_set(sock: socket.socket, level: int, option: int, value: int) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def overflows(sock: socket.socket) -> int:
    """Packets that the kernel dropped because the socket's buffer was full.

    The counter that `SO_RXQ_OVFL` would hang on every packet, read once instead.
    """
    try:
        answer = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
    except OSError:
        return 0
    values = struct.unpack(f"{len(answer) // 4}I", answer)
    return int(values[_DROPS]) if len(values) > _DROPS else 0
