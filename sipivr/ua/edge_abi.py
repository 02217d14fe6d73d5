"""The ctypes mirror of ``docker/pjsua2/edge.h``. Only ``sipivr.ua.edge_binding`` uses it.

A structure, signature or meaning that changes here changes there too, and ``EDGE_ABI`` goes up in both.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from ipaddress import IPv4Address, IPv6Address
from typing import Final

EDGE_ABI: Final = 1

DROP: Final = 0
PASS: Final = 1
SENT: Final = 1


class CRequest(ctypes.Structure):
    """``struct sipivr_edge_request``."""

    _fields_ = (
        ("transport", ctypes.c_char_p),
        ("source_address", ctypes.c_char_p),
        ("local_address", ctypes.c_char_p),
        ("source_port", ctypes.c_int32),
        ("local_port", ctypes.c_int32),
        ("raw", ctypes.c_void_p),
        ("raw_length", ctypes.c_size_t),
        ("method", ctypes.c_void_p),
        ("method_length", ctypes.c_size_t),
        ("call_id", ctypes.c_void_p),
        ("call_id_length", ctypes.c_size_t),
        ("header_count", ctypes.c_uint32),
        ("crypto_count", ctypes.c_uint32),
        ("has_replaces", ctypes.c_int32),
        ("has_to_tag", ctypes.c_int32),
        ("in_dialog", ctypes.c_int32),
        ("in_transaction", ctypes.c_int32),
        ("retry_after_s", ctypes.c_uint32),
    )


class CMessage(ctypes.Structure):
    """``struct sipivr_edge_message``."""

    _fields_ = (
        ("direction", ctypes.c_int32),
        ("transport", ctypes.c_char_p),
        ("remote_address", ctypes.c_char_p),
        ("local_address", ctypes.c_char_p),
        ("remote_port", ctypes.c_int32),
        ("local_port", ctypes.c_int32),
        ("raw", ctypes.c_void_p),
        ("raw_length", ctypes.c_size_t),
        ("call_id", ctypes.c_void_p),
        ("call_id_length", ctypes.c_size_t),
    )


class CCounters(ctypes.Structure):
    """``struct sipivr_edge_counters``."""

    _fields_ = (
        ("passed", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64),
        ("answered", ctypes.c_uint64),
        ("unanswered", ctypes.c_uint64),
        ("failed_closed", ctypes.c_uint64),
        ("unparsed", ctypes.c_uint64),
        ("keepalives", ctypes.c_uint64),
        ("foreign", ctypes.c_uint64),
        ("responses", ctypes.c_uint64),
        ("sent", ctypes.c_uint64),
    )


class CNetwork(ctypes.Structure):
    """``struct sipivr_edge_network``."""

    _fields_ = (("address", ctypes.c_uint8 * 16), ("prefix", ctypes.c_uint8))


class CLookup(ctypes.Structure):
    """``struct sipivr_edge_lookup``."""

    _fields_ = (
        ("id", ctypes.c_uint64),
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_size_t),
        ("port", ctypes.c_int32),
        ("is_secure", ctypes.c_int32),
        ("transport", ctypes.c_char_p),
    )


class CAddress(ctypes.Structure):
    """``struct sipivr_edge_address``."""

    _fields_ = (
        ("address", ctypes.c_uint8 * 16),
        ("port", ctypes.c_uint16),
        ("transport", ctypes.c_uint8),
    )


class CBuild(ctypes.Structure):
    """``struct sipivr_edge_build``."""

    _fields_ = (
        ("pj_version", ctypes.c_char_p),
        ("ioqueue", ctypes.c_char_p),
        ("max_calls", ctypes.c_int32),
        ("max_packet_bytes", ctypes.c_int32),
        ("max_handles", ctypes.c_int32),
        ("max_log_level", ctypes.c_int32),
        ("has_tls", ctypes.c_int32),
        ("has_ipv6", ctypes.c_int32),
        ("has_asserts", ctypes.c_int32),
    )


LOOKUP_CB = ctypes.CFUNCTYPE(None, ctypes.POINTER(CLookup))
REQUEST_CB = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(CRequest))
TAP_CB = ctypes.CFUNCTYPE(None, ctypes.POINTER(CMessage))


def bytes_at(pointer: int | None, length: int) -> bytes:
    """Copy ``length`` bytes out of C's memory."""
    return ctypes.string_at(pointer, length) if pointer and length > 0 else b""


def text_at(pointer: int | None, length: int) -> str:
    """Copy text of the wire out of C's memory; bytes that are no UTF-8 come out escaped."""
    # SIP is UTF-8 (RFC 3261 §7.1), hostile SIP is not; nothing may fail here.
    return bytes_at(pointer, length).decode("utf-8", "backslashreplace")


def text(value: bytes | None) -> str:
    """Read a NUL-terminated string of PJSIP's own making: a transport's name, a numeric address."""
    return value.decode("ascii", "backslashreplace") if value else ""


def mapped(address: IPv4Address | IPv6Address) -> bytes:
    """Write an address as 16 bytes, IPv4 as an IPv4-mapped one (RFC 4291 §2.5.5.2)."""
    return b"\x00" * 10 + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed


def load() -> ctypes.CDLL | None:
    """Open the pjsua2 that Python imports; None when there is none, or none with ``edge.c`` in it."""
    if importlib.util.find_spec("_pjsua2") is None:
        return None
    # The very file that Python imported: dlopen then returns the same object, with the same endpoint in it.
    library = ctypes.CDLL(str(importlib.import_module("_pjsua2").__file__))
    if not hasattr(library, "sipivr_edge_abi"):
        return None
    library.sipivr_edge_abi.restype = ctypes.c_int
    return library


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the signatures, so that a wrong argument fails in Python and not in C."""
    library.sipivr_edge_set_request_callback.argtypes = [REQUEST_CB]
    library.sipivr_edge_set_request_callback.restype = None
    library.sipivr_edge_set_tap.argtypes = [TAP_CB]
    library.sipivr_edge_set_tap.restype = None
    library.sipivr_edge_set_sources.argtypes = [ctypes.POINTER(CNetwork), ctypes.c_size_t]
    library.sipivr_edge_set_lookup.argtypes = [LOOKUP_CB]
    library.sipivr_edge_resolved.argtypes = [ctypes.c_uint64, ctypes.POINTER(CAddress), ctypes.c_size_t]
    library.sipivr_edge_get_build.argtypes = [ctypes.POINTER(CBuild)]
    library.sipivr_edge_get_build.restype = None
    library.sipivr_edge_get_counters.argtypes = [ctypes.POINTER(CCounters)]
    library.sipivr_edge_get_counters.restype = None
