"""Temporary."""

import asyncio, struct
import msgspec
from collections.abc import Callable
from sipivr.control import messages as m

enc = msgspec.msgpack.Encoder()
decS = msgspec.msgpack.Decoder(m.FromSwitch)
decA = msgspec.msgpack.Decoder(m.FromAPI)


class ControlUnavailable(Exception):
    pass


async def recv(r, dec):
    (n,) = struct.unpack("!I", await r.readexactly(4))
    return dec.decode(await r.readexactly(n))


def frame(x):
    b = enc.encode(x)
    return struct.pack("!I", len(b)) + b


class ControlClient:
    def __init__(self, path, on_notice):
        self.path = path
        self.on_notice = on_notice
        self.w = None
        self.pending = {}
        self.n = 0

    async def connect(self):
        try:
            self.r, self.w = await asyncio.open_unix_connection(str(self.path))
        except OSError:
            raise ControlUnavailable from None
        self.task = asyncio.create_task(self.pump())

    async def pump(self):
        try:
            while True:
                x = await recv(self.r, decS)
                if isinstance(x, m.Reply):
                    f = self.pending.pop(x.id, None)
                    if f and not f.done():
                        f.set_result(x)
                else:
                    self.on_notice(x)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.w.close()
            self.w = None
            for f in self.pending.values():
                if not f.done():
                    f.set_exception(ControlUnavailable())
            self.pending.clear()

    async def subscribe(self):
        self.w.write(frame(m.Subscribe()))

    async def request(self, cmd):
        if self.w is None:
            raise ControlUnavailable
        self.n += 1
        f = self.pending[self.n] = asyncio.get_running_loop().create_future()
        self.w.write(frame(m.Request(id=self.n, command=cmd)))
        return await f

    async def close(self):
        if self.w:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
