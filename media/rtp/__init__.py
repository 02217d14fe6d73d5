"""RTP (RFC 3550, RFC 3551, RFC 4733) on arrays: one column per header field, one row per packet or leg."""
