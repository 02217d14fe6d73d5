"""A payment gateway for the sandbox and for tests: a program of its own, with its own ledger.

Speaks the GMO-PG protocol type over HTTP; `docs/simulator.md` lists its test cards, faults and control calls.
"""
