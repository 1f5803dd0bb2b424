"""The error for a name that nothing has: what there is instead, and which of it was meant. And the one for keys that
nobody can name yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from router.core.suggest import NAMED_MAX, no_such
from router.errors import RouterError
from router.store.base import Key, Store


def unknown(param: str, name: str, known: Iterable[str], *, word: str = "", most: int = NAMED_MAX) -> RouterError:
    """``param`` is the parameter of the query that has the name; ``word``: what it names, if that is another word."""
    return RouterError("invalid_request", no_such(word or param, name, known, most=most), param=param)


async def keys_of(store: Store) -> list[Key]:
    """All API keys. Raises RouterError (store_unavailable) where none is known yet: there may be many."""
    if not store.keys.loaded:
        raise RouterError("store_unavailable", "API keys are not known yet: the store is away.", retry_after_s=1.0)
    return await store.list_keys()
