"""`switch.db`: merchants, numbers, trunks, sessions, calls, payments, events and audit (invariant 7).

- records, errors: what comes out: values without SQL, and refusals
- read: queries on a read-only connection; with `records` and `errors` all that `api` imports
- write: every change; re-exports registry, sessions, claims, identification, calls, payments, retention
- writer: the one thread that makes changes
- database, schema: connections and transactions; migrations
- crypto, audit: sealed fields and keyed hashes; the chained log
"""
