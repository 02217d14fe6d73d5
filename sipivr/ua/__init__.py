"""SIP by pjsua2, for signalling only: RTP belongs to `media`, decisions belong to `sipivr.calls`.

=====================  ======================================================================
`ports`                what `sipivr.calls` is written against: `SIPLeg`, `UserAgent`, `UAHandler`
`sdp`, `sdp_parser`    typed SDP, written and read
`negotiation`          the offer/answer rules (`Negotiator`, one for each leg)
`message`, `identity`  an INVITE's caller and called numbers under one trunk's rules
`edge`                 policy on each received request, before pjsip sees it
`edge_adapter`         between that policy and `edge.c` (`edge_binding`, `edge_types`, `edge_abi`)
`ladder`, `info`       what is kept of each message; keys in INFO
`resolve`              host names to addresses, asynchronously
`settings`             listeners, limits, extensions
`endpoint`, `leg`      the implementation, with `callbacks`, `loop`, `pjsettings`
=====================  ======================================================================

Only the last row imports pjsua2, so call logic and its tests need no wheel::

    agent = PJUserAgent(UASettings(listeners=(Listener(port=5060),)), handler)   # sipivr.ua.endpoint
    agent.edge.replace_trunks((EdgeTrunk("carrier", (ip_network("192.0.2.0/24"),)),))
    await agent.start()
"""
