"""The Unix socket between `api` and `sipivr`: typed commands one way, replies and events the other."""
