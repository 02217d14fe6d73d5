"""The one thread that writes `switch.db` (invariant 7).

Signatures::

    StoreWriter(path, keys, *, queue_limit=1024, on_committed: Callable[[int], None] | None = None)
    await writer.start()           # migrates, then accepts work
    await writer.run(function, *args, **kwargs) -> T   # function(store, *args, **kwargs); returns once committed
    await writer.stop()            # drains what was accepted
    writer.statistics() -> WriterStatistics(jobs, failures, queued, run_p50_ms, run_p99_ms, wait_p99_ms, max_ms)

`run` raises `StoreBusy` (queue full), `StoreUnavailable` (database cannot be written; nothing was committed) or
whatever the function raised (`errors.Refused`). `on_committed` is called in the loop's thread with the newest
event sequence.
"""

from __future__ import annotations
