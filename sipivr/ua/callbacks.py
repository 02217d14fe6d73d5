"""pjsua2's callbacks of one call, each guarded once, and what is read from or put into its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import pjsua2 as pj

from sipivr.ua.message import SIPMessage, SIPMessageError, parse_message

if TYPE_CHECKING:
    from sipivr.ua.leg import PJLeg

_P = ParamSpec("_P")


def _guarded(
    callback: Callable[Concatenate[PJCall, _P], None],
) -> Callable[Concatenate[PJCall, _P], None]:
    """SWIG prints and swallows what a callback raises: this is the one place where it is caught instead."""

    def run(self: PJCall, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        leg = self.leg
        if leg is None:
            return
        try:
            callback(self, *args, **kwargs)
        except Exception as error:
            leg.fail(error)

    return run


class PJCall(pj.Call):
    """pjsua2's side of a leg: callbacks only."""

    def __init__(self, leg: PJLeg, account: pj.Account, call_id: int) -> None:
        pj.Call.__init__(self, account, call_id)
        self.leg: PJLeg | None = leg

    @_guarded
    def onCallState(self, prm: pj.OnCallStateParam) -> None:  # noqa: N802 - pjsua2's name
        """See pjsua2."""
        assert self.leg is not None
        self.leg.on_state(self, prm.e)

    @_guarded
    def onCallTsxState(self, prm: pj.OnCallTsxStateParam) -> None:  # noqa: N802
        """See pjsua2."""
        assert self.leg is not None
        self.leg.on_transaction(prm.e)

    @_guarded
    def onCallSdpCreated(self, prm: pj.OnCallSdpCreatedParam) -> None:  # noqa: N802
        """See pjsua2."""
        assert self.leg is not None
        if (ours := self.leg.local_sdp(bool(prm.remSdp.wholeSdp))) is not None:
            prm.sdp.wholeSdp = ours.render()

    @_guarded
    def onCallRxOffer(self, prm: pj.OnCallRxOfferParam) -> None:  # noqa: N802
        """See pjsua2."""
        assert self.leg is not None
        prm.statusCode = self.leg.on_offer(prm.offer.wholeSdp)

    @_guarded
    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:  # noqa: N802
        """Refuses: pjsua would place the call itself, around every rule of ours."""
        assert self.leg is not None
        prm.statusCode = pj.PJSIP_SC_DECLINE
        self.leg.on_refer(prm.dstUri)

    @_guarded
    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:  # noqa: N802
        """See pjsua2."""
        assert self.leg is not None
        self.leg.on_transfer_status(prm.statusCode, final=prm.finalNotify)

    @_guarded
    def onCallReplaceRequest(self, prm: pj.OnCallReplaceRequestParam) -> None:  # noqa: N802
        """Refuses by the status alone: pjsua2 2.17 sends freed memory when a reason is set."""
        prm.statusCode = pj.PJSIP_SC_DECLINE


def only_audio(prm: pj.CallOpParam) -> None:
    """One audio stream: 2.17 would offer T.140 text as well."""
    prm.opt.audioCount = 1
    prm.opt.videoCount = 0
    prm.opt.textCount = 0


def add_headers(option: pj.SipTxOption, headers: Mapping[str, str]) -> None:
    """Headers for a request or response of ours."""
    for name, value in headers.items():
        header = pj.SipHeader()
        header.hName = name
        header.hValue = value
        option.headers.append(header)


def parsed(whole: str) -> SIPMessage | None:
    """A message as pjsua2 hands it over; SWIG escapes bytes that are no UTF-8."""
    try:
        return parse_message(whole.encode("utf-8", "surrogateescape"))
    except SIPMessageError:
        return None


def received(event: pj.SipEvent) -> SIPMessage | None:
    """The message that caused an event, None for timers and our own doing."""
    if event.type == pj.PJSIP_EVENT_RX_MSG:
        return parsed(event.body.rxMsg.rdata.wholeMsg)
    if event.type == pj.PJSIP_EVENT_TSX_STATE and event.body.tsxState.type == pj.PJSIP_EVENT_RX_MSG:
        return parsed(event.body.tsxState.src.rdata.wholeMsg)
    return None
