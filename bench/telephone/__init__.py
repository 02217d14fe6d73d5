"""A telephone of our own: `sipivr.ua` for SIP, the media engine for RTP; it speaks, listens, keys and records.

`phone` is the telephone and its calls, `ears` tells speech from quiet, `pbx` a three-party bridge like a
merchant's, `customer` a person who pays, `recording` what was heard as WAV and as a picture.
"""
