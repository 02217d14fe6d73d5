"""From our settings to pjsua2's configuration objects; each deviation from its defaults has its reason."""

from __future__ import annotations

from typing import Final

import pjsua2 as pj

from sipivr.ua.settings import Listener, Transport, UASettings, Usage

_SAMPLE_RATE_HZ: Final = 8000


def endpoint_config(settings: UASettings, writer: pj.LogWriter) -> tuple[pj.EpConfig, int]:
    """The endpoint's configuration, and how many calls it will carry."""
    config = pj.EpConfig()
    # The default is what the library was built for (PJSUA_MAX_CALLS); more than that it silently cuts.
    limit = int(config.uaConfig.maxCalls)
    if settings.max_calls:
        limit = min(limit, settings.max_calls)
    config.uaConfig.maxCalls = limit
    config.uaConfig.userAgent = settings.user_agent
    # Everything happens on our thread, inside libHandleEvents.
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.uaConfig.mwiUnsolicitedEnabled = False
    # At 16 kHz, the default, each leg would build a resampler: 1 MB and 3 ms.
    config.medConfig.clockRate = _SAMPLE_RATE_HZ
    config.medConfig.sndClockRate = _SAMPLE_RATE_HZ
    config.medConfig.hasIoqueue = False
    config.medConfig.threadCnt = 0
    config.medConfig.noVad = True
    config.logConfig.level = settings.log_level
    config.logConfig.consoleLevel = settings.log_level
    config.logConfig.msgLogging = 0
    config.logConfig.decor = 0
    config.logConfig.writer = writer
    return config, limit


def transport_type(listener: Listener) -> int:
    """The pjsip transport type, the IPv6 variety for IPv6 addresses."""
    four = {
        Transport.UDP: (pj.PJSIP_TRANSPORT_UDP, pj.PJSIP_TRANSPORT_UDP6),
        Transport.TCP: (pj.PJSIP_TRANSPORT_TCP, pj.PJSIP_TRANSPORT_TCP6),
        Transport.TLS: (pj.PJSIP_TRANSPORT_TLS, pj.PJSIP_TRANSPORT_TLS6),
    }[listener.transport]
    return int(four[":" in listener.address])


def transport_config(listener: Listener) -> pj.TransportConfig:
    """One listener."""
    config = pj.TransportConfig()
    config.boundAddress = listener.address
    config.port = listener.port
    config.publicAddress = listener.public_address
    if listener.tls is not None:
        tls = config.tlsConfig
        tls.certFile = listener.tls.certificate
        tls.privKeyFile = listener.tls.private_key
        tls.CaListFile = listener.tls.ca_file
        tls.verifyServer = True
        tls.verifyClient = listener.tls.verify_client
        tls.requireClientCert = listener.tls.verify_client
        # NIST SP 800-52r2: TLS 1.2 and 1.3 only.
        tls.proto = pj.PJ_SSL_SOCK_PROTO_TLS1_2 | pj.PJ_SSL_SOCK_PROTO_TLS1_3
    return config


def account_config(settings: UASettings) -> pj.AccountConfig:
    """The account of all calls: no registration, no media of its own."""
    config = pj.AccountConfig()
    config.idUri = "sip:sipivr@localhost"
    config.regConfig.registerOnAdd = False
    # RTP is the media workers': loop transports open no socket.
    config.mediaConfig.useLoopMedTp = True
    # With SRTP off pjsua answers an RTP/SAVP offer 488 before we see it; keys and verdict are ours.
    config.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_OPTIONAL
    config.mediaConfig.srtpSecureSignaling = 0
    # No re-INVITE of pjsua's own to "lock" one codec.
    config.mediaConfig.lockCodecEnabled = False
    config.natConfig.iceEnabled = False
    config.natConfig.contactRewriteUse = 0
    config.natConfig.viaRewriteUse = 0
    config.natConfig.sdpNatRewriteUse = 0
    config.natConfig.sipOutboundUse = 0
    config.presConfig.publishEnabled = False
    config.mwiConfig.enabled = False
    calls = config.callConfig
    calls.prackUse = {
        Usage.OFF: pj.PJSUA_100REL_NOT_USED,
        Usage.OPTIONAL: pj.PJSUA_100REL_OPTIONAL,
        Usage.REQUIRED: pj.PJSUA_100REL_MANDATORY,
    }[settings.reliable_provisional]
    calls.timerUse = {
        Usage.OFF: pj.PJSUA_SIP_TIMER_INACTIVE,
        Usage.OPTIONAL: pj.PJSUA_SIP_TIMER_OPTIONAL,
        Usage.REQUIRED: pj.PJSUA_SIP_TIMER_REQUIRED,
    }[settings.session_timers]
    calls.timerSessExpiresSec = settings.session_expires_s
    calls.timerMinSESec = settings.session_min_se_s
    return config
