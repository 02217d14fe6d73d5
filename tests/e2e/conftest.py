"""One switch and one telephone for all tests; the scenarios that they need are played at once.

A call takes as long as people take, so scenarios run side by side: a test names its scenario by
`@plays(scenario)` and asks for `result`. All scenarios of the tests that were collected start together. What
would disturb the others (a killed process, a locked database) is played on a switch of its own:
`Stage.another`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from bench.harness import Switch, running_switch
from bench.telephone.desks import Desks
from bench.telephone.phone import PhoneCall
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM, BridgeMask, Mode, NumberUse, TrunkSRTP
from sipivr.ua.negotiation import MediaTerms

#: What customers' numbers begin with whom the switch calls.
CALLED_PREFIX: Final = "+8190"
#: Where a PBX calls from that is asked by REFER to take its transfers back, and the number that it calls.
REFER_ADDRESS: Final = "127.0.0.6"
REFER_NUMBER: Final = "0312345760"
#: Telephones of the merchant's that sessions name as their caller.
NAMED_CALLERS: Final = ("+81312340777", "+81312340778")
#: Numbers that customers are called from: use, and the desk that an operator is rung at.
OUTBOUND_NUMBERS: Final = {
    "alone": (NumberUse.SELF_SERVICE, None),
    "inline": (NumberUse.INLINE, "desk-out"),
    "return": (NumberUse.TRANSFER_IN, "desk-out-return"),
}

#: Numbers besides the seeded one.
BUSY_NUMBER = "0312345001"  # five lines, for the sixth call
OFF_NUMBER = "0312345002"
ROOMY_NUMBER = "0312345003"  # lines for all scenarios at once
OTHERS_NUMBER = "0312345004"  # of another merchant
#: Inline numbers by name: the desks that they ring, in this order, and other rules. A desk of its own for each keeps
#: scenarios apart.
INLINE_NUMBERS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "paid": (("desk-paid",), {}),
    "star": (("desk-star",), {}),
    "next": (("busy-1", "silent-1", "desk-next"), {}),
    "nobody": (("busy-2", "busy-3"), {}),
    "silent": (("silent-2",), {}),
    "early": (("early-1",), {}),
    "back": (("desk-back",), {}),
    "leaves": (("desk-leaves",), {}),
    "alone": (("desk-alone",), {}),
    "held": (("desk-held",), {"operator_heard": False}),
    "menu": (("desk-menu",), {"relay_keys": True}),
    "worker": (("desk-worker",), {}),
    "keys": (("desk-keys",), {}),
    "cancel": (("silent-cancel",), {}),
    "masks": (("desk-masks",), {}),
    "declined": (("desk-declined",), {}),
    "timeout": (("desk-timeout",), {}),
    "left": (("desk-left",), {}),
    "unheld": (("desk-unheld",), {}),
    "baresip": ((), {}),
    "ngn": (("desk-ngn",), {}),
    # These are pointed to where they go when their scenario plays.
    **{
        f"sipp_{name}": ((), {})
        for name in (
            "hold",
            "inactive",
            "address",
            "delayed",
            "timer",
            "overlap",
            "refer",
            "pbx",
            "plain",
            "prack",
            "require",
        )
    },
}
#: Where a carrier with the preset `jp-ngn` calls from.
NGN_ADDRESS = "127.0.0.5"
#: A number for transfers of a PBX that can only transfer blindly.
RETURN_NUMBER = "0312345099"
RETURN_E164 = "+81312345099"
#: A shop whose gateway nobody listens at (RFC 863's port).
SHOP_WITHOUT_GATEWAY = "shop_unreachable"
#: Where peers call from whose trunk may, or must, do SRTP.
SRTP_ADDRESS = "127.0.0.2"
SRTP_ONLY_ADDRESS = "127.0.0.3"
#: Telephones share one loop and all processes two cores: more at once than these, and audio comes late.
SCENARIOS_AT_ONCE = 20
OWN_SWITCHES_AT_ONCE = 3
#: All have been played within this.
SCENARIOS_S = 900
#: The tests ask more often than a merchant's system would.
ENVIRONMENT = {"SIPIVR_API__REQUESTS_PER_MINUTE": "100000"}


@dataclass
class Stage:
    """What scenarios play on."""

    switch: Switch
    phone: Desks
    directory: Path
    foreign_number: str = ""
    tasks: dict[Callable[..., Any], asyncio.Task[Any]] = field(default_factory=dict)
    own_switches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OWN_SWITCHES_AT_ONCE))

    @property
    def database(self) -> Path:
        """`switch.db`."""
        return self.switch.directory / "var" / "switch" / "switch.db"

    @contextlib.asynccontextmanager
    async def another(
        self, name: str, *, environment: Mapping[str, str] | None = None, plant: Plant | None = None
    ) -> AsyncIterator[Stage]:
        """A stage with a switch of its own, and the same telephone."""
        async with self.own_switches, self._another(name, environment, plant) as own:
            yield own

    @contextlib.asynccontextmanager
    async def _another(
        self, name: str, environment: Mapping[str, str] | None, plant: Plant | None
    ) -> AsyncIterator[Stage]:
        directory = self.directory / name
        directory.mkdir()
        planted = Planted()

        def both(store: WritableStore) -> None:
            planted(store)
            if plant is not None:
                plant(store)

        async with running_switch(
            directory, environment={**ENVIRONMENT, **(environment or {})}, plant=both
        ) as switch:
            try:
                yield Stage(switch, self.phone, directory, planted.foreign_number)
            except BaseException:
                print(switch.log_tail(80))
                raise

    async def dial(
        self, number: str = ROOMY_NUMBER, caller: str | None = None, terms: MediaTerms | None = None
    ) -> PhoneCall:
        return await self.phone.dial(
            self.switch.uri(number), caller=caller or self.switch.caller, terms=terms
        )

    async def call_up(self, number: str = ROOMY_NUMBER, terms: MediaTerms | None = None) -> PhoneCall:
        call = await self.dial(number, terms=terms)
        await call.answered(20)
        return call

    def inline(self, name: str) -> str:
        """What a customer dials for a row of `INLINE_NUMBERS`."""
        return f"0312345{100 + list(INLINE_NUMBERS).index(name)}"

    async def session(self, **fields: Any) -> dict[str, Any]:
        return await self.switch.create_session(number="num_roomy", **fields)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """A query of `switch.db`: to wait for something. What tests assert they ask of the API."""
        with contextlib.closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as reader:
            return reader.execute(sql, parameters).fetchall()

    async def until(self, sql: str, *parameters: Any, timeout_s: float = 30) -> tuple[Any, ...]:
        """Waits for a query's first row."""
        async with asyncio.timeout(timeout_s):
            while not (found := self.rows(sql, *parameters)):
                await asyncio.sleep(0.15)
        return found[0]

    def change(self, sql: str, *parameters: Any) -> None:
        """Makes in `switch.db` what would take minutes to come about."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=10)) as writer, writer:
            writer.execute(sql, parameters)

    async def outcome(self, scenario: Callable[..., Any]) -> Any:
        """What became of another scenario; it is played if no test of this run asked for it."""
        if scenario not in self.tasks:
            self.tasks[scenario] = asyncio.ensure_future(scenario(self))
        return await asyncio.shield(self.tasks[scenario])

    async def capture_open(self, call: PhoneCall) -> None:
        """Waits until keys of this call are card data."""
        await self.until(
            "SELECT 1 FROM leg l JOIN call c ON c.id = l.call WHERE l.sip_call_id = ? AND c.status = 'capturing'",
            call.sip.call_id,
        )

    def status_of(self, sip_call_id: str) -> str:
        """The status of a call now."""
        ((status,),) = self.rows(
            "SELECT c.status FROM leg l JOIN call c ON c.id = l.call WHERE l.sip_call_id = ?", sip_call_id
        )
        return str(status)

    async def find_call(
        self, sip_call_id: str, *, timeout_s: float = 20, figures: bool = False
    ) -> dict[str, Any]:
        """The record of a call, once it has ended; with the `figures` of its RTP, which a worker says at the end."""
        (found,) = await self.until(
            "SELECT c.id FROM leg l JOIN call c ON c.id = l.call"
            " WHERE l.sip_call_id = ? AND c.ended_at IS NOT NULL AND (l.rtp <> '{}' OR NOT ?)",
            sip_call_id,
            figures,
            timeout_s=timeout_s,
        )
        return await self.switch.get(f"/v1/calls/{found}")

    async def session_now(self, session: dict[str, Any]) -> dict[str, Any]:
        return await self.switch.get(f"/v1/payment_sessions/{session['id']}")

    async def payment_of(self, session: dict[str, Any]) -> dict[str, Any]:
        now = await self.session_now(session)
        return await self.switch.get(f"/v1/payments/{now['payment']}")

    async def payments_of(self, session: dict[str, Any]) -> list[dict[str, Any]]:
        """All attempts of a session, the oldest first."""
        page = await self.switch.get(f"/v1/payments?session={session['id']}&limit=100")
        return list(reversed(page["data"]))

    async def charges(self, session: dict[str, Any]) -> list[dict[str, Any]]:
        """What the simulator's own ledger shows as charged for the session's order."""
        return [
            trade
            for trade in await self.switch.ledger()
            if trade["order_id"].startswith(session["order_id"]) and trade["status"] != "UNPROCESSED"
        ]

    async def fault(self, session: dict[str, Any], **described: Any) -> None:
        """A fault of the gateway for the first attempt of this session alone."""
        described["order_id"] = session["order_id"]
        async with httpx.AsyncClient(base_url=self.switch.simulator_url, timeout=30) as client:
            (await client.post("/_simulator/faults", json=described)).raise_for_status()


Scenario = Callable[[Stage], Awaitable[Any]]
Plant = Callable[[WritableStore], None]


def plays(scenario: Scenario) -> pytest.MarkDecorator:
    """The test asks what became of this scenario."""
    return pytest.mark.plays.with_args(scenario)


def desks_planted(planted: Plant, desks: Desks, *, prefix: str = "") -> Plant:
    """`planted`, and a number for each row of `INLINE_NUMBERS`, whose calls go to these desks.

    `prefix`: of the desks' names, so that switches do not ring each other's.
    """

    def plant(store: WritableStore) -> None:
        planted(store)
        write.put_trunk(
            store,
            SYSTEM,
            id="trk_desks",
            name="Desks",
            networks=("127.0.0.1",),
            merchant="mer_demo",
            options={"proxy": f"127.0.0.1:{desks.port}"},
            active=True,
        )
        write.put_trunk(
            store,
            SYSTEM,
            id="trk_ngn",
            name="NGN",
            networks=(NGN_ADDRESS,),
            trust_identity=True,
            options={"preset": "jp-ngn"},
        )
        write.put_trunk(
            store,
            SYSTEM,
            id="trk_mobile",
            name="Carrier",
            networks=("127.0.0.1",),
            options={
                "proxy": f"127.0.0.1:{desks.port}",
                "outbound_prefixes": [CALLED_PREFIX],
                "dialled_rewrite": [{"prefix": "+81", "to": "0"}],
            },
        )
        write.put_trunk(
            store,
            SYSTEM,
            id="trk_refer",
            name="PBX",
            networks=(REFER_ADDRESS,),
            merchant="mer_demo",
            options={"proxy": f"127.0.0.1:{desks.port}", "return_by_refer": True},
        )
        write.put_number(
            store,
            SYSTEM,
            id="num_refer",
            merchant="mer_demo",
            e164="+81312345760",
            language="en",
            rules={"destinations": [{"target": desks.uri(prefix + "desk-refer"), "trunk": "trk_refer"}]},
        )
        for caller in NAMED_CALLERS:
            write.allow_caller(store, SYSTEM, merchant="mer_demo", e164=caller)
        for place, (name, (use, desk)) in enumerate(OUTBOUND_NUMBERS.items()):
            desk_of = {"target": desks.uri(prefix + desk), "trunk": "trk_desks"} if desk else None
            write.put_number(
                store,
                SYSTEM,
                id=f"num_out_{name}",
                merchant="mer_demo",
                e164=f"+8131234{5700 + place}",
                use=use,
                line_limit=5,
                language="en",
                rules={"outbound_trunk": "trk_mobile"} | ({"destinations": [desk_of]} if desk_of else {}),
            )
        for place, (name, (rung, rules)) in enumerate(INLINE_NUMBERS.items()):
            destinations = [
                {
                    "target": desks.uri(prefix + desk),
                    "trunk": "trk_desks",
                    "ring_s": 3 if desk.startswith("silent") else 20,
                }
                for desk in rung
            ]
            write.put_number(
                store,
                SYSTEM,
                id=f"num_{name}",
                merchant="mer_demo",
                e164=f"+81312345{100 + place}",
                use=NumberUse.INLINE,
                line_limit=20,
                language="en",
                rules={"destinations": destinations, **rules},
            )

        write.put_number(
            store,
            SYSTEM,
            id="num_return",
            merchant="mer_demo",
            e164=RETURN_E164,
            rules={
                "destinations": [
                    {"target": desks.uri(desk), "trunk": "trk_desks"}
                    for desk in ("{extension}", "desk-return")
                ]
            },
        )

    return plant


class Planted:
    """The rows that scenarios need besides the seeded ones."""

    def __init__(self) -> None:
        self.foreign_number = ""

    def __call__(self, store: WritableStore) -> None:
        merchant = "mer_demo"
        # Scenarios compare what they hear with the prompts, sample by sample; `test_decoy` has the other mask.
        write.set_masks(store, SYSTEM, merchant=merchant, bridge_mask=BridgeMask.COMFORT_NOISE)
        write.put_number(store, SYSTEM, id="num_busy", merchant=merchant, e164="+81312345001", line_limit=5)
        write.put_number(store, SYSTEM, id="num_off", merchant=merchant, e164="+81312345002", active=False)
        write.put_number(
            store, SYSTEM, id="num_roomy", merchant=merchant, e164="+81312345003", line_limit=200
        )
        write.put_connector(
            store, SYSTEM, id="con_unreachable", kind="gmo", url="http://127.0.0.1:9", mode=Mode.TEST
        )
        write.put_shop(
            store,
            SYSTEM,
            id=SHOP_WITHOUT_GATEWAY,
            merchant=merchant,
            name="Unreachable",
            gateway_shop_id="tshop00000009",
            gateway_password="nobody reads it",
            connector="con_unreachable",
        )
        for address, policy in ((SRTP_ADDRESS, TrunkSRTP.OPTIONAL), (SRTP_ONLY_ADDRESS, TrunkSRTP.REQUIRED)):
            write.put_trunk(
                store,
                SYSTEM,
                id=f"trk_srtp_{policy.value}",
                name=f"SRTP {policy.value}",
                networks=(address,),
                merchant=merchant,
                srtp=policy,
            )
        write.put_merchant(store, SYSTEM, id="mer_other", name="Other", mode=Mode.TEST)
        write.put_number(store, SYSTEM, id="num_other", merchant="mer_other", e164="+81312345004")
        write.put_shop(
            store,
            SYSTEM,
            id="shop_other",
            merchant="mer_other",
            name="Other",
            gateway_shop_id="tshop00000002",
            gateway_password="nobody reads it",
            connector="con_sandbox",
        )
        foreign = write.create_payment_session(
            store, SYSTEM, merchant="mer_other", shop="shop_other", order_id="foreign", amount=1
        )
        self.foreign_number = foreign.identification_number or ""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("stage")
    own = directory / "switch"
    own.mkdir()
    planted = Planted()
    async with (
        Desks(lines=120) as phone,
        running_switch(own, environment=ENVIRONMENT, plant=desks_planted(planted, phone)) as switch,
    ):
        made = Stage(switch, phone, directory, planted.foreign_number)
        marks = [marker for item in request.session.items for marker in item.iter_markers("plays")]
        gate = asyncio.Semaphore(SCENARIOS_AT_ONCE)

        async def in_turn(scenario: Scenario) -> Any:
            async with gate:
                return await scenario(made)

        wanted = dict.fromkeys(marker.args[0] for marker in marks)
        made.tasks = {scenario: asyncio.create_task(in_turn(scenario)) for scenario in wanted}
        if made.tasks:
            # A test may search or compute for seconds; nobody's audio stands still meanwhile.
            _, endless = await asyncio.wait(made.tasks.values(), timeout=SCENARIOS_S)
            for task in endless:
                task.cancel()
        yield made
        for task in made.tasks.values():
            task.cancel()
        # A scenario may have a switch of its own to stop.
        await asyncio.gather(*made.tasks.values(), return_exceptions=True)
        assert not phone.faults


@pytest_asyncio.fixture(loop_scope="session")
async def result(request: pytest.FixtureRequest, stage: Stage) -> Any:
    marker = request.node.get_closest_marker("plays")
    try:
        return await stage.outcome(marker.args[0])
    except BaseException:
        print(stage.switch.log_tail(80))
        raise
