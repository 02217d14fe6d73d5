"""One warm process that stands in for whichever of several children dies.

The spare inherits every descriptor that those children have, so that nothing but one line of text has to reach
it at the moment that counts. (Passing the sockets then, by SCM_RIGHTS, would take several messages, 253
descriptors each, that a process at its limit of open files cuts short.) Whoever takes it is served at once;
another spare starts a second later, when the one that left has done its first work.
"""

from __future__ import annotations

import json
import logging
from asyncio.subprocess import Process
from collections.abc import Sequence

from sipivr.supervision.child import BACKOFF_S, Child, ChildSpec, StartFailedError

logger = logging.getLogger(__name__)


class Standby:
    """See the module.

    Args:
        spec: of the spare; it must be `fed`.
        served: children that it can become.
    """

    def __init__(
        self,
        spec: ChildSpec,
        served: Sequence[ChildSpec],
        *,
        backoff_s: tuple[float, ...] = BACKOFF_S,
    ) -> None:
        self.child = Child(spec, backoff_s=backoff_s)
        self._served = tuple(served)

    async def start(self) -> None:
        """Starts the first spare; without one, children start cold."""
        try:
            await self.child.start()
        except StartFailedError as error:
            if not self.child.stopping:
                logger.error("%s Those that die start cold.", error)

    async def take(self, spec: ChildSpec) -> Process | None:
        """See `StandIn`. A spare that is still warming up is no slower than a fresh start: it is taken."""
        process = self.child.release()
        if process is None or process.stdin is None:
            return None
        others = {fd for one in self._served for fd in one.descriptors} - set(spec.descriptors)
        order = json.dumps({"argv": spec.argv, "close": sorted(others)})
        try:
            process.stdin.write(order.encode() + b"\n")
            await process.stdin.drain()
            process.stdin.close()
        except OSError:  # it died this moment
            return None
        logger.info("%s is taken over by a spare", spec.name, extra={"pid": process.pid})
        return process
