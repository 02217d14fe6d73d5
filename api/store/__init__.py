"""`api.db`: credentials, API keys, idempotency records. Its one writer is the API process (invariant 7).

All SQL of the control plane is in this package; functions take a database and return frozen dataclasses.
Browser sessions, webhook endpoints with their deliveries, and their event cursors come as further migrations
of `schema` with a module each.
"""
