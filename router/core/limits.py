"""The kinds of limits, once.

Everything that handles limits loops over ``KINDS``: the arithmetic (``core/quota`` and its twin in Lua), purses,
answers and headers, ``quota show``, metrics, configuration keys and their documentation.

A limit is a kind and a scope. An account holds what one scope has used of each kind.
"""

from __future__ import annotations

from enum import Enum
from operator import itemgetter
from typing import Final, Literal, NamedTuple

from router.core.periods import DAY, MONTH, Period
from router.core.types import Value

#: A limit above this is as good as none, and the arithmetic in doubles would no longer be exact.
PER_MINUTE_MAX = 10**11
MICRO = 1_000_000


class Shape(Enum):
    """How a limit is counted. The values are the names in the Lua scripts."""

    RATE = "rate"  # units per minute, with a burst of one minute
    SLOTS = "slots"  # requests in progress
    SUM = "sum"  # units per calendar period


class Amounts(Value):
    """What one request uses, before it is known which of it is limited. ``least``: that much is certain, the rest is a
    guess; None: all of it is."""

    requests: int = 1
    prompt_tokens: int = 0
    output_tokens: int = 0
    microusd: int = 0
    least: Amounts | None = None


#: Names of what a kind may count. ``cost`` makes them from amounts.
COUNTED = ("requests", "tokens", "prompt_tokens", "output_tokens", "microusd")


class LimitKind(NamedTuple):
    """One kind of limit. ``counts`` is one of ``COUNTED``. Names end up in JSON, metrics and logs."""

    name: str
    counts: Literal["requests", "tokens", "prompt_tokens", "output_tokens", "microusd"]
    shape: Shape
    key: str  # of a plan in regions.toml, and the attribute of Plan
    doc: str  # of that key
    high: float  # the highest value of that key
    each: str  # words after an amount in a refusal: "600 requests per minute"
    label: str  # words in tables: "600 | requests a minute"
    field: str = ""  # of an account in the store; slots have a key of their own
    period: Period | None = None  # of a sum
    header: bytes | None = None  # the end of x-ratelimit-limit-…: rates only, which OpenAI's clients know

    @property
    def money(self) -> bool:
        return self.counts == "microusd"

    def units(self, written: float | None) -> int | None:
        """A limit as somebody writes it (dollars, not millionths) in units of the arithmetic."""
        if written is None:
            return None
        return round(written * MICRO) if self.money else min(int(written), PER_MINUTE_MAX)


#: The order of limits in every tuple that has an entry for each kind, and in everything that is shown.
KINDS: Final = (
    LimitKind(
        "requests",
        counts="requests",
        shape=Shape.RATE,
        key="requests_per_minute",
        doc="Requests per minute.",
        high=10**9,
        each="requests per minute",
        label="requests a minute",
        field="r",
        header=b"requests",
    ),
    LimitKind(
        "tokens",
        counts="tokens",
        shape=Shape.RATE,
        key="tokens_per_minute",
        doc="Prompt and output tokens per minute.",
        high=10**12,
        each="tokens per minute",
        label="tokens a minute",
        field="t",
        header=b"tokens",
    ),
    LimitKind(
        "concurrent",
        counts="requests",
        shape=Shape.SLOTS,
        key="concurrent",
        doc="Requests in flight at once.",
        high=10**6,
        each="concurrent requests",
        label="in flight at once",
    ),
    LimitKind(
        "budget",
        counts="microusd",
        shape=Shape.SUM,
        key="budget_usd_month",
        doc="US dollars per calendar month (UTC).",
        high=1e9,
        each="USD per month",
        label="USD this month",
        field="b",
        period=MONTH,
    ),
    LimitKind(
        "prompt_tokens",
        counts="prompt_tokens",
        shape=Shape.RATE,
        key="prompt_tokens_per_minute",
        doc="Prompt tokens per minute.",
        high=10**12,
        each="prompt tokens per minute",
        label="prompt tokens a minute",
        field="i",
    ),
    LimitKind(
        "output_tokens",
        counts="output_tokens",
        shape=Shape.RATE,
        key="output_tokens_per_minute",
        doc="Output tokens per minute.",
        high=10**12,
        each="output tokens per minute",
        label="output tokens a minute",
        field="o",
    ),
    LimitKind(
        "budget_day",
        counts="microusd",
        shape=Shape.SUM,
        key="budget_usd_day",
        doc="US dollars per day (UTC).",
        high=1e9,
        each="USD per day",
        label="USD today",
        field="d",
        period=DAY,
    ),
)

NAMES: Final = tuple(kind.name for kind in KINDS)
INDEX: Final = {name: i for i, name in enumerate(NAMES)}
#: The kind that allowances are divided by: every request counts as at least one.
REQUESTS: Final = INDEX["requests"]
#: The one kind of shape SLOTS: an account has one set of them.
(SLOTS,) = (i for i, kind in enumerate(KINDS) if kind.shape is Shape.SLOTS)
RATES: Final = tuple(i for i, kind in enumerate(KINDS) if kind.shape is Shape.RATE)
SUMS: Final = tuple((i, kind.period) for i, kind in enumerate(KINDS) if kind.period is not None)

#: An integer for each kind. As a cost: the units a request takes. In a settlement a positive number is given back, a
#: negative one is charged. As an allowance: the units taken, and how many of the offered slots.
Units = tuple[int, ...]
NOTHING: Final[Units] = (0,) * len(KINDS)

_by_kind = itemgetter(*(COUNTED.index(kind.counts) for kind in KINDS))


def cost(a: Amounts) -> Units:
    """What these amounts take of each kind."""
    return _by_kind((a.requests, a.prompt_tokens + a.output_tokens, a.prompt_tokens, a.output_tokens, a.microusd))  # type: ignore[no-any-return]


def least_of(amounts: Amounts, most: Amounts | None) -> Units | None:
    """The part of a request that is certain; None: all of it is."""
    least = (most or amounts).least
    return None if least is None else cost(least)


class Limits:
    """The limits of one account: by position in the order of KINDS or by name. None: no limit.

    Sums of money are in millionths of a dollar.
    """

    __slots__ = ("active", "answers", "budgets", "counts_output", "limits", "money", "slots", "unlimited")

    def __init__(self, *limits: int | None, **named: int | None) -> None:
        given = dict(zip(NAMES, limits, strict=False)) | named
        if len(limits) > len(NAMES) or not given.keys() <= INDEX.keys():
            raise TypeError(f"limits are {', '.join(NAMES)}")
        self.limits = tuple(given.get(name) for name in NAMES)
        #: (index, shape, limit) of every kind that is limited
        self.active = tuple((i, KINDS[i].shape, limit) for i, limit in enumerate(self.limits) if limit is not None)
        self.slots = self.limits[SLOTS]
        self.budgets = tuple(limit for i, _, limit in self.active if KINDS[i].money)
        self.money = bool(self.budgets)
        self.counts_output = any(KINDS[i].counts not in ("requests", "prompt_tokens") for i, _, _ in self.active)
        #: of every rate that counts output tokens: how many per minute, and whether the prompt counts, too
        self.answers = tuple(
            (limit, KINDS[i].counts == "tokens")
            for i, shape, limit in self.active
            if shape is Shape.RATE and KINDS[i].counts in ("tokens", "output_tokens")
        )
        self.unlimited = not self.active

    def __repr__(self) -> str:
        return f"Limits({', '.join(f'{NAMES[i]}={limit}' for i, _, limit in self.active)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limits) and self.limits == other.limits

    def __hash__(self) -> int:
        return hash(self.limits)

    def __getitem__(self, index: int) -> int | None:
        return self.limits[index]

    def replaced(self, index: int, limit: int | None) -> Limits:
        """These limits with another one of one kind."""
        return Limits(*self.limits[:index], limit, *self.limits[index + 1 :])
