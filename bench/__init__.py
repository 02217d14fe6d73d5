"""Benchmarks, the telephone of our own, and the load generator. Nothing imports this package."""
