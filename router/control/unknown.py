"""The error for a name that nothing has: what there is instead, and which of it was meant."""

from __future__ import annotations

from collections.abc import Iterable

from router.config.suggest import did_you_mean
from router.errors import RouterError

#: Most names that an error lists.
NAMED_MAX = 12


def unknown(param: str, name: str, known: Iterable[str], *, word: str = "", most: int = NAMED_MAX) -> RouterError:
    """``param`` is the parameter of the query that has the name; ``word``: what it names, if that is another word."""
    names = sorted(set(known))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    listed = ", ".join(names[:most]) + more or "none"
    hint = did_you_mean(name, names) or "."
    return RouterError(
        "invalid_request", f'There is no {word or param} "{name}"{hint} There are: {listed}.', param=param
    )
