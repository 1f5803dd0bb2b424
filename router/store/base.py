"""The contract of the store: who a key belongs to, what it may still use, and what routers tell each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from router.config import Limited, Plan
from router.core.limits import NAMES, NOTHING, Amounts, Units
from router.core.scopes import KEY, Scope
from router.core.types import Value

if TYPE_CHECKING:
    from router.store.spend_book import SpendBook
    from router.store.streams import Streams

#: How the secret of every key begins.
SECRET_PREFIX = "mr-"  # noqa: S105


class StoreError(Exception):
    """The store cannot be used as it is configured. The text says what to change and holds no secret."""


#: The id, name and tenant of everybody without a key, in open mode.
ANONYMOUS = "anonymous"


class Holder(Protocol):
    """Who has an account: a key, or a group of requests (``store/groups``)."""

    @property
    def id(self) -> str:
        """Of the account."""

    @property
    def scope(self) -> Scope: ...

    @property
    def name(self) -> str: ...

    @property
    def plan(self) -> Limited: ...


@dataclass(frozen=True, slots=True)
class Key:
    """An API key. Its secret is known to its owner only."""

    scope: ClassVar[Scope] = KEY

    id: str
    name: str
    tenant: str
    plan: Plan
    created_s: float  # wall clock
    revoked: bool
    #: The configuration has no plan of this name: the key may do nothing. ``plan`` then has its name and no room.
    plan_missing: bool = False
    expires_s: float | None = None  # wall clock; None: never
    #: The key was looked up by a secret that was replaced, which works until then.
    replaced_until_s: float | None = None
    #: Until when secrets that were replaced go on working; the latest is the last.
    older_until_s: tuple[float, ...] = ()


class Shown(Value):
    """A rate as response headers show it."""

    limit: str  # the name of its kind
    most: int
    remaining: int
    reset_s: float  # until it is full again


class ShownRates(tuple[Shown, ...]):
    """Rates as they stand at one moment. ``lines``: the headers that tell them, once somebody has written these."""

    lines: bytes | None = None


_NO_RATES = ShownRates()


class Reservation(Value):
    """The part of an account's limits that a request holds until it is settled."""

    account: str
    request_id: str
    cost: Units
    #: none: the plan has no limits · memory · store · allowance · share or allow: the store was away
    source: str
    shown: ShownRates = _NO_RATES
    slot: str | None = None
    settled: bool = False
    exposed: Units | None = None  # how much more than its cost it may use: it was reserved by habit
    others: tuple[Reservation, ...] = ()  # of the same request, in other accounts: see ``store/together``


@dataclass(slots=True)
class Refusal:
    """Why a request may not go on. Nothing was taken from any limit.

    ``retry_after_s`` None: waiting does not help, the cost is above the limit itself. ``limit`` "store": the shared
    store is away and ``on_down`` is ``deny``.
    """

    limit: str  # the name of a kind (core/limits), or "store"
    detail: str  # for the client: limit, used, reset
    retry_after_s: float | None = None
    shown: ShownRates = _NO_RATES
    holder: Holder | None = None  # whose limit it is; None: that of the only one who was asked for


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit of an account, in the units of its configuration: sums of money in dollars."""

    limit: str  # the name of its kind
    max: float
    used: float
    remaining: float
    reset_s: float | None  # until it is full again; None: unknown (slots)
    scope: str  # "global" | "this router"
    held: float = 0.0  # of what remains: what routers hold ahead of need


class KeyRing(Protocol):
    """The keys this process knows: a snapshot that outlives an outage of the store."""

    #: A snapshot has been read. Until then a valid key cannot be told from a wrong one.
    loaded: bool

    def lookup(self, secret: bytes) -> Key | None:
        """The key with this secret, also a revoked one. No I/O.

        Raises RouterError("store_unavailable") while no snapshot could ever be read: unknown is not invalid.
        """


class Server(Protocol):
    """A server that lives as long as the store."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Store(Protocol):
    """Administration (create_key … reset_quota) raises RouterError("store_unavailable") while the store is away; the
    verbs of the request path never raise."""

    @property
    def keys(self) -> KeyRing: ...

    @property
    def newer_keys(self) -> Callable[[], Awaitable[None]] | None:
        """Waits until the keys are known that were there at the call; None: nobody else makes any. Raises
        RouterError("store_unavailable")."""

    @property
    def streams(self) -> Streams | None:
        """What routers tell each other in order; None: there are no others."""

    @property
    def spending(self) -> SpendBook:
        """What was spent, by day and month."""

    @property
    def state(self) -> str:
        """``up`` or ``down``."""

    @property
    def trouble(self) -> str | None:
        """In a word, why it is ``down`` (``store/ailments``): absent, read_only, out_of_memory …"""

    @property
    def notice(self) -> str | None:
        """What an operator should know or change about the store, if anything."""

    async def start(self) -> None:
        """Connect. A store that is away does not stop the router: it starts in state ``down``."""

    async def stop(self) -> None:
        """Give back what is held, and disconnect."""

    def set_plans(self, plans: Mapping[str, Plan]) -> None:
        """Put new plans in force for every key. A key whose plan is gone gets ``plan_missing``."""

    def reserve_now(
        self, holder: Holder, amounts: Amounts, request_id: str, now_s: float, most: Amounts | None = None
    ) -> Reservation | Refusal | None:
        """Reserve these amounts without I/O. None: this process cannot decide alone; call ``reserve``.

        ``most``: what it may use, if that is more. It is taken instead where what is in flight could break a limit."""

    async def reserve(
        self, holder: Holder, amounts: Amounts, request_id: str, most: Amounts | None = None
    ) -> Reservation | Refusal:
        """Take them from the shared store, within ``[store] wait`` or one round trip whatever happens."""

    def settle(self, reservation: Reservation, used: Amounts | None) -> None:
        """Correct a reservation to the real usage, once; further calls do nothing. Never blocks, never raises.

        None gives everything back.
        """

    def charge(self, holder: Holder, used: Amounts) -> None:
        """Charge what was used without a reservation, also beyond the limits. Never blocks, never raises."""

    async def create_key(
        self, name: str, plan: str = "default", tenant: str | None = None, *, expires_s: float | None = None
    ) -> tuple[Key, str]:
        """A new key and its secret, which is shown this once. ``tenant`` defaults to the name."""

    async def list_keys(self) -> list[Key]:
        """Oldest first."""

    async def get_key(self, key_id: str) -> Key | None: ...

    async def change_key(self, key_id: str, changes: Mapping[str, str | float | None]) -> Key | None:
        """Give a key another ``name``, ``plan``, ``tenant`` or ``expires_s``; None: there is none. In force on every
        router within about a second; what it has used stays used, as far as the new limits go."""

    async def rotate_key(self, key_id: str, overlap_s: float) -> tuple[Key, str] | None:
        """Give a key a new secret, which is returned this once; None: there is none. All its older secrets work for
        ``overlap_s`` at most from now on. It stays one key, with one account. Raises RouterError if it has too many."""

    async def revoke_key(self, key_id: str) -> bool:
        """Every router refuses the key within about a second. False: there is no such key."""

    async def quota(self, holder: Holder, elsewhere: Units = NOTHING) -> list[LimitState]:
        """How far limits are used. ``elsewhere``: what the other routers hold of them, see ``held``."""

    def held(self) -> dict[str, Units]:
        """The units that this router holds ahead of need, by account; those that it owes are negative."""

    async def reset_quota(self, holder: Holder, kinds: Collection[str] = NAMES) -> None:
        """Forget what an account has used of the rates and sums of these names. Requests in progress keep their
        slots."""

    async def set_runtime(self, name: str, value: str | None) -> None:
        """Set state that routers share and that is in no file, such as drains. None removes it."""

    async def get_runtime(self) -> dict[str, str]: ...

    async def claim(self, name: str, ttl_s: float) -> bool:
        """Be the only router that does something, until ``release`` or for ``ttl_s``. False: another one is, or this
        one itself. Raises RouterError("store_unavailable")."""

    async def release(self, name: str) -> None:
        """Give up a claim of this router's."""

    # notes and marks: see store/notes.py

    def remember(self, kind: str, digest: str, value: str, ttl_s: float) -> None:
        """Keep a small value under a digest for all routers. Never blocks, never raises; the note may get lost."""

    async def recall(self, kind: str, digest: str) -> str | None:
        """The value remembered, in the time of ``reserve``. None: unknown, or its time is over. Raises
        RouterError("store_unavailable") when this router does not know it and the store does not answer."""

    def forget(self, kind: str, digest: str) -> None: ...

    def mark(self, kind: str, digest: str, ttl_s: float) -> None:
        """Mark a digest on every router, from within about a second. Never blocks, never raises."""

    def any_marks(self) -> bool:
        """There is at least one mark."""

    def marked(self, kind: str, digest: str) -> bool:
        """This digest is marked. No I/O."""

    async def ping(self) -> float | None:
        """Round trip in seconds; None: away."""
