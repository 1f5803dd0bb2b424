"""API keys in the shared store, and the snapshot of them that this router keeps.

The snapshot is read again when the version counter has changed: the store announces it at once, or the next heartbeat
sees it. If the store has lost its data, the routers restore what they remember; a key that one of them knows to be
revoked stays revoked.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from router.store.base import Key, StoreError
from router.store.courier import Command, Link, LinkError
from router.store.keys import PEPPER_ENV, Draft, KeyRecord, Ring, fingerprint, new_key, new_pepper, rotated
from router.store.notes import CLAIM, note_key

KEYS = "{mr}:keys"
VERSION = "{mr}:version"
PEPPER = "{mr}:pepper"
RUNTIME = "{mr}:runtime"
#: A field that always stays in the hash: if it is missing, the hash was lost and not emptied.
RUNTIME_KEPT = "kept"
CHANNEL = "mr:keys"
_SCAN = 500

_log = logging.getLogger("router.store")


class Known(NamedTuple):
    """The keys and the pepper that this router has seen in the store. No router ever removes them."""

    keys: int
    pepper: bool

    def lost_in(self, keys: int, pepper: int) -> bool:
        return keys < self.keys or (self.pepper and not pepper)


class KeySync:
    """Reads and writes keys through a Link. Its methods raise LinkError while the store is away."""

    def __init__(self, link: Link, ring: Ring) -> None:
        #: is it known that the store is away? Then nobody waits for what operators do with runtime state
        self.away: Callable[[], bool] = lambda: False
        self._link = link
        self._ring = ring
        self._runtime_lock = asyncio.Lock()  # an answer from before a change must not come after it
        self._lock = asyncio.Lock()  # a key that is created while the snapshot is being read must not get lost
        self._version = -1
        self._runtime: dict[str, str] = {}
        self._runtime_kept = False

    def __repr__(self) -> str:
        return f"<KeySync version {self._version} {self._ring!r}>"

    def known(self) -> Known:
        """What the store must hold: everything that was written to it or read from it."""
        return Known(len(self._ring.records), bool(self._ring.pepper))

    async def refresh(self, version: int) -> None:
        """Read all keys if ``version``, the store's own, is not the one read last."""
        async with self._lock:
            if version != self._version or not self._ring.loaded:
                await self._load()

    async def load(self) -> None:
        """Read all keys. Raises StoreError if they were made with a pepper that this router does not have."""
        async with self._lock:
            await self._load()

    async def restore(self) -> None:
        """The store has lost its data: write back the keys, the pepper and the runtime state that this router knows.

        If another router has made new keys in the meantime, those stay in force.
        """
        if self._ring.pepper and await self._pepper(self._ring.pepper) != self._ring.pepper:
            _log.error(
                "the store has other API keys now; the %d that this router knew are lost", len(self._ring.records)
            )
            await self.load()
            return
        for record in list(self._ring.records.values()):
            verb = "HSET" if record.revoked else "HSETNX"
            await self._run((verb, KEYS, record.id, record.encode()))
        async with self._runtime_lock:
            await self._restore_runtime()
        await self._changed()

    async def create(
        self, name: str, plan: str, tenant: str | None, created_s: float, expires_s: float | None, draft: Draft
    ) -> tuple[Key, str]:
        """May be tried again with the same draft: it makes one key."""
        async with self._lock:
            pepper = await self._pepper(self._ring.pepper or new_pepper())
            if pepper != self._ring.pepper or not self._ring.loaded:
                await self._load()
            record, secret = new_key(name, plan, tenant, created_s, pepper, expires_s, draft)
            return self._ring.put(await self._write(record)), secret

    async def change(self, key_id: str, **changes: Any) -> Key | None:
        """Change fields of a key's record. None: there is no such key."""
        async with self._lock:
            await self._load()
            record = self._ring.records.get(key_id)
            if record is None:
                return None
            return self._ring.put(await self._write(dataclasses.replace(record, **changes)))

    async def rotate(self, key_id: str, overlap_s: float, now_s: float, secret: str) -> tuple[Key, str] | None:
        """Give a key this secret; once more does no harm. None: there is no such key."""
        async with self._lock:
            await self._load()
            record = self._ring.records.get(key_id)
            if record is None:
                return None
            record, secret = rotated(record, overlap_s, now_s, self._ring.pepper, secret)
            return self._ring.put(await self._write(record)), secret

    async def claim(self, name: str, owner: str, ttl_s: float) -> bool:
        claimed = ("SET", note_key(CLAIM, name), owner, "NX", "PX", max(1, int(ttl_s * 1000)))
        return (await self._run(claimed))[0] is not None

    async def release(self, name: str, owner: str) -> None:
        """Between the two steps it can run out and be another's; then that one's call is made twice, at worst."""
        key = note_key(CLAIM, name)
        found = (await self._run(("GET", key)))[0]
        if found is not None and bytes(found).decode() == owner:
            await self._run(("DEL", key))

    async def set_runtime(self, name: str, value: str | None) -> None:
        kept = ("HSET", RUNTIME, RUNTIME_KEPT, "1")
        async with self._runtime_turn():
            if value is None:
                await self._run(kept, ("HDEL", RUNTIME, name))
                self._runtime.pop(name, None)
            else:
                await self._run(kept, ("HSET", RUNTIME, name, value))
                self._runtime[name] = value
            self._runtime_kept = True

    async def get_runtime(self) -> dict[str, str]:
        """Also restores the state if the store has lost it."""
        async with self._runtime_turn():
            (fields,) = await self._run(("HGETALL", RUNTIME))
            if fields.pop(RUNTIME_KEPT.encode(), None) is not None:
                self._runtime_kept = True
            elif self._runtime_kept:
                await self._restore_runtime()
                (fields,) = await self._run(("HGETALL", RUNTIME))
                fields.pop(RUNTIME_KEPT.encode(), None)
            self._runtime = {n.decode(errors="replace"): v.decode(errors="replace") for n, v in fields.items()}
            return dict(self._runtime)

    @contextlib.asynccontextmanager
    async def _runtime_turn(self) -> AsyncIterator[None]:
        """One after the other; each may have waited in vain, so that those behind it would wait for as long again."""
        async with self._runtime_lock:
            if self.away():
                raise LinkError("the store is away")
            yield

    async def _restore_runtime(self) -> None:
        if self._runtime_kept:
            await self._run(("HSET", RUNTIME, RUNTIME_KEPT, "1"))
        for name, value in self._runtime.items():
            await self._run(("HSETNX", RUNTIME, name, value))

    async def _load(self) -> None:
        version, stored = await self._run(("GET", VERSION), ("GET", PEPPER))
        pepper = checked_pepper(stored, os.environ.get(PEPPER_ENV, "").encode()) if stored else b""
        records: list[KeyRecord] = []
        cursor = 0
        while True:
            ((cursor, page),) = await self._run(("HSCAN", KEYS, cursor, "COUNT", _SCAN))
            for key_id, raw in page.items():
                record = KeyRecord.decode(key_id.decode(errors="replace"), raw)
                if record is None:
                    _log.warning("the store holds an API key that cannot be read: %r", key_id)
                else:
                    records.append(record)
            if not cursor:
                break
        if self._ring.pepper and pepper in (b"", self._ring.pepper):
            records += await self._give_back({record.id for record in records}, pepper)
            pepper = self._ring.pepper
            records = await self._correct(records)
        self._ring.load(records, pepper)
        self._version = int(version or 0)

    async def _give_back(self, found: set[str], pepper: bytes) -> list[KeyRecord]:
        """Keys are never removed: those that are not found were lost. Write them again, and keep them in force."""
        lost = [record for record in self._ring.records.values() if record.id not in found]
        if not pepper:
            await self._pepper(self._ring.pepper)
        for record in lost:
            await self._run(("HSETNX", KEYS, record.id, record.encode()))
        return lost

    async def _correct(self, records: list[KeyRecord]) -> list[KeyRecord]:
        """Revocations and new secrets are never taken back: one that is not found was lost, as when a router that had
        not heard of it gave its keys back."""
        known = self._ring.records
        right = [r.corrected(mine) if (mine := known.get(r.id)) is not None else r for r in records]
        for found, record in zip(records, right, strict=True):
            if record is not found:
                await self._write(record)
        return right

    async def _write(self, record: KeyRecord) -> KeyRecord:
        """Write it, and read it back."""
        await self._run(("HSET", KEYS, record.id, record.encode()))
        await self._changed()
        (raw,) = await self._run(("HGET", KEYS, record.id))
        found = KeyRecord.decode(record.id, raw) if raw is not None else None
        if found is None or record.revoked > found.revoked or record.rotations > found.rotations:
            raise LinkError("does not hold the key that was written to it")
        return found

    async def _changed(self) -> None:
        """Announce a change. Where the channel is not permitted, the other routers see it at their next heartbeat."""
        await self._run(("INCRBY", VERSION, 1))
        with contextlib.suppress(LinkError):
            await self._run(("PUBLISH", CHANNEL, ""))

    async def _pepper(self, candidate: bytes) -> bytes:
        """The pepper. A store without one takes that of the environment, else the candidate."""
        from_env = os.environ.get(PEPPER_ENV, "").encode()
        mine = b"env:" + fingerprint(from_env).encode() if from_env else b"raw:" + candidate
        _, stored = await self._run(("SET", PEPPER, mine, "NX"), ("GET", PEPPER))
        return checked_pepper(stored, from_env)

    async def _run(self, *commands: tuple[Any, ...]) -> list[Any]:
        replies = await self._link.run([Command(words) for words in commands])
        for reply in replies:
            if isinstance(reply, Exception):
                raise LinkError(f"refused: {reply}")
        return replies


def checked_pepper(stored: bytes, from_env: bytes) -> bytes:
    """The pepper that the keys were made with. Raises StoreError if this router has another one."""
    kind, _, value = stored.partition(b":")
    if kind == b"env" and value != fingerprint(from_env).encode():
        reason = "is another one here" if from_env else "is not set here"
        raise StoreError(f"The API keys in the store were made with a pepper from {PEPPER_ENV}, which {reason}.")
    if kind == b"raw" and from_env:
        raise StoreError(f"The API keys in the store were made with the store's own pepper: unset {PEPPER_ENV}.")
    return from_env or bytes(value)
