"""Responses that backends keep under an id: only the backend that made one can continue, show, cancel or delete it.

The router notes in the store which backend that is, its *keeper*, under a digest of the id and the tenant. So another
tenant finds nothing there, and the notes tell nothing to whoever reads the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import NamedTuple

import msgspec

from router.errors import RouterError
from router.gateway.ingress import Kept, reference
from router.store.base import Store

_KIND = "response"
_ID_LENGTH_MAX = 512
#: Another router may have made the note a moment ago: it is looked for once more, after this many seconds.
_AGAIN_S = 0.05


class Keeper(NamedTuple):
    """Who has a response: a backend, and the model it was asked for there."""

    backend: str
    model: str


class _Made(msgspec.Struct):
    id: str | None = None
    store: bool | None = None
    conversation: msgspec.Raw = msgspec.Raw()


class _Event(msgspec.Struct):
    response: _Made | None = None


_FIRST_ID = re.compile(rb'"id"\s*:\s*"(resp[!#-\[\]-~]{1,508})"')
_made_decoder = msgspec.json.Decoder(_Made)
_event_decoder = msgspec.json.Decoder(_Event)


class Keepers:
    """Notes of who keeps which response, for all routers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def remember(self, tenant: str, beginning: bytes, keeper: Keeper, ttl_s: float) -> None:
        """Note who keeps what an answer with this ``beginning`` is stored as."""
        for name in ids_in(beginning):
            self._store.remember(_KIND, _digest(tenant, name), f"{keeper.backend} {keeper.model}", ttl_s)

    async def find(self, tenant: str, name: str) -> Keeper | None:
        """Who keeps what has this id; None: nobody knows. Runs in a task. Raises RouterError("store_unavailable") when
        only the store could know, and is away: then the client had better ask again than begin anew."""
        if len(name) > _ID_LENGTH_MAX:
            return None
        digest = _digest(tenant, name)
        note = await self._store.recall(_KIND, digest)
        if note is None:
            await asyncio.sleep(_AGAIN_S)
            note = await self._store.recall(_KIND, digest)
        if note is None:
            return None
        backend, _, model = note.partition(" ")
        return Keeper(backend, model)

    def forget(self, tenant: str, name: str) -> None:
        self._store.forget(_KIND, _digest(tenant, name))


def _digest(tenant: str, name: str) -> str:
    return hashlib.blake2b(f"{name}\0{tenant}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def gone(kept: Kept) -> RouterError:
    """The error for what no backend has, or only one that another tenant used; in OpenAI's words."""
    name = kept.id[:_ID_LENGTH_MAX]
    if kept.param is None:
        return RouterError("response_not_found", f"Response with id '{name}' not found.")
    what = "Previous response" if kept.param == "previous_response_id" else "Conversation"
    return RouterError("previous_response_not_found", f"{what} with id '{name}' not found.", param=kept.param)


def ids_in(beginning: bytes) -> list[str]:
    """Ids under which the backend keeps what it answers, read from the beginning of the answer, whole or streamed.

    There are none if it says that it does not keep it (``"store": false``).
    """
    made = _made_in(beginning)
    if made is None or made.store is False:
        return []
    names = (made.id, reference(made.conversation) if made.conversation else None)
    return [name for name in names if name and len(name) <= _ID_LENGTH_MAX]


def _made_in(beginning: bytes) -> _Made | None:
    if beginning.lstrip()[:1] == b"{":
        try:
            return _made_decoder.decode(beginning)
        except msgspec.MsgspecError:
            return _first_id(beginning)
    for line in beginning.splitlines():
        if line.startswith(b"data:"):
            try:
                return _event_decoder.decode(line[5:]).response
            except msgspec.MsgspecError:
                break
    return _first_id(beginning)


def _first_id(beginning: bytes) -> _Made | None:
    """Of an answer that was not held to its end: engines begin the ids of responses alike."""
    match = _FIRST_ID.search(beginning)
    return None if match is None else _Made(id=match.group(1).decode("ascii"))
