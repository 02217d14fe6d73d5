"""The user agent: pjsua2's endpoint, its listeners and accounts, the legs that live.

Owner: the asyncio thread on which `start` ran; pjsua2 allows one endpoint in a process. Order of life:
libCreate, libInit, the edge, listeners, libStart, accounts; `stop` undoes it backwards. RTP never touches
pjsua: loop media transports, no sound device, no media clock.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import pjsua2 as pj

from sipivr.ua import edge_binding
from sipivr.ua.callbacks import PJCall, add_headers
from sipivr.ua.edge import EdgePolicy, EdgeRefusal
from sipivr.ua.edge_adapter import EdgeAdapter, message_entry, reading_of
from sipivr.ua.edge_types import EdgeDirection, EdgeMessage
from sipivr.ua.identity import AddressURI, parse_address, read_invite
from sipivr.ua.leg import PJLeg
from sipivr.ua.loop import PJLoop, widen_receive_buffer
from sipivr.ua.message import parse_message
from sipivr.ua.pjsettings import account_config, endpoint_config, transport_config, transport_type
from sipivr.ua.ports import IncomingInvite, SIPLeg, UAError, UAHandler, UAStatistics, UserAgent
from sipivr.ua.resolve import Destination, DNSLookup, ResolveError, Resolver
from sipivr.ua.sdp import SDPError, SessionDescription
from sipivr.ua.sdp_parser import parse_sdp
from sipivr.ua.settings import Transport, UASettings

logger = logging.getLogger(__name__)

_BYE_WAIT_S: Final = 2.0
_VIA_TRANSPORT: Final = re.compile(r"SIP\s*/\s*2\.0\s*/\s*([A-Za-z]{2,8})", re.ASCII)
_URI_TRANSPORT: Final = re.compile(r";\s*transport\s*=\s*(udp|tcp|tls)\b", re.IGNORECASE)


class _LogWriter(pj.LogWriter):
    """pjsip's log into ours; at level 3 and below it holds no message bodies."""

    def write(self, entry: pj.LogEntry) -> None:
        text = "".join(c for c in entry.msg if c.isprintable())[:512].strip()
        logger.log({1: logging.ERROR, 2: logging.WARNING}.get(entry.level, logging.INFO), "pjsip: %s", text)


class _Endpoint(pj.Endpoint):
    """Callbacks of the endpoint itself."""

    def __init__(self, agent: PJUserAgent) -> None:
        pj.Endpoint.__init__(self)
        self._agent = agent

    def onRejectedIncomingCall(self, prm: pj.OnRejectedIncomingCallParam) -> None:  # noqa: N802
        """Pjsua refused an INVITE before a leg came of it: bad SDP, no codec, an extension we lack."""
        try:
            self._agent.rejected(prm.statusCode, prm.reason, prm.rdata.wholeMsg, prm.rdata.srcAddress)
        except Exception as error:
            self._agent.fault(None, error)


class _Account(pj.Account):
    """Where incoming calls appear."""

    def __init__(self, agent: PJUserAgent) -> None:
        pj.Account.__init__(self)
        self._agent = agent

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:  # noqa: N802
        """See pjsua2."""
        try:
            self._agent.arrived(self, prm.callId, prm.rdata.wholeMsg, prm.rdata.srcAddress)
        except Exception as error:
            # Without a Call object pjsua2 answers 500 by itself.
            self._agent.fault(None, error)


class PJUserAgent:
    """`sipivr.ua.ports.UserAgent` over pjsua2.

    Args:
        settings: listeners and the rest.
        handler: the call logic.
        resolver: for dialled names; by default the machine's name servers.
    """

    def __init__(self, settings: UASettings, handler: UAHandler, resolver: Resolver | None = None) -> None:
        self._settings = settings
        self.handler = handler
        self._resolver = resolver or Resolver(
            DNSLookup(settings.resolver_timeout_s), settings.resolver_timeout_s
        )
        self._policy = EdgePolicy(settings.edge)
        self._adapter: EdgeAdapter | None = None
        self._endpoint: _Endpoint | None = None
        self._log_writer: _LogWriter | None = None
        self._pump: PJLoop | None = None
        self._transports: list[tuple[str, str, int, int]] = []
        self._account: _Account | None = None
        self._legs: dict[int, PJLeg] = {}
        self._by_call_id: dict[str, PJLeg] = {}
        self._buried: dict[int, list[PJCall]] = {}
        self._next_number = 1
        self._call_limit = 0
        self._faults = 0
        self._idle = asyncio.Event()
        self.foreign_sdp = 0

    # What `UserAgent` promises.

    @property
    def edge(self) -> EdgePolicy:
        """See `UserAgent`."""
        return self._policy

    @property
    def edge_present(self) -> bool:
        """Whether the loaded pjsua2 has `edge.c`."""
        return self._adapter is not None

    @property
    def listening(self) -> Sequence[tuple[str, str, int]]:
        """See `UserAgent`."""
        return [(kind, address, port) for kind, address, port, _ in self._transports]

    async def start(self) -> None:
        """See `UserAgent`."""
        present = edge_binding.available()
        if not present:
            self._demand_loopback()
        endpoint = self._endpoint = _Endpoint(self)
        try:
            endpoint.libCreate()
            self._log_writer = _LogWriter()
            config, self._call_limit = endpoint_config(self._settings, self._log_writer)
            endpoint.libInit(config)
            if present:
                self._adapter = EdgeAdapter(
                    self._policy, self._turned_away, self._seen, self._edge_failed, self._look_up
                )
                self._adapter.start()
            for listener in self._settings.listeners:
                number = endpoint.transportCreate(transport_type(listener), transport_config(listener))
                address, _, port = endpoint.transportGetInfo(number).localAddress.rpartition(":")
                bound = (listener.transport.value, address.strip("[]"), int(port), number)
                self._transports.append(bound)
                if listener.transport is Transport.UDP:
                    widen_receive_buffer(int(port))
            endpoint.libStart()
            endpoint.audDevManager().setNoDev()
            self._only_g711(endpoint)
            account = _Account(self)
            account.create(account_config(self._settings))
            self._account = account
        except pj.Error as error:
            raise UAError(500, f"pjsua2 did not start: {error.info()}") from None
        self._pump = PJLoop(endpoint, lambda error: self.fault(None, error))
        self._pump.start()

    async def stop(self, drain_s: float = 0.0) -> None:
        """See `UserAgent`."""
        self._policy.refuse_new("draining")
        await self._until_idle(drain_s)
        for leg in list(self._legs.values()):
            leg.hang_up(503)
        await self._until_idle(_BYE_WAIT_S)
        pump, endpoint = self._pump, self._endpoint
        if pump is None or endpoint is None:
            return
        for leg in list(self._legs.values()):
            leg.finish(408, "stopped", by_remote=False)
        pump.stop()
        for slot in list(self._buried):
            self._buried[slot].clear()
        self._account = None
        for *_, number in self._transports:
            endpoint.transportClose(number)
        self._transports.clear()
        if self._adapter is not None:
            self._adapter.stop()
        endpoint.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)
        self._pump = self._endpoint = None

    async def dial(
        self,
        target: str,
        *,
        from_uri: str,
        sdp: SessionDescription | None,
        headers: Mapping[str, str] | None = None,
    ) -> SIPLeg:
        """See `UserAgent`."""
        uri = parse_address(target)
        if uri is None or uri.scheme == "tel" or any(c in target for c in "<>\r\n"):
            raise UAError(400, "The target is no sip: URI.")
        destinations = await self._resolve(uri, target)
        if self._account is None:
            raise UAError(503, "The user agent is not running.")
        if len(self._legs) >= self._call_limit:
            raise UAError(503, "Every call slot is taken.")
        leg = self._new_leg(outgoing=True)
        leg.sip_call_id = secrets.token_hex(16)
        prm = pj.CallOpParam(True)
        prm.opt.customCallId = leg.sip_call_id
        prm.txOption.localUri = from_uri
        add_headers(prm.txOption, headers or {})
        # pjsip asks for the name again and fails over among its addresses (RFC 3263 §4.3).
        leg.dialled = tuple({destination.address for destination in destinations})
        for address in leg.dialled:
            self._policy.allow_dialled(address)
        call = PJCall(leg, self._account, pj.PJSUA_INVALID_ID)
        self._adopt(leg, call)
        try:
            leg.invite(call, target, sdp, prm)
        except pj.Error as error:
            leg.abandon()
            self._forget(leg)
            raise UAError(500, f"pjsua2 would not call: {error.info()}") from None
        self._occupy(leg, call.getId())
        return leg

    def statistics(self) -> UAStatistics:
        """See `UserAgent`."""
        edge = dict(self._policy.counters)
        if self._adapter is not None:
            edge["foreign"] = self._adapter.foreign()
        buried = sum(map(len, self._buried.values()))
        return UAStatistics(len(self._legs), self._call_limit, self._faults, self.foreign_sdp, edge, buried)

    # For legs.

    def post(self, function: Callable[[], None]) -> None:
        """Runs `function` soon, outside of pj's callbacks."""
        if self._pump is not None:
            self._pump.post(function)

    def later(self, delay_s: float, function: Callable[[], None]) -> None:
        """Runs `function` after a while."""
        asyncio.get_running_loop().call_later(delay_s, function)

    def fault(self, leg: PJLeg | None, error: BaseException) -> None:
        """Counts and reports something of ours that raised."""
        self._faults += 1
        logger.error("fault on leg %s: %s", leg.number if leg else "-", type(error).__name__, exc_info=error)
        self.post(lambda: self.handler.fault(leg, error))

    def leg_ended(self, leg: PJLeg) -> None:
        """DISCONNECTED: tells the handler, then drops the pj object."""

        def tell() -> None:
            cause = leg.cause
            assert cause is not None
            try:
                self.handler.ended(leg, cause)
            finally:
                self._forget(leg)

        self.post(tell)

    # From pj's callbacks.

    def arrived(self, account: pj.Account, slot: int, whole: str, source: str) -> None:
        """An INVITE; runs inside the callback, before 100 has been sent when it carries an offer."""
        message = parse_message(whole.encode("utf-8", "surrogateescape"))
        body = message.sdp
        offer, offer_error = None, None
        try:
            offer = parse_sdp(body) if body is not None else None
        except SDPError as error:
            offer_error = error
        leg = self._new_leg(outgoing=False)
        leg.offered(body is not None, offer)
        leg.sip_call_id = message.first("call-id") or ""
        self._adopt(leg, PJCall(leg, account, slot))
        self._occupy(leg, slot)
        address, port = _split_source(source)
        via = _VIA_TRANSPORT.match(message.first("via") or "")
        invite = IncomingInvite(
            trunk=self._policy.trunk_of(address),
            reading=read_invite(message),
            offer=offer,
            offer_error=offer_error,
            source_address=address,
            source_port=port,
            transport=via[1].upper() if via else "",
        )
        try:
            leg.arrive(lambda: self.handler.incoming(leg, invite))
        except Exception as error:
            leg.fail(error)

    def rejected(self, status: int, reason: str, whole: str, source: str) -> None:
        """An INVITE that pjsua refused itself."""
        address, _ = _split_source(source)
        reading = reading_of(whole.encode("utf-8", "surrogateescape"))
        call_id = reading.call_id if reading else ""
        if call_id in self._by_call_id:
            return
        printable = "".join(c for c in reason if c.isprintable())[:64]
        trunk = self._policy.trunk_of(address)
        self._turned_away(EdgeRefusal(trunk, address, call_id, status, printable, time.time(), reading))

    def _turned_away(self, refusal: EdgeRefusal) -> None:
        self.post(lambda: self.handler.turned_away(refusal))

    def _edge_failed(self, error: BaseException) -> None:
        self.fault(None, error)

    def _seen(self, message: EdgeMessage) -> None:
        if message.direction is EdgeDirection.SENT and (leg := self._by_call_id.get(message.call_id)):
            leg.check_sent(message.raw)
        if self._settings.ladder and (entry := message_entry(message)) is not None:
            self.post(lambda: self.handler.ladder(entry))

    # Legs and their slots.

    def _new_leg(self, *, outgoing: bool) -> PJLeg:
        leg = PJLeg(self, self._next_number, outgoing=outgoing)
        self._next_number += 1
        return leg

    def _adopt(self, leg: PJLeg, call: PJCall) -> None:
        leg.call = call
        self._legs[leg.number] = leg
        self._by_call_id[leg.sip_call_id] = leg
        self._policy.set_full(len(self._legs) >= self._call_limit)

    def _occupy(self, leg: PJLeg, slot: int) -> None:
        leg.slot = slot

    def _forget(self, leg: PJLeg) -> None:
        if self._legs.pop(leg.number, None) is None:
            return
        if self._by_call_id.get(leg.sip_call_id) is leg:
            del self._by_call_id[leg.sip_call_id]
        for address in leg.dialled:
            self._policy.release_dialled(address)
        call, leg.call = leg.call, None
        if call is not None:
            call.leg = None
            self._buried.setdefault(leg.slot, []).append(call)
            del call
        live = {other.slot for other in self._legs.values()} if self._buried else set()
        # A destructor clears its slot's owner and hangs it up: only while nobody else has the slot.
        for slot in [slot for slot in self._buried if slot not in live]:
            del self._buried[slot]
        self._policy.set_full(len(self._legs) >= self._call_limit)
        if not self._legs:
            self._idle.set()

    async def _until_idle(self, wait_s: float) -> None:
        self._idle.clear()
        if self._legs and wait_s > 0:
            try:
                await asyncio.wait_for(self._idle.wait(), wait_s)
            except TimeoutError:
                logger.warning("%d legs were still up after %.1f s", len(self._legs), wait_s)

    # Listeners and accounts.

    def _demand_loopback(self) -> None:
        for listener in self._settings.listeners:
            if not ip_address(listener.address).is_loopback:
                raise UAError(500, f"Without edge.c in pjsua2, {listener.address} must not be listened on.")
        logger.warning(
            "this pjsua2 has no edge.c: only loopback listeners start, nothing guards them, and PyPI's build "
            "carries 4 calls; build the wheel with docker/pjsua2"
        )

    @staticmethod
    def _only_g711(endpoint: pj.Endpoint) -> None:
        for codec in endpoint.codecEnum2():
            wanted = codec.codecId.startswith(("PCMU/", "PCMA/"))
            endpoint.codecSetPriority(codec.codecId, 128 if wanted else 0)

    async def _resolve(self, uri: AddressURI, target: str) -> tuple[Destination, ...]:
        transport = _URI_TRANSPORT.search(target)
        try:
            found = await self._resolver.resolve(
                uri.host,
                uri.port,
                Transport(transport[1].upper()) if transport else None,
                secure=uri.scheme == "sips",
            )
        except ResolveError as error:
            raise UAError(503, str(error)) from None
        if self._adapter is None and found[0].host != found[0].address:
            raise UAError(503, "Names can be dialled only with edge.c in pjsua2.")
        return found

    async def _look_up(
        self, name: str, port: int | None, transport: str | None, secure: bool
    ) -> tuple[Destination, ...]:
        """A name that pjsip met: our own target again (from the cache), or one that a peer chose."""
        kind = Transport(transport) if transport else None
        return await self._resolver.resolve(name, port, kind, secure=secure)


def _split_source(source: str) -> tuple[str, int]:
    address, _, port = source.rpartition(":")
    return address.strip("[]"), int(port) if port.isdigit() else 0


if TYPE_CHECKING:

    def _is_a_user_agent(agent: PJUserAgent) -> UserAgent:
        return agent
