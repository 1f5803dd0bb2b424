"""Keys that another router made or prolonged a moment ago, for a request that comes before the news of it.

A key may be used as soon as its maker has it, at any router. So a secret that would be refused here is looked for once
more, after the store has told the version of its keys. However many requests wait, one look is under way: secrets that
are wrong cost the store no more than one small question for each round trip.
"""

from __future__ import annotations

import asyncio

from router.deadline import within
from router.errors import RouterError
from router.store.base import StoreError
from router.store.courier import Command, Courier, LinkError
from router.store.keysync import VERSION, KeySync
from router.tasks import spawn, stop

#: A request waits no longer than this, in seconds, while the keys that have changed are being read.
WAIT_S = 1.0


class NewerKeys:
    """To be called with a request whose key is not known here, or not good any more."""

    def __init__(self, courier: Courier, sync: KeySync) -> None:
        self._courier = courier
        self._sync = sync
        self._waiting: list[asyncio.Future[bool]] = []  # those that came since the look under way began
        self._looking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<NewerKeys {len(self._waiting)} waiting>"

    async def __call__(self) -> None:
        """When it returns, every key that was there at the call is known here; while the store is away it returns at
        once. Raises RouterError("store_unavailable") if that could not be found out: unknown is not invalid."""
        if not self._courier.up:
            return
        known: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(known)
        if self._looking is None:
            self._looking = spawn(self._look_while_asked(), name="look for newer keys")
        if not await known:
            detail = "This API key cannot be checked: the store does not answer in time."
            raise RouterError("store_unavailable", detail, retry_after_s=1.0)

    async def stop(self) -> None:
        if self._looking is not None:
            await stop(self._looking)

    async def _look_while_asked(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                found = False
                try:
                    found = await self._look()
                finally:
                    for known in waiting:
                        if not known.done():
                            known.set_result(found)
        finally:
            self._looking = None

    async def _look(self) -> bool:
        try:
            async with within(WAIT_S):
                version = await self._courier.post(Command(("GET", VERSION)))
                await self._sync.refresh(int(version or 0))
        except (LinkError, StoreError, TimeoutError):
            return False
        return True
