"""Patience for what operators write: no client may wait for the store, but the revocation of a key may."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from router.errors import RouterError
from router.store.courier import LinkError

T = TypeVar("T")

#: An operator waits no longer than this, in seconds ...
WAIT_S = 5.0
#: ... and the store is asked again after this long.
_AGAIN_S = 0.1
_RETRY_AFTER_S = 1.0


async def once(work: Awaitable[T]) -> T:
    """The result of ``work``. Raises RouterError("store_unavailable") if the store does not answer."""
    try:
        return await work
    except LinkError:
        raise RouterError("store_unavailable", retry_after_s=_RETRY_AFTER_S) from None


async def insist(work: Callable[[], Awaitable[T]], *, wait_s: float = WAIT_S) -> T:
    """The result of ``work``, which is begun anew while the store does not answer. It must be idempotent: what was not
    confirmed may have been done. Raises RouterError("store_unavailable") after ``wait_s``."""
    try:
        async with asyncio.timeout(wait_s):
            while True:
                try:
                    return await work()
                except LinkError:
                    await asyncio.sleep(_AGAIN_S)
    except TimeoutError:
        words = f"The shared store has not confirmed this within {wait_s:g} s. It may have been done: run it again."
        raise RouterError("store_unavailable", words, retry_after_s=_RETRY_AFTER_S) from None
