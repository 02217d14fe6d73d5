"""The payment gateway: one port (`port`), one adapter module for each gateway."""
