"""Suggestions for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``, did you mean "x"?`` when one of ``known`` is close."""
    close = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.6)
    return f', did you mean "{close[0]}"?' if close else ""
