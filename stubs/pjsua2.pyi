# What sipivr/ua uses of pjsua2 2.17's SWIG module; enumerators are plain integers there.
from typing import Any

PJMEDIA_SRTP_OPTIONAL: int
PJSIP_EVENT_RX_MSG: int
PJSIP_EVENT_TSX_STATE: int
PJSIP_INV_STATE_CONFIRMED: int
PJSIP_INV_STATE_DISCONNECTED: int
PJSIP_ROLE_UAC: int
PJSIP_SC_DECLINE: int
PJSIP_TRANSPORT_TCP: int
PJSIP_TRANSPORT_TCP6: int
PJSIP_TRANSPORT_TLS: int
PJSIP_TRANSPORT_TLS6: int
PJSIP_TRANSPORT_UDP: int
PJSIP_TRANSPORT_UDP6: int
PJSIP_TSX_STATE_TRYING: int
PJSUA_100REL_MANDATORY: int
PJSUA_100REL_NOT_USED: int
PJSUA_100REL_OPTIONAL: int
PJSUA_CALL_NO_SDP_OFFER: int
PJSUA_DESTROY_NO_NETWORK: int
PJSUA_INVALID_ID: int
PJSUA_SIP_TIMER_INACTIVE: int
PJSUA_SIP_TIMER_OPTIONAL: int
PJSUA_SIP_TIMER_REQUIRED: int
PJ_SSL_SOCK_PROTO_TLS1_2: int
PJ_SSL_SOCK_PROTO_TLS1_3: int

class Error(Exception):
    status: int
    title: str
    reason: str
    def info(self, multi_line: bool = False) -> str: ...

class LogEntry:
    level: int
    msg: str

class LogWriter:
    def __init__(self) -> None: ...
    def write(self, entry: LogEntry) -> None: ...

class UaConfig:
    maxCalls: int
    threadCnt: int
    mainThreadOnly: bool
    userAgent: str
    mwiUnsolicitedEnabled: bool

class MediaConfig:
    clockRate: int
    sndClockRate: int
    hasIoqueue: bool
    threadCnt: int
    noVad: bool

class LogConfig:
    level: int
    consoleLevel: int
    msgLogging: int
    decor: int
    writer: LogWriter

class EpConfig:
    uaConfig: UaConfig
    medConfig: MediaConfig
    logConfig: LogConfig

class TlsConfig:
    certFile: str
    privKeyFile: str
    CaListFile: str
    verifyServer: bool
    verifyClient: bool
    requireClientCert: bool
    proto: int

class TransportConfig:
    boundAddress: str
    port: int
    publicAddress: str
    tlsConfig: TlsConfig

class TransportInfo:
    localAddress: str

class CodecInfo:
    codecId: str

class AudDevManager:
    def setNoDev(self) -> Any: ...

class SipRxData:
    wholeMsg: str
    srcAddress: str

class OnRejectedIncomingCallParam:
    statusCode: int
    reason: str
    rdata: SipRxData

class OnIncomingCallParam:
    callId: int
    rdata: SipRxData

class Endpoint:
    def __init__(self) -> None: ...
    def libCreate(self) -> None: ...
    def libInit(self, config: EpConfig) -> None: ...
    def libStart(self) -> None: ...
    def libDestroy(self, flags: int = 0) -> None: ...
    def libHandleEvents(self, msec_timeout: int) -> int: ...
    def libGetSipIoqueueHandle(self) -> int: ...
    def transportCreate(self, kind: int, config: TransportConfig) -> int: ...
    def transportGetInfo(self, number: int) -> TransportInfo: ...
    def transportClose(self, number: int) -> None: ...
    def audDevManager(self) -> AudDevManager: ...
    def codecEnum2(self) -> list[CodecInfo]: ...
    def codecSetPriority(self, codec_id: str, priority: int) -> None: ...

class AccountRegConfig:
    registerOnAdd: bool

class AccountMediaConfig:
    useLoopMedTp: bool
    srtpUse: int
    srtpSecureSignaling: int
    lockCodecEnabled: bool

class AccountNatConfig:
    iceEnabled: bool
    contactRewriteUse: int
    viaRewriteUse: int
    sdpNatRewriteUse: int
    sipOutboundUse: int

class AccountPresConfig:
    publishEnabled: bool

class AccountMwiConfig:
    enabled: bool

class AccountCallConfig:
    prackUse: int
    timerUse: int
    timerSessExpiresSec: int
    timerMinSESec: int

class AccountConfig:
    idUri: str
    regConfig: AccountRegConfig
    mediaConfig: AccountMediaConfig
    natConfig: AccountNatConfig
    presConfig: AccountPresConfig
    mwiConfig: AccountMwiConfig
    callConfig: AccountCallConfig

class Account:
    def __init__(self) -> None: ...
    def create(self, config: AccountConfig) -> None: ...

class SipHeader:
    hName: str
    hValue: str

class SipHeaderVector:
    def append(self, header: SipHeader) -> None: ...

class SipTxOption:
    localUri: str
    headers: SipHeaderVector
    contentType: str
    msgBody: str

class CallSetting:
    flag: int
    audioCount: int
    videoCount: int
    textCount: int
    customCallId: str

class CallOpParam:
    opt: CallSetting
    statusCode: int
    txOption: SipTxOption
    def __init__(self, use_default_call_setting: bool = False) -> None: ...

class CallSendRequestParam:
    method: str
    txOption: SipTxOption

class CallInfo:
    state: int
    lastStatusCode: int
    lastReason: str
    callIdString: str

class SipTransaction:
    role: int
    method: str
    state: int
    statusCode: int

class TsxStateEventSrc:
    rdata: SipRxData

class TsxStateEvent:
    src: TsxStateEventSrc
    tsx: SipTransaction
    type: int

class RxMsgEvent:
    rdata: SipRxData

class SipEventBody:
    tsxState: TsxStateEvent
    rxMsg: RxMsgEvent

class SipEvent:
    type: int
    body: SipEventBody

class SdpSession:
    wholeSdp: str

class OnCallStateParam:
    e: SipEvent

class OnCallTsxStateParam:
    e: SipEvent

class OnCallSdpCreatedParam:
    sdp: SdpSession
    remSdp: SdpSession

class OnCallRxOfferParam:
    offer: SdpSession
    statusCode: int

class OnCallTransferRequestParam:
    dstUri: str
    statusCode: int

class OnCallTransferStatusParam:
    statusCode: int
    reason: str
    finalNotify: bool
    cont: bool

class OnCallReplaceRequestParam:
    statusCode: int

class Call:
    def __init__(self, account: Account, call_id: int = -1) -> None: ...
    def getInfo(self) -> CallInfo: ...
    def getId(self) -> int: ...
    def makeCall(self, target: str, prm: CallOpParam) -> None: ...
    def answer(self, prm: CallOpParam) -> None: ...
    def hangup(self, prm: CallOpParam) -> None: ...
    def reinvite(self, prm: CallOpParam) -> None: ...
    def xfer(self, dest: str, prm: CallOpParam) -> None: ...
    def sendRequest(self, prm: CallSendRequestParam) -> None: ...
