"""The store that many routers share: allowances are spent locally, the rest asks Redis, and if need be goes on alone.

No request waits for Redis longer than Patience.request_s, and none at all once the breaker says that it is away.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from operator import add, sub
from typing import Any

from router.config import Plan
from router.core.limits import NAMES, NOTHING, SLOTS, Amounts, Units, cost, least_of
from router.errors import RouterError
from router.store.alone import RETRY_S, Alone
from router.store.answers import limit_states, with_slots
from router.store.base import Holder, Key, LimitState, Refusal, Reservation, Server
from router.store.courier import Command, Courier, Link, LinkError, call, heard
from router.store.heartbeat import MARK, Heartbeat
from router.store.insist import insist, once
from router.store.keys import Ring, new_draft, new_secret
from router.store.keysync import KeySync
from router.store.ledger import Ledger, held_by
from router.store.newer_keys import NewerKeys
from router.store.notes import Marks, Notes, note_key
from router.store.questions import Questions
from router.store.quota_file import PAUSE_S, QuotaFile
from router.store.scripts import (
    Word,
    account_keys,
    load_scripts,
    read_standing,
    reset_of,
)
from router.store.snapshot import Snapshot
from router.store.spend_book import SharedSpendBook, SpendBook
from router.store.streams import Streams
from router.tasks import stop, supervise
from router.words import plural

_log = logging.getLogger("router.store")

LEASE_S = 15.0
FLEET = "{mr}:fleet"
FLEET_CHANNEL = "mr:fleet"
FLEET_SILENCE_MS = 5000


class SharedStore:
    """A Store over a Link. ``lease_s`` bounds how long slots of a router that died stay taken.

    ``server`` is started before and stopped after everything else.
    """

    def __init__(
        self,
        link: Link,
        plans: Mapping[str, Plan],
        *,
        router_name: str,
        on_down: str,
        monotonic_s: Callable[[], float],
        wall_s: Callable[[], float],
        lease_s: float = LEASE_S,
        server: Server | None = None,
        snapshot: str | None = None,
    ) -> None:
        self.keys = Ring(plans)
        self._snapshot = Snapshot(snapshot, self.keys, wall_s=wall_s)
        self.router = f"{router_name}-{secrets.token_hex(4)}"
        self._link = link
        self._server = server
        self._monotonic_s = monotonic_s
        self._wall_s = wall_s
        self._scripts = load_scripts()
        self._sync = KeySync(link, self.keys)
        self._notes = Notes()
        self._marks = Marks(monotonic_s)
        self._heart = Heartbeat(
            link,
            self._scripts,
            self.router,
            self._sync,
            self._marks,
            on_down=on_down,
            monotonic_s=monotonic_s,
            wall_s=wall_s,
        )
        self._sync.away = lambda: self._heart.ever_up and not self._heart.up
        self._file = QuotaFile(snapshot, wall_s=wall_s)
        self._alone = Alone(on_down, self._heart, self._file, lease_s=lease_s)
        self._courier = Courier(link, self._heart)
        self.newer_keys = NewerKeys(self._courier, self._sync)
        self.streams: Streams | None = Streams(link, self._heart)
        self.spending: SpendBook = (book := SharedSpendBook(link, self._heart, self._scripts.spend))
        self._ledger = Ledger(
            self._courier, self._scripts, self.router, lease_s=lease_s, monotonic_s=monotonic_s, sharers=self._heart
        )
        self._questions = Questions(
            self._courier,
            self._ledger,
            self._alone,
            self._scripts.reserve,
            self.settle,
            lease_s=lease_s,
            monotonic_s=monotonic_s,
        )
        self._ledger.recalled = self._file.at_start
        self._heart.memories = [self._ledger.put_back, lambda: book.put_back(wall_s())]
        self._heart.forgetting = [self._ledger.forget, lambda account: book.unsee(account, wall_s())]
        self._purses = self._ledger.purses
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<SharedStore {self.router} {self._heart!r} {self._ledger!r}>"

    @property
    def state(self) -> str:
        return "up" if self._heart.up else "down"

    @property
    def trouble(self) -> str | None:
        return self._heart.trouble

    @property
    def notice(self) -> str | None:
        old_s = self._snapshot.saved_s
        if old_s is None or self._heart.ever_up:
            return self._heart.notice
        age_s = self._wall_s() - old_s
        keys = f"{plural(len(self.keys.records), 'key')} served from a file that is {age_s:.0f} s old"
        return f"{self._heart.notice}, since the start: {keys}"

    async def start(self) -> None:
        if self._server is not None:
            await self._server.start()
        self._snapshot.load()
        self._file.load()
        self._heart.routers = self._file.routers
        await self._heart.start(self._ledger)
        if not self._heart.ever_up and self._snapshot.saved_s is not None:
            _log.warning("%s", self.notice)
        self._tasks = [
            supervise(self._ledger.run, name="store ledger"),
            supervise(self._snapshot.run, name="snapshot of the keys"),
            supervise(self._save_standings, name="standings of the quotas"),
        ]

    async def stop(self) -> None:
        await self._heart.stop()
        await self.newer_keys.stop()
        await stop(*self._tasks)
        await self._snapshot.save()
        if self._heart.up:
            await self._ledger.flush()
        await self._file.save(self._ledger.known(), self._heart.routers)
        if self._heart.up:
            await self._heart.leave([Command(("HDEL", FLEET, self.router))])
        await self._link.close()
        if self._server is not None:
            await self._server.stop()

    async def _save_standings(self) -> None:
        """While the store is away, what is given out is written down before it is."""
        while True:
            await asyncio.sleep(PAUSE_S)
            if self._heart.up:
                await self._file.save(self._ledger.known(), self._heart.routers)

    def set_plans(self, plans: Mapping[str, Plan]) -> None:
        self.keys.set_plans(plans)

    # the request path

    def reserve_now(
        self, holder: Holder, amounts: Amounts, request_id: str, now_s: float, most: Amounts | None = None
    ) -> Reservation | Refusal | None:
        purse = self._purses.get(holder.id)
        if purse is None or purse.plan is not holder.plan:
            purse = self._ledger.purse(holder)
        units = cost(amounts)
        if purse.unlimited:
            return Reservation(holder.id, request_id, units, "none")
        exposed, near = None, False
        if most is not None:
            units, exposed = purse.by_exposure(units, cost(most))
            near = exposed is None
        taken = None if near and not purse.covers(units) else purse.take(units, request_id, now_s)
        if taken is not None:
            if purse.low(now_s):
                self._ledger.ask(purse)
            if exposed is not None:
                taken.exposed = exposed
                purse.expose(exposed, 1)
            return taken
        if (denied := purse.still_denied(units, now_s)) is not None:
            return denied
        least = least_of(amounts, most)
        if self._heart.up or self._alone.must_claim(purse, units, now_s, least):
            return None
        return self._alone.decide(purse, units, request_id, now_s, least)

    async def reserve(
        self, holder: Holder, amounts: Amounts, request_id: str, most: Amounts | None = None
    ) -> Reservation | Refusal:
        answer = self.reserve_now(holder, amounts, request_id, self._monotonic_s(), most)
        if answer is not None:
            return answer
        purse, units, exposed, least = self._purses[holder.id], cost(amounts), None, least_of(amounts, most)
        if most is not None:
            units, exposed = purse.by_exposure(units, cost(most))
        if exposed is None:
            near = most is not None
            answer = await self._questions.ask(purse, units, request_id, purse.cover(units, near=near), least)
            if least is None or not isinstance(answer, Refusal) or (rest := purse.rest(units, least)) is None:
                return answer
            needs = purse.cover(rest, near=near)
            exposed, units = tuple(map(sub, units, rest)), rest  # until it is settled, nobody else takes what is left
        else:
            needs = units
        purse.expose(exposed, 1)  # now: others ask at the same time
        try:
            answer = await self._questions.ask(purse, units, request_id, needs, least)
        except BaseException:
            purse.expose(exposed, -1)
            raise
        if isinstance(answer, Reservation):
            answer.exposed = exposed
        else:
            purse.expose(exposed, -1)
        return answer

    def settle(self, reservation: Reservation, used: Amounts | None) -> None:
        if reservation.settled:
            return
        reservation.settled = True
        source = reservation.source
        purse = self._purses.get(reservation.account)
        if source == "none" or purse is None:
            return
        reserved, units = reservation.cost, NOTHING if used is None else cost(used)
        purse.inflight -= 1
        if reservation.exposed is not None:
            purse.expose(reservation.exposed, -1)
        if purse.share is not None and source in ("share", "allow"):
            purse.share.settle(tuple(map(sub, reserved, units)), self._heart.server_us(self._monotonic_s()))
            units = reserved
        purse.put_back(reserved, units, reservation.slot)
        if not purse.dirty:
            self._ledger.touch(purse)

    def charge(self, holder: Holder, used: Amounts) -> None:
        purse = self._ledger.purse(holder)
        purse.balance = list(map(sub, purse.balance, cost(used)))
        self._ledger.touch(purse)

    # administration

    async def create_key(
        self, name: str, plan: str = "default", tenant: str | None = None, *, expires_s: float | None = None
    ) -> tuple[Key, str]:
        draft, made_s = new_draft(), self._wall_s()
        return await insist(lambda: self._sync.create(name, plan, tenant, made_s, expires_s, draft))

    async def list_keys(self) -> list[Key]:
        return self.keys.all()

    async def get_key(self, key_id: str) -> Key | None:
        return self.keys.get(key_id)

    async def change_key(self, key_id: str, changes: Mapping[str, str | float | None]) -> Key | None:
        return await insist(lambda: self._sync.change(key_id, **changes))

    async def rotate_key(self, key_id: str, overlap_s: float) -> tuple[Key, str] | None:
        secret, now_s = new_secret(), self._wall_s()
        return await insist(lambda: self._sync.rotate(key_id, overlap_s, now_s, secret))

    async def revoke_key(self, key_id: str) -> bool:
        return await insist(lambda: self._sync.change(key_id, revoked=True)) is not None

    async def quota(self, holder: Holder, elsewhere: Units = NOTHING) -> list[LimitState]:
        """From the store; while it is away, what this router knows and gives out."""
        purse = self._ledger.purse(holder)
        held = tuple(map(add, elsewhere, held_by(purse)))  # as of what the store has been told when it looks
        asked = self._ledger.head(purse)
        try:
            reply = await self._courier.post(call(self._scripts.look, account_keys(purse.account), asked))
        except LinkError:
            share = self._alone.share(purse, self._monotonic_s())
            standing = with_slots(share.account.standing(), purse.slots.used)
            return limit_states(share.limits.replaced(SLOTS, purse.limits.slots), standing, "this router")
        return limit_states(purse.limits, read_standing(reply), "global", held)

    def held(self) -> dict[str, Units]:
        return self._ledger.held()

    async def reset_quota(self, holder: Holder, kinds: Collection[str] = NAMES) -> None:
        await insist(lambda: self._link.run([Command(reset_of(holder.id, kinds))]))
        self._ledger.forget(holder.id)
        self._heart.reset(holder.id)

    async def set_runtime(self, name: str, value: str | None) -> None:
        await once(self._sync.set_runtime(name, value))

    async def get_runtime(self) -> dict[str, str]:
        return await once(self._sync.get_runtime())

    async def claim(self, name: str, ttl_s: float) -> bool:
        return await once(self._sync.claim(name, self.router, ttl_s))

    async def release(self, name: str) -> None:
        await once(self._sync.release(name, self.router))

    # notes and marks

    def remember(self, kind: str, digest: str, value: str, ttl_s: float) -> None:
        self._notes.put(kind, digest, value, self._monotonic_s() + ttl_s)
        self._tell(Command(("SET", note_key(kind, digest), value, "PX", max(1, int(ttl_s * 1000)))))

    async def recall(self, kind: str, digest: str) -> str | None:
        """What this router remembered itself it need not ask for."""
        known = self._notes.get(kind, digest, self._monotonic_s())
        if known is not None:
            return known
        try:
            found = await self._courier.post(Command(("GET", note_key(kind, digest))))
        except LinkError:
            raise RouterError("store_unavailable", retry_after_s=RETRY_S, should_retry=True) from None
        return None if found is None else str(found, errors="replace")

    def forget(self, kind: str, digest: str) -> None:
        self._notes.drop(kind, digest)
        self._tell(Command(("DEL", note_key(kind, digest))))

    def mark(self, kind: str, digest: str, ttl_s: float) -> None:
        self._marks.put(kind, digest, ttl_s)
        self._heart.hasten()

    def any_marks(self) -> bool:
        return bool(self._marks)

    def marked(self, kind: str, digest: str) -> bool:
        return self._marks.has(kind, digest)

    def _tell(self, command: Command) -> None:
        """Send what nobody waits for."""
        self._courier.post(command).add_done_callback(heard)

    async def ping(self) -> float | None:
        began_s = self._monotonic_s()
        try:
            await self._courier.post(Command(("EXISTS", MARK)))
        except LinkError:
            return None
        return self._monotonic_s() - began_s

    async def call(self, command: Command) -> Any:
        """The reply to one command. Raises LinkError."""
        return await self._courier.post(command)

    async def exchange(
        self, kept: bytes = b"", fresh: bytes = b"", *, read: bool = True
    ) -> list[tuple[str, float, bytes]]:
        """Leave a message for the other routers, and tell those that listen; read what they left, as (router, age in
        seconds, message). Raises LinkError."""
        args: list[Word] = [self.router, kept, FLEET_SILENCE_MS, FLEET_CHANNEL, fresh, int(read)]
        reply = await self._courier.post(call(self._scripts.exchange, [FLEET], args))
        return [(reply[i].decode(), reply[i + 1] / 1000, reply[i + 2]) for i in range(0, len(reply), 3)]

    async def listen(self, heard: Callable[[bytes | None], None]) -> None:
        """Hear what all routers tell, this one too: the router, a line feed, its message. Raises LinkError."""
        await self._link.listen(FLEET_CHANNEL, heard)
