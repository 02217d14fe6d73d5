"""Frames on a stream: four bytes of length, big-endian, and one MessagePack document.

The length is looked at before anything is read or kept for it, so a peer cannot make us hold more than
`MAX_FRAME_BYTES`; the stream's own buffer is bounded by `STREAM_LIMIT`.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final

import msgspec

from sipivr.control.messages import MAX_FRAME_BYTES, FromAPI, FromSwitch

#: Of asyncio's reader: it stops reading from the socket at twice this.
STREAM_LIMIT: Final = 65_536

_LENGTH: Final = struct.Struct(">I")
_encoder: Final = msgspec.msgpack.Encoder()
_from_api: Final = msgspec.msgpack.Decoder(FromAPI)
_from_switch: Final = msgspec.msgpack.Decoder(FromSwitch)


class FrameError(Exception):
    """The peer's bytes are no frame, or no message: there is no way to go on with this connection."""


class _Numbered(msgspec.Struct):
    """All that is read of a request that we do not understand."""

    id: int


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next document, None when the peer has closed between two frames.

    Raises:
        FrameError: too long, or the stream ends within a frame.
    """
    try:
        head = await reader.readexactly(_LENGTH.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise FrameError("the stream ends within a frame") from None
        return None
    (length,) = _LENGTH.unpack(head)
    if not 0 < length <= MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes; 1 to {MAX_FRAME_BYTES} are allowed")
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise FrameError("the stream ends within a frame") from None


def encode(message: FromAPI | FromSwitch) -> bytes:
    """A message with its length before it.

    Raises:
        FrameError: our message is too long.
    """
    document = _encoder.encode(message)
    if len(document) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(document)} bytes; {MAX_FRAME_BYTES} are allowed")
    return _LENGTH.pack(len(document)) + document


def decode_from_api(document: bytes) -> FromAPI:
    """What `api` has sent. Raises FrameError."""
    try:
        message: FromAPI = _from_api.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # msgspec's text may quote what was sent; the kind of error is enough.
        raise FrameError("not a message") from None
    return message


def decode_from_switch(document: bytes) -> FromSwitch:
    """What `sipivr` has sent. Raises FrameError."""
    try:
        message: FromSwitch = _from_switch.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError("not a message") from None
    return message


def request_number(document: bytes) -> int | None:
    """The number of a request that is otherwise not understood (a command of a newer `api`), None if it
    has none.
    """
    try:
        return msgspec.msgpack.decode(document, type=_Numbered).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
