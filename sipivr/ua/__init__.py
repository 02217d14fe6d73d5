"""SIP: the user agent over pjsua2, its edge, and SDP of our own."""
