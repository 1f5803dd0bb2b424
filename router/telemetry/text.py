"""Cleans text of clients and backends before it is written anywhere."""

from __future__ import annotations

TEXT_MAX = 200


def clean(text: str, limit: int = TEXT_MAX) -> str:
    """``text`` without control characters, escape sequences and line separators, cut to ``limit`` characters."""
    if len(text) > limit:
        text = f"{text[: limit - 1]}…"
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)
