"""Measures what this machine can do: `captiond bench` without its printing."""
