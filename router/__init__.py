"""Meridian's server. Start reading at ``gateway/lifecycle.py``; the map is in ARCHITECTURE.md."""

__version__ = "0.1.0"
