"""Towards the regions: warm connections to each backend (pool), and what the end of an attempt means (classify)."""
