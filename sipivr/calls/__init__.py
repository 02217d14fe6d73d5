"""The shell around the dialogue: turns SIP, media and gateway happenings into events, carries effects out.

`admission` decides whether a call is taken, `switchboard` owns all calls, `call` is one customer's presence,
`charging` is the exactly-once path to the gateway, `media_link` and `media_ports` speak to media workers.
"""
