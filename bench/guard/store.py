"""A shared store in this process. ``core/quota`` does here what its copy in Lua does in a real one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from router.core import quota
from router.core.limits import KINDS, Limits, Units
from router.store.courier import Command
from router.store.patience import Patience
from router.store.scripts import Word

_KINDS = len(KINDS)
#: How long a pipeline takes there and back.
_ROUND_TRIP_S = 0.001


def questions(args: Sequence[Word]) -> Iterator[tuple[Units, list[str]]]:
    """What ``store/scripts.reserve_args`` has put together."""
    at = 1
    for _ in range(int(args[0])):
        units = tuple(int(word) for word in args[at : at + _KINDS])
        first, at = at + _KINDS + 1, at + _KINDS + 1 + int(args[at + _KINDS])
        yield units, [str(slot) for slot in args[first:at]]


class StandIn:
    """A Link (see ``router/store/courier``) to a store that is always up and that one router uses.

    It knows the commands that a router sends while it serves requests, and those that make a key.
    """

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self.patience = Patience()
        self._wall_s = wall_s
        self._accounts: dict[str, quota.Account] = defaultdict(quota.Account)
        self._values: dict[str, Any] = {}
        self._hashes: dict[str, dict[bytes, Any]] = defaultdict(dict)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        await asyncio.sleep(_ROUND_TRIP_S)
        return [self._script(c) if c.script is not None else self._plain(*c.words) for c in commands]

    async def drop(self) -> None:
        pass

    async def eviction_policy(self) -> str | None:
        return None

    async def listen(self, channel: str, heard: Callable[[bytes | None], None]) -> None:
        heard(None)
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass

    def _script(self, command: Command) -> list[Any]:
        assert command.script is not None
        count = int(command.words[2])
        keys, args = command.words[3 : 3 + count], command.words[3 + count :]
        now_us = int(self._wall_s() * 1e6)
        match command.script.name:
            case "heartbeat":
                keys_kept = len(self._hashes[str(keys[3])])
                return [now_us, 1, self._values.get(str(keys[1]), 0), b"mark", keys_kept, str(keys[4]) in self._values]
            case "marks" | "exchange":
                return []
            case name:
                return self._account(name, str(keys[0]), args, now_us)

    def _account(self, name: str, key: str, args: Sequence[Word], now_us: int) -> list[Any]:
        account, lease_us = self._accounts[key], int(args[1])
        limits = Limits(*[None if int(limit) < 0 else int(limit) for limit in args[2 : 2 + _KINDS]])
        rest = args[3 + _KINDS :]
        reply: list[Any] = []
        if name == "reserve":
            for cost, names in questions(rest):
                short = quota.reserve(account, limits, now_us, cost, slots=names, lease_us=lease_us)
                assert short is None, "the limits are meant to be out of reach"
                reply += [0, 0, 0]
            standing = account.standing()
            return [*reply, standing.now_us, standing.born_us, *standing.used]
        units: Units = tuple(int(word) for word in rest[:_KINDS])
        rest = rest[_KINDS:]
        if name == "grant":
            slots = [str(slot) for slot in rest[2:]]
            reply += quota.grant(account, limits, now_us, units, slots=slots, divisor=int(rest[0]), lease_us=lease_us)
        elif name == "settle":
            released, slots = int(rest[2]), [str(slot) for slot in rest[4:]]
            kept = released + int(rest[3])
            quota.settle(
                account,
                limits,
                now_us,
                units,
                taken_us=int(rest[0]),
                release=slots[:released],
                drop=slots[released:kept],
                renew=slots[kept:],
                lease_us=lease_us,
            )
            reply = [1]
        standing = account.standing()
        return [*reply, standing.now_us, standing.born_us, *standing.used]

    def _plain(self, verb: Word, *words: Any) -> Any:
        key, rest = str(words[0]), words[1:]
        match verb:
            case "GET":
                return self._values.get(key)
            case "SET":
                return self._values.setdefault(key, rest[0])
            case "INCRBY":
                self._values[key] = value = self._values.get(key, 0) + rest[0]
                return value
            case "HSET":
                self._hashes[key][str(rest[0]).encode()] = rest[1]
                return 1
            case "HGET":
                return self._hashes[key].get(str(rest[0]).encode())
            case "HMGET":
                return [self._hashes[key].get(str(field).encode()) for field in rest]
            case "HSCAN":
                return 0, dict(self._hashes[key])
            case "HGETALL":
                return dict(self._hashes[key])
            case "HDEL" | "PUBLISH" | "DEL":
                return 0
            case _:
                raise NotImplementedError(verb)
