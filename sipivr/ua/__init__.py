"""SIP by pjsua2, for signalling only: RTP belongs to `media`, decisions belong to `sipivr.calls`.

=================  ==========================================================================
`ports`            what `sipivr.calls` is written against: `SIPLeg`, `UserAgent`, `UAHandler`
`sdp`              typed SDP and the offer/answer rules (`Negotiator`, one for each leg)
`identity`         caller and called numbers of an INVITE under one trunk's rules
`edge`             policy on each received request, before pjsip sees it
`ladder`           what is kept of each message
`settings`         listeners, limits, extensions
`endpoint`, `leg`  the implementation; the only importers of pjsua2
=================  ==========================================================================

Nothing here imports pjsua2 but `endpoint`, `leg` and `loop`, so call logic and its tests need no wheel::

    agent = PJUserAgent(UASettings(listeners=(Listener(port=5060),)), handler)   # sipivr.ua.endpoint
    agent.edge.replace_trunks((EdgeTrunk("carrier", (ip_network("192.0.2.0/24"),)),))
    await agent.start()
"""
