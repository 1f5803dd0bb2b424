"""A number of things in words: ``1 router``, ``2 routers``."""

from __future__ import annotations


def plural(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"
