"""One SIP dialog of ours over pjsua2.

States of a leg, its owner is the loop thread:

- *arriving*: inside pjsua's handling of the INVITE. pjsua settles its SDP before it sends 100, so the
  handler is asked now (`incoming` → `prepare`); everything else asked of the leg is put off until the
  callback is over.
- *open*: anything may be asked.
- *ended*: DISCONNECTED has been handled. The pj object is dropped outside of callbacks and only while no
  other call uses its slot: its destructor clears the slot's owner and hangs it up, whoever that is by then.

Our descriptions go through `onCallSdpCreated` and pjmedia's negotiator, which keeps their address, port and
formats; `check_sent` compares what went out, because pjsua falls back to a description of its own when it
cannot read ours. Every callback runs inside `callbacks._guarded`, once: a fault ends this
call and is counted.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pjsua2 as pj

from sipivr.ua.callbacks import add_headers, only_audio, parsed, received
from sipivr.ua.info import info_key
from sipivr.ua.message import SIPMessage
from sipivr.ua.negotiation import MediaTerms, Negotiator
from sipivr.ua.ports import LegTimes, SIPCause, UAError
from sipivr.ua.sdp import Direction, SDPError, SessionDescription
from sipivr.ua.sdp_parser import parse_sdp

if TYPE_CHECKING:
    from sipivr.ua.callbacks import PJCall
    from sipivr.ua.endpoint import PJUserAgent

logger = logging.getLogger(__name__)

_Q850: Final = re.compile(r"Q\.850\s*;(?:.*;)?\s*cause\s*=\s*([0-9]{1,3})", re.IGNORECASE)
_MAX_REASON: Final = 128
#: From here on a response is no success (RFC 3261 §21).
_REFUSED: Final = 300
_REOFFER_ATTEMPTS: Final = 4
#: What pjmedia settles on for a call that will be refused: the discard port (RFC 863). It is never sent.
_PLACEHOLDER: Final = ("127.0.0.1", 9)


class PJLeg:
    """`sipivr.ua.ports.SIPLeg` over pjsua2."""

    def __init__(self, agent: PJUserAgent, number: int, *, outgoing: bool) -> None:
        self._agent = agent
        self._number = number
        self._outgoing = outgoing
        self._times = LegTimes(invite=time.time())
        self._cause: SIPCause | None = None
        self.call: PJCall | None = None
        self.slot = -1
        self.sip_call_id = ""
        self.dialled: tuple[str, ...] = ()
        self._arriving: list[Callable[[], None]] | None = None
        self._offered = False
        self._first_offer: SessionDescription | None = None
        self._first_answer: SessionDescription | None = None
        self._next: SessionDescription | None = None
        self._origin: tuple[int, str] | None = None
        self._session_version = 0
        self._expected: tuple[bytes, ...] = ()
        self._heard: bytes | None = None
        self._confirmed = False
        self._ended_by_us = False
        self._failing: tuple[int, str] | None = None
        self._own_offer: SessionDescription | None = None
        self._reoffers = 0

    # What `SIPLeg` promises.

    @property
    def number(self) -> int:
        """See `SIPLeg`."""
        return self._number

    @property
    def call_id(self) -> str:
        """See `SIPLeg`."""
        return self.sip_call_id

    @property
    def outgoing(self) -> bool:
        """See `SIPLeg`."""
        return self._outgoing

    @property
    def times(self) -> LegTimes:
        """See `SIPLeg`."""
        return self._times

    @property
    def cause(self) -> SIPCause | None:
        """See `SIPLeg`."""
        return self._cause

    def prepare(self, sdp: SessionDescription) -> None:
        """See `SIPLeg`."""
        self._first_answer = sdp

    def ring(self, sdp: SessionDescription | None = None, status: int = 180) -> None:
        """See `SIPLeg`."""
        if self._times.ringing is None:
            self._times.ringing = time.time()
        self._settle(sdp)
        # pjsip negotiates early only in 183 (and 182, 189): a 180 with SDP would leave its own view behind.
        self._do(lambda call: self._respond(call, 183 if sdp and status == 180 else status, sdp, {}))

    def answer(self, sdp: SessionDescription) -> None:
        """See `SIPLeg`."""
        self._settle(sdp)
        self._do(lambda call: self._respond(call, 200, sdp, {}))

    def refuse(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """See `SIPLeg`."""
        self._ended_by_us = True
        self._do(lambda call: self._respond(call, status, None, headers or {}))

    def hang_up(self, status: int = 0, headers: Mapping[str, str] | None = None) -> None:
        """See `SIPLeg`."""
        self._ended_by_us = True
        self._do(lambda call: self._hang_up(call, status, headers or {}))

    def send_info(self, content_type: str, body: str) -> None:
        """See `SIPLeg`."""

        def send(call: PJCall) -> None:
            prm = pj.CallSendRequestParam()
            prm.method = "INFO"
            prm.txOption.contentType = content_type
            prm.txOption.msgBody = body
            call.sendRequest(prm)

        self._do(send)

    def reinvite(self, sdp: SessionDescription) -> None:
        """See `SIPLeg`."""
        self._reoffers = 0
        self._do(lambda call: self._reinvite(call, sdp))

    def refer(self, target: str) -> None:
        """See `SIPLeg`."""
        self._do(lambda call: call.xfer(target, pj.CallOpParam()))

    # For the agent.

    def arrive(self, handle: Callable[[], None]) -> None:
        """Runs the handler inside the callback; what it asks for is done right after."""
        self._arriving = []
        try:
            handle()
        finally:
            put_off, self._arriving = self._arriving, None
            for action in put_off:
                self._agent.post(action)

    def offered(self, offered: bool, offer: SessionDescription | None) -> None:
        """Whether the INVITE had SDP, and what we could read of it."""
        self._offered = offered
        self._first_offer = offer

    def abandon(self) -> None:
        """`makeCall` failed: nobody hears of this leg."""
        self._cause = SIPCause(500, "", by_remote=False)

    def fail(self, error: BaseException, status: int = 500) -> None:
        """A fault of ours: reported, counted, and the end of this call only."""
        self._agent.fault(self, error)
        self._agent.post(lambda: self.hang_up(status))

    def check_sent(self, raw: bytes) -> None:
        """Whether a message with SDP that went out carries ours; pjsua falls back to its own silently."""
        if self._expected and b"\r\nm=audio " in raw and not all(part in raw for part in self._expected):
            self._agent.foreign_sdp += 1
            self._expected = ()
            self.fail(RuntimeError("pjsua sent a session description of its own"))

    def finish(self, status: int, reason: str, *, by_remote: bool, q850: int | None = None) -> None:
        """Marks the end; the agent tells the handler."""
        if self._cause is None:
            self._times.ended = time.time()
            printable = "".join(c for c in reason if c.isprintable())[:_MAX_REASON]
            self._cause = SIPCause(status, printable, by_remote and not self._ended_by_us, q850)
            self._agent.leg_ended(self)

    # Callbacks, all inside `_guarded`.

    def local_sdp(self, answering: bool) -> SessionDescription | None:
        """Our description for pjmedia, None to let pjmedia's own stand (it is never sent then)."""
        if answering and not self._outgoing and not self._confirmed and self._first_answer is None:
            return self._placeholder()
        sdp, self._next = self._next, None
        if sdp is None and answering and not self._confirmed:
            sdp = self._first_answer
        if sdp is None and not answering:
            sdp = self._agent.handler.reoffered(self, None)
        if sdp is None:
            raise RuntimeError("pjsua asked for a session description that nobody has made")
        stamped = self._stamped(sdp)
        self._expect(stamped)
        return stamped

    def on_offer(self, body: str) -> int:
        """A re-INVITE's or UPDATE's offer (or one in the 200 to our empty INVITE): the status for it."""
        try:
            self._next = self._agent.handler.reoffered(self, parse_sdp(body))
        except SDPError as error:
            return error.status
        self._heard = None
        return 200

    def on_refer(self, target: str) -> None:
        """REFER, refused already."""
        self._agent.post(lambda: self._agent.handler.referred(self, target[:512]))

    def on_transfer_status(self, status: int, *, final: bool) -> None:
        """What a NOTIFY says of the call that our REFER asked for."""
        self._tell(lambda: self._agent.handler.transferred(self, status, final=final))

    def on_state(self, call: PJCall, event: pj.SipEvent) -> None:
        """The invite session's state changed."""
        info = call.getInfo()
        state = info.state
        if not self.sip_call_id:
            self.sip_call_id = info.callIdString
        if state == pj.PJSIP_INV_STATE_CONFIRMED and not self._outgoing and not self._confirmed:
            message = received(event)
            self._confirmed = True
            self._times.answered = time.time()
            answer = self._new_sdp(message) if not self._offered else None
            self._tell(lambda: self._agent.handler.answered(self, answer))
        elif state == pj.PJSIP_INV_STATE_DISCONNECTED:
            message = received(event)
            status, reason = info.lastStatusCode, info.lastReason
            reasons = message.all("reason") if message else ()
            q850 = next((int(m[1]) for value in reasons if (m := _Q850.search(value))), None)
            if self._failing:
                status, reason = self._failing
            # A CANCEL shows only as our own 487 to the INVITE (RFC 3261 §9.2).
            cancelled = status == 487 and not self._outgoing
            self.finish(status, reason, by_remote=message is not None or cancelled, q850=q850)

    def on_transaction(self, event: pj.SipEvent) -> None:
        """A transaction inside the dialog moved: responses to what we sent, requests such as INFO."""
        moved = event.body.tsxState
        transaction = moved.tsx
        if moved.type != pj.PJSIP_EVENT_RX_MSG:
            return
        method = transaction.method
        if transaction.role == pj.PJSIP_ROLE_UAC:
            if method == "INVITE" and (message := parsed(moved.src.rdata.wholeMsg)) and message.status:
                self._on_invite_response(message)
            elif method == "REFER" and transaction.statusCode >= _REFUSED:
                self.on_transfer_status(transaction.statusCode, final=True)
        elif method == "INFO" and transaction.state == pj.PJSIP_TSX_STATE_TRYING:
            message = parsed(moved.src.rdata.wholeMsg)
            if message and (pressed := info_key(message)):
                key, duration_ms = pressed
                self._tell(lambda: self._agent.handler.info_key(self, key, duration_ms))

    def _on_invite_response(self, message: SIPMessage) -> None:
        status = message.status
        if self._confirmed:
            self._on_reinvite_response(message)
        elif 101 <= status < 200:
            if self._times.ringing is None:
                self._times.ringing = time.time()
            early = self._new_sdp(message)
            if early is not None:
                self._tell(lambda: self._agent.handler.early_media(self, status, early))
            else:
                self._tell(lambda: self._agent.handler.ringing(self, status))
        elif 200 <= status < 300:
            self._confirmed = True
            self._times.answered = time.time()
            answer = self._new_sdp(message) if self._own_offer is not None else None
            self._own_offer = None
            self._tell(lambda: self._agent.handler.answered(self, answer))

    def _on_reinvite_response(self, message: SIPMessage) -> None:
        status, offer = message.status, self._own_offer
        if offer is None or status < 200 or status in {401, 407}:
            return
        self._own_offer = None
        if status < 300:
            self._heard = None
            if (answer := self._new_sdp(message)) is not None:
                self._tell(lambda: self._agent.handler.reanswered(self, answer))
        elif status == 491 and self._reoffers < _REOFFER_ATTEMPTS:
            # RFC 3261 §14.1: who owns the Call-ID waits 2.1–4 s, the other 0–2 s.
            wait_s = random.uniform(2.1, 4.0) if self._outgoing else random.uniform(0.0, 2.0)
            self._agent.later(wait_s, lambda: self._do(lambda call: self._reinvite(call, offer)))
        else:
            self._tell(lambda: self._agent.handler.reoffer_failed(self, status))

    # Requests and responses.

    def _do(self, action: Callable[[PJCall], None]) -> None:
        if self._arriving is not None:
            self._arriving.append(lambda: self._do(action))
            return
        call = self.call
        if call is None or self._cause is not None:
            return
        try:
            action(call)
        except pj.Error as error:
            # The peer may have ended the call a moment ago: nothing to do, DISCONNECTED is on its way.
            logger.info("leg %d: pjsua refused: %s", self._number, error.info())

    def _respond(
        self, call: PJCall, status: int, sdp: SessionDescription | None, headers: Mapping[str, str]
    ) -> None:
        delayed = sdp is not None and not self._offered
        prm = pj.CallOpParam(delayed)
        prm.statusCode = status
        add_headers(prm.txOption, headers)
        if delayed:
            only_audio(prm)
            self._next = self._own_offer = sdp
        call.answer(prm)

    def _settle(self, sdp: SessionDescription | None) -> None:
        """Within `incoming`, the first description named is the one; after it, another is our own mistake.

        Raises:
            UAError: pjsua has settled on another answer, or on none.
        """
        if sdp is None or not self._offered:
            return
        if self._first_answer is None and self._arriving is not None:
            self._first_answer = sdp
        if self._first_answer is None or self._first_answer.media != sdp.media:
            raise UAError(500, "The answer to an INVITE must be given to `prepare` within `incoming`.")

    def _hang_up(self, call: PJCall, status: int, headers: Mapping[str, str]) -> None:
        prm = pj.CallOpParam()
        if status and not self._confirmed and not self._outgoing:
            prm.statusCode = status
        elif status and self._confirmed:
            # In a BYE pjsip turns the status into a Reason header (RFC 3326).
            self._failing = (status, "")
        add_headers(prm.txOption, headers)
        call.hangup(prm)

    def _reinvite(self, call: PJCall, sdp: SessionDescription) -> None:
        self._reoffers += 1
        self._next = self._own_offer = sdp
        prm = pj.CallOpParam(True)
        only_audio(prm)
        call.reinvite(prm)

    def invite(self, call: PJCall, target: str, sdp: SessionDescription | None, prm: pj.CallOpParam) -> None:
        """Sends the first INVITE of a dialled leg.

        Raises:
            pj.Error: pjsua would not.
        """
        self._next = self._own_offer = sdp
        only_audio(prm)
        if sdp is None:
            prm.opt.flag |= pj.PJSUA_CALL_NO_SDP_OFFER
        call.makeCall(target, prm)

    # Descriptions.

    def _placeholder(self) -> SessionDescription | None:
        if self._first_offer is None:
            return None
        try:
            return Negotiator(*_PLACEHOLDER, MediaTerms()).answer(self._first_offer, Direction.INACTIVE)[0]
        except SDPError:
            return None

    def _stamped(self, sdp: SessionDescription) -> SessionDescription:
        """One o= identity for the whole dialog, its version rising (RFC 3264 §8)."""
        if self._origin is None:
            self._origin = (sdp.session_id, sdp.origin_address)
            self._session_version = sdp.session_version
        else:
            self._session_version = max(self._session_version + 1, sdp.session_version)
        session_id, address = self._origin
        return replace(
            sdp, session_id=session_id, session_version=self._session_version, origin_address=address
        )

    def _expect(self, sdp: SessionDescription) -> None:
        audio = sdp.audio
        if audio is None:
            self._expected = ()
        else:
            address = audio.address or sdp.origin_address
            self._expected = (f"\r\nm=audio {audio.port} ".encode(), f" {address}\r\n".encode())

    def _new_sdp(self, message: SIPMessage | None) -> SessionDescription | None:
        """The message's SDP, None when it has none or repeats what was told already (RFC 3261 §13.2.1)."""
        body = message.sdp if message else None
        if body is None or body == self._heard:
            return None
        self._heard = body
        try:
            return parse_sdp(body)
        except SDPError as error:
            self.fail(error, error.status)
            return None

    def _tell(self, event: Callable[[], Any]) -> None:
        # No check for the end: what is posted before `ended` is told before it.
        def tell() -> None:
            try:
                event()
            except Exception as error:
                self.fail(error)

        self._agent.post(tell)
