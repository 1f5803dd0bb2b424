"""One router's signs of life: it tells the store that it is alive, and hears each second what has changed.

One task beats while the store is up and probes while it is away, another listens for changed keys.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from functools import partial

from router.complaint import Complaint
from router.store import access
from router.store.ailments import ailment_of, told
from router.store.base import StoreError
from router.store.courier import PIPELINE_COMMANDS, Command, Link, LinkError, call
from router.store.degraded import Breaker
from router.store.keysync import CHANNEL, KEYS, PEPPER, VERSION, KeySync
from router.store.ledger import Ledger
from router.store.notes import MARKS_MAX, Marks
from router.store.scripts import Scripts, Word, marks_args, read_marks
from router.tasks import spawn, stop, supervise

_log = logging.getLogger("router.store")

BEAT_S = 1.0
#: A router that is silent for this long no longer counts when limits are divided.
SILENCE_MS = 5000
ROUTERS = "{mr}:routers"
MARK = "{mr}:mark"
MARKS = "{mr}:marks"
#: The kind of a mark that says that an account was reset, and for how long routers that are cut off may hear of it.
RESET = "reset"
RESET_S = 600.0
#: A start waits for the store no longer than this; one that is away, or very far, comes later.
START_S = 1.0
_START_TRIES = 3
KEEPS_ALL = "noeviction"


class Heartbeat:
    """Also the Report that the courier tells. ``on_down`` is for the log."""

    def __init__(
        self,
        link: Link,
        scripts: Scripts,
        router: str,
        sync: KeySync,
        marks: Marks,
        *,
        on_down: str,
        monotonic_s: Callable[[], float],
        wall_s: Callable[[], float],
    ) -> None:
        self.breaker = Breaker()
        self.routers = 1
        #: each has the commands that tell a store what it has lost
        self.memories: list[Callable[[], list[Command]]] = []
        #: each forgets where an account stood: another router has reset it
        self.forgetting: list[Callable[[str], object]] = []
        self._policy_notice: str | None = None
        self._link = link
        self._scripts = scripts
        self._router = router
        self._sync = sync
        self._marks = marks
        self._on_down = on_down
        self._monotonic_s = monotonic_s
        self._offset_s = wall_s() - monotonic_s()  # from our clock to the server's
        self._mark: bytes | None = None  # of the data in the store: another one, and it was lost
        self._complaint = Complaint()
        self._outages = 0  # since the last line about one
        self._ledger: Ledger | None = None
        self._now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Heartbeat {self.breaker!r}>"

    def server_us(self, now_s: float) -> int:
        return int((now_s + self._offset_s) * 1e6)

    def reset(self, account: str) -> None:
        """Tell the other routers that an account was reset: none may put back where it stood before."""
        self._marks.put(RESET, f"{secrets.token_hex(4)}:{account}", RESET_S)
        self.hasten()

    def hasten(self) -> None:
        """Beat soon: there is something to tell."""
        if self.breaker.up:
            self._now.set()

    # the Report that the courier tells

    @property
    def up(self) -> bool:
        return self.breaker.up

    @property
    def notice(self) -> str | None:
        """For an operator: what to know or to change about the store."""
        return self._policy_notice if self.breaker.up else told(self.breaker.reason)

    @property
    def trouble(self) -> str | None:
        """The trouble of a store that is away, in a word."""
        return None if self.breaker.up else ailment_of(self.breaker.reason).kind

    @property
    def ever_up(self) -> bool:
        """Was the store ever reached since the start?"""
        return self._mark is not None

    def succeeded(self) -> None:
        self.breaker.succeeded()

    def failed(self, reason: str) -> None:
        now_s = self._monotonic_s()
        if self.breaker.failed(reason, now_s):
            self._outages += 1
            if self._complaint.worth_a_line(reason, now_s):
                again = f", {self._outages} times since this was last said" if self._outages > 1 else ""
                self._outages = 0
                _log.warning("the store is away (%s)%s; until it is back: %s", reason, again, self._on_down)
            self._now.set()

    # life

    async def start(self, ledger: Ledger) -> None:
        """Raises StoreError if the store cannot be used as it is configured; one that is away is probed."""
        self._ledger = ledger
        first = spawn(self._first_beats(), name="first heartbeat", expected=(StoreError,))
        await asyncio.wait([first], timeout=START_S)
        if first.done():
            first.result()
        self._tasks = [
            supervise(partial(self._beats, first), name="store heartbeat"),
            supervise(self._listen, name="store listener"),
        ]

    async def _first_beats(self) -> None:
        for _ in range(_START_TRIES):
            try:
                await self._beat()
                return
            except LinkError as error:
                self.breaker.failed(str(error), self._monotonic_s())
        self._complaint.worth_a_line(self.breaker.reason, self._monotonic_s())
        _log.warning("the store is away (%s); until it is back: %s", self.breaker.reason, self._on_down)

    async def stop(self) -> None:
        await stop(*self._tasks)
        self._tasks = []

    async def _beats(self, first: asyncio.Task[None]) -> None:
        """Signs of life while the store is up, probes while it is away; one task, one at a time."""
        if not first.done():
            await self._finish(first)
        while True:
            up = self.breaker.up
            pause_s = BEAT_S if up else self.breaker.probe_s * (0.75 + random.random() / 2)
            try:
                async with asyncio.timeout(pause_s):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()
            if not self.breaker.up:
                if up:
                    continue  # it has just failed: wait before the first probe
                await self._link.drop()
            try:
                await self._beat()
            except LinkError as error:
                self._still(str(error))
            except StoreError as error:
                if self._complaint.worth_a_line(str(error), self._monotonic_s()):
                    _log.error("%s", error)

    async def _finish(self, first: asyncio.Task[None]) -> None:
        """The start did not wait for the end of it."""
        try:
            await first
        except StoreError as error:
            self._complaint.worth_a_line(str(error), self._monotonic_s())
            _log.error("%s", error)
        except asyncio.CancelledError:
            first.cancel()
            raise

    def _still(self, reason: str) -> None:
        """A beat or a probe failed. Logs the reason if it is another one than before."""
        was_down = not self.breaker.up
        self.failed(reason)
        if was_down and self._complaint.worth_a_line(reason, self._monotonic_s()):
            _log.warning("the store is still away (%s)", reason)

    async def _beat(self) -> None:
        """Say that this router is alive and hear what has changed. Raises StoreError, and LinkError for everything
        else: data in the store may be unreadable in unforeseen ways."""
        try:
            await self._sign_of_life()
        except (LinkError, StoreError):
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            if self._complaint.worth_a_line(what, self._monotonic_s()):
                _log.error("the store holds data that this router cannot read", exc_info=error)
            raise LinkError(what) from None

    async def _sign_of_life(self) -> None:
        """Write something: a read-only replica must not count as a store."""
        sent_s = self._monotonic_s()
        known = self._sync.known()
        args: list[Word] = [self._router, SILENCE_MS, secrets.token_hex(8)]
        beat = call(self._scripts.heartbeat, (ROUTERS, VERSION, MARK, KEYS, PEPPER), args)
        told = self._marks.unsent()
        marks = call(self._scripts.marks, (MARKS,), marks_args(MARKS_MAX, told))
        reply, marked = await self._link.run([beat, marks])
        heard_s = self._monotonic_s()
        for command, answer in ((beat, reply), (marks, marked)):
            if access.is_refusal(answer):
                raise LinkError(access.why("heartbeats", "{mr}:*", answer, command.script))
            if isinstance(answer, Exception):
                raise LinkError(f"refused: {answer}")
        if not self.breaker.up:
            await self._may_do_all()
        for kind, digest in self._marks.told((name for name, _ in told), read_marks(marked)):
            if kind == RESET:
                for forget in self.forgetting:
                    forget(digest.partition(":")[2])
        now_us, self.routers, version, mark, *kept = reply
        self._offset_s = now_us / 1e6 - (sent_s + heard_s) / 2
        if self._mark not in (None, mark):
            _log.warning("the store has lost its data; this router puts back the %d keys it knows", known.keys)
            await self._put_back()
        elif known.lost_in(*kept):
            _log.error(
                "the store has lost API keys, as it does when maxmemory-policy is not %s; this router puts back the %d "
                "it knows",
                KEEPS_ALL,
                known.keys,
            )
            await self._put_back()
        else:
            await self._sync.refresh(version)
        self._mark = mark
        self.breaker.succeeded()
        if not self.breaker.up:
            await self._is_back()

    async def _put_back(self) -> None:
        await self._sync.restore()
        self._marks.tell_again()
        if self._ledger is not None:
            accounts = [command for told in self.memories for command in told()]
            for at in range(0, len(accounts), PIPELINE_COMMANDS):
                await self._link.run(accounts[at : at + PIPELINE_COMMANDS])
            self._ledger.renew_all()

    async def _is_back(self) -> None:
        away_s = self.breaker.recovered(self._monotonic_s())
        if self._complaint.settled() and away_s is not None:
            _log.warning("the store is back after %.1f s", away_s)
        if self._ledger is not None:
            self._ledger.reopen(self.server_us(self._monotonic_s()))
        await self._see_policy()

    async def _may_do_all(self) -> None:
        """Raises LinkError with what an access list does not permit: a store that refuses half of the work is away."""
        wanted = access.needs(self._scripts, self._router)
        replies = await self._link.run([need.command for need in wanted])
        if (why := access.refused(wanted, replies)) is not None:
            raise LinkError(why)

    async def _see_policy(self) -> None:
        """Find out whether the store may delete data when it is short of memory."""
        policy = await self._link.eviction_policy()
        if policy in (None, KEEPS_ALL):
            self._policy_notice = None
            return
        loses = "quotas" if policy.startswith("volatile") else "API keys, drains and quotas"
        self._policy_notice = (
            f"maxmemory-policy is {policy}: short of memory, the store deletes {loses}. Set it to {KEEPS_ALL}."
        )
        if self._complaint.worth_a_line(self._policy_notice, self._monotonic_s()):
            _log.warning("the store's %s", self._policy_notice)

    async def _listen(self) -> None:
        """Read the keys again as soon as a router has changed them. Without this the next heartbeat does it."""
        while True:
            try:
                await self._link.listen(CHANNEL, lambda _: self._now.set())
            except LinkError:
                await asyncio.sleep(BEAT_S)

    async def leave(self, commands: list[Command]) -> None:
        """Say that this router stops."""
        try:
            await self._link.run([Command(("ZREM", ROUTERS, self._router)), *commands])
        except LinkError as error:
            _log.info("the store did not hear that this router stops: %s", error)
