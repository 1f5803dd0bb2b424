"""The error for a name that nothing has: what there is instead, and which of it was meant."""

from __future__ import annotations

from collections.abc import Iterable

from router.core.suggest import NAMED_MAX, no_such
from router.errors import RouterError


def unknown(param: str, name: str, known: Iterable[str], *, word: str = "", most: int = NAMED_MAX) -> RouterError:
    """``param`` is the parameter of the query that has the name; ``word``: what it names, if that is another word."""
    return RouterError("invalid_request", no_such(word or param, name, known, most=most), param=param)
