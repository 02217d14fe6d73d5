"""An example of a receiver of the JSON connector (docs/connector.md): HTTPS, signatures, a ledger in memory.

It shares no code with the adapter, so that the contract is what both were written from.
"""
