"""What `api` may do to running calls, and what it is told about this node (`control.commands.CallControl`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from sipivr.calls.inline import CaptureRefused, InlineCall
from sipivr.calls.outgoing import DialOrder, DialRefused
from sipivr.calls.services import Services
from sipivr.calls.switchboard import Switchboard
from sipivr.control.commands import Result
from sipivr.control.failed import Failed
from sipivr.control.messages import AnyCommand, CreatePaymentSession, ErrorCode
from sipivr.store.records import Actor, PaymentSession
from sipivr.ua.ports import UserAgent

#: What the workers threw away or could not do, by the names of `WorkerStatistics`.
DROPPED: Final = (
    "packets_unknown",
    "packets_foreign",
    "packets_refused",
    "packets_late",
    "reports_refused",
    "reports_foreign",
    "socket_overflows",
    "sends_failed",
    "events_dropped",
    "faults",
)


class LiveCalls:
    """The running calls of this node, for the control socket."""

    def __init__(self, board: Switchboard, services: Services, agent: UserAgent) -> None:
        self._board = board
        self._services = services
        self._agent = agent

    async def hang_up(self, call: str) -> bool:
        """See `CallControl`."""
        found = self._board.call(call)
        if found is not None:
            found.hang_up()
        return found is not None

    async def start_capture(self, call: str, session: str) -> str | None:
        """See `LiveControl`."""
        found = self._inline(call)
        if found is None:
            return "the call has ended, or no operator is on it"
        try:
            await found.capture(session)
        except CaptureRefused as refusal:
            return str(refusal)
        return None

    async def dial(
        self, number: str, to: str, session: str | None, *, ring_s: int, merchant: str, by: Actor
    ) -> str:
        """See `LiveControl`."""
        order = DialOrder(number=number, to=to, session=session, ring_s=ring_s, merchant=merchant, by=by)
        try:
            return (await self._board.dial(order)).id
        except DialRefused as refusal:
            self._services.count("dials_refused")
            code = ErrorCode.INVALID if refusal.invalid else ErrorCode.CONFLICT
            raise Failed(code, str(refusal)) from None

    async def take_back(self, call: str) -> bool:
        """See `LiveControl`."""
        found = self._inline(call)
        return found is not None and found.take_back()

    async def reset_field(self, call: str) -> bool:
        """See `LiveControl`."""
        found = self._inline(call)
        return found is not None and found.reset_field()

    def operator_of(self, call: str) -> tuple[str | None, str | None]:
        """See `LiveControl`."""
        found = self._inline(call)
        return (found.operator_target, found.claimed_by) if found is not None else (None, None)

    def claim(self, call: str, principal: str) -> bool:
        """See `LiveControl`."""
        found = self._inline(call)
        if found is None or found.claimed_by not in (None, principal):
            return False
        found.claimed_by = principal
        return True

    def _inline(self, call: str) -> InlineCall | None:
        found = self._board.call(call)
        return found if isinstance(found, InlineCall) else None

    async def session_canceled(self, session: str, call: str) -> None:
        """See `CallControl`."""
        found = self._board.call_of_session(session)
        if found is not None and found.id == call:
            found.cancel_session()

    def status(self) -> Mapping[str, str | int | bool]:
        """See `CallControl`. Counters carry their name; `media_…` sums over this node's workers."""
        services = self._services
        agent = self._agent.statistics()
        workers = services.media.workers
        figures = [worker.statistics for worker in workers if worker.statistics is not None]
        writer = services.writer.statistics()
        status: dict[str, str | int | bool] = {
            "node": services.node,
            "draining": self._board.draining,
            "calls": len(self._board.calls),
            "settling": self._board.settling,
            "lines_taken": self._board.lines_taken,
            "charges_running": services.charging.running,
            "charge_listeners": services.charging.listeners,
            "background": services.under_way,
            "records_late": services.records_late,
            "progress_shown": len(services.progress),
            "ladders": len(services.ladders),
            "workers": len(workers),
            "legs": sum(worker.ports.legs for worker in workers),
            "media_commands_pending": sum(worker.pending for worker in workers),
            "prompts": sum(worker.prompts for worker in workers),
            "prompt_uses": sum(worker.prompt_uses for worker in workers),
            "sip_calls": agent.calls,
            "sip_calls_buried": agent.buried,
            "sip_call_limit": agent.call_limit,
            "ua_faults": agent.faults,
            "ladder_messages_dropped": services.ladders.dropped,
            "store_queued": writer.queued,
            "store_failures": writer.failures,
            "media_ticks": sum(figure.ticks for figure in figures),
            "media_late_ticks": sum(figure.late_ticks for figure in figures),
            "media_packets_received": sum(figure.packets_received for figure in figures),
            "media_packets_sent": sum(figure.packets_sent for figure in figures),
            **{f"media_{name}": sum(getattr(figure, name) for figure in figures) for name in DROPPED},
            "media_sources_latched": sum(figure.sources_latched for figure in figures),
            "media_sources_moved": sum(figure.sources_moved for figure in figures),
            "media_reports_sent": sum(figure.reports_sent for figure in figures),
            "media_reports_received": sum(figure.reports_received for figure in figures),
            "media_tick_cost_us": int(max((figure.tick_cost_us for figure in figures), default=0)),
        }
        if len(figures) == len(workers):  # else one of them has not said yet what it holds
            status |= {
                "media_legs": sum(figure.legs for figure in figures),
                "media_prompts": sum(figure.prompts for figure in figures),
                "media_playing": sum(figure.playing for figure in figures),
                "media_connections": sum(figure.connections for figure in figures),
            }
        status |= {f"media_{name}": value for name, value in asdict(services.media.figures).items()}
        status["media_workers_overloaded"] = services.media.overloaded
        status |= _loop_figures()
        status |= services.rtp.entries()
        status |= {f"count_{name}": value for name, value in services.counters.items()}
        status |= {f"count_charge_{name}": value for name, value in services.charging.outcomes.items()}
        status |= {f"count_edge_{name}": value for name, value in agent.edge.items()}
        return status


def _loop_figures() -> dict[str, int]:
    """What the process holds: asyncio's tasks and timers, open files."""
    loop = asyncio.get_running_loop()
    # asyncio shows its timers to nobody else; one that is gone from there is missing here, no more.
    timers = getattr(loop, "_scheduled", ())
    return {
        "tasks": len(asyncio.all_tasks(loop)),
        "timers": sum(not timer.cancelled() for timer in timers),
        "open_files": sum(1 for _ in Path("/proc/self/fd").iterdir())
        if Path("/proc/self/fd").exists()
        else 0,
    }


def voiced(
    handle: Callable[[AnyCommand], Awaitable[Result]],
    services: Services,
    session: Callable[[str], PaymentSession | None],
) -> Callable[[AnyCommand], Awaitable[Result]]:
    """`handle`, and what a new session will say is spoken into the cache behind its back: no call waits."""

    async def carried_out(command: AnyCommand) -> Result:
        result = await handle(command)
        if isinstance(command, CreatePaymentSession):
            created = session(str(result["session"]))
            shop = services.directory.shop(created.shop) if created else None
            if created is not None and shop is not None:
                name = shop.name_spoken.get(created.language) or shop.name
                services.background(
                    services.prompts.prepare_session(created.language, name, created.amount, created.currency)
                )
        return result

    return carried_out
