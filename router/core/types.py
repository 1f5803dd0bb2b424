"""The values that travel between the shell and the core: who asks, for what, and who could answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from router.core.prices import Tariff
from router.core.traits import Continues

if TYPE_CHECKING:
    from router.core.cost import Ahead
    from router.core.outcomes import Outcome


class Value(msgspec.Struct, gc=False):
    """Base of structs that are made once per request, in C.

    The garbage collector does not track them, so they must never be part of a reference cycle (ADR 14).
    """


class Rng(Protocol):
    """Chance, handed in by the caller: ``random.Random`` fits."""

    def random(self) -> float: ...


class Priority(IntEnum):
    """A smaller number is served first."""

    INTERACTIVE = 0
    STANDARD = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """A site with its own network and failure domain."""

    name: str
    jurisdiction: str | None = None
    location: tuple[float, float] | None = None  # latitude, longitude in degrees


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One engine endpoint in a region, as configured. ``name`` is ``region/short``, e.g. ``us-east/a``."""

    name: str
    region: RegionSpec
    url: str
    engine: str = "openai"
    models: tuple[str, ...] = ()  # empty: asked from /v1/models
    max_inflight: int = 256
    cost_usd_hour: float = 0.0
    key_env: str | None = None
    probation: str = "trials"  # what a new one goes through: nothing but trials after a failure, or a "burn-in" first
    continues: str = "auto"  # how it can continue answers of others: asked, or the word of a traits.Continues
    tls_ca: str | None = None  # path of the authorities that may vouch for it; None: those of the system
    tls_cert: str | None = None  # path of the certificate that we show it, and its key
    tls_key: str | None = None
    tls_server_name: str | None = None  # the name its certificate is for; None: that of the url
    notice_url: str | None = None  # who is asked whether its machine is to go away
    gpu_metrics: str | None = None  # the page with the metrics of its GPUs
    #: of its tokens, whichever model; none: those of the models. A new price does not close connections.
    prices: Tariff = field(default=(), compare=False)


class Request(Value):
    """One client request, as far as the core needs to know it. Built once, when the body has been read."""

    request_id: str
    model: str
    tenant: str = "anonymous"
    prompt_tokens: int = 0  # estimate until the engine says better
    max_output_tokens: int = 0
    #: a hash for each fixed-size block of the raw prompt, of everything up to its end: see affinity.prefix_blocks
    prefix_blocks: tuple[int, ...] = ()
    #: prompt tokens that one prefix block stands for
    tokens_per_block: float = 0.0
    residency: frozenset[str] | None = None  # allowed jurisdictions; None: anywhere
    pin_region: str | None = None
    affinity: str | None = None
    priority: Priority = Priority.STANDARD
    arrival_s: float = 0.0
    deadline_s: float = float("inf")
    #: whether its first token can be seen; a whole answer in one piece teaches nothing about first tokens
    stream: bool = True
    #: the engine computes nothing for it: it needs no place, and teaches nothing
    light: bool = False
    #: the only backend that can serve it: the keeper of the response that it continues or asks about
    pin_backend: str | None = None
    #: a part of the answer came from another backend: a backend must be able to continue it, at least in this way
    continues: Continues = Continues.NO


@dataclass(slots=True)
class LoadSample:
    """One reading of an engine's metrics. ``None`` is unknown: neither empty nor full."""

    at_s: float
    running: float | None = None
    waiting: float | None = None
    kv_ratio: float | None = None  # 0..1
    kv_capacity_tokens: float | None = None


class Usage(Value):
    """Tokens of one answer. ``reported`` is false when they were counted from the events, not told by the engine."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    reported: bool = False


class Learner(Protocol):
    """A policy that learns from what becomes of its choices."""

    def first_token(self, lease: Lease, now_s: float) -> None: ...

    def ended(self, lease: Lease, outcome: Outcome, now_s: float) -> None: ...


class Lease(Value, eq=False):
    """One attempt in flight on one backend, from the decision to the last byte. Compared by identity."""

    request: Request
    backend: str
    started_s: float
    prompt_tokens: int
    uncached_tokens: int
    #: what attention computes for these, see cost.prompt_pairs
    pairs: int
    predicted_ttft_s: float | None = None
    first_token_s: float | None = None
    probation: bool = False  # a trial of a backend on its way back
    ended: bool = False
    #: prompt tokens we expected in the backend's prefix cache
    cached_tokens: float = 0.0
    #: the request had failed elsewhere before
    retry: bool = False
    #: what was ahead of it at the decision: the features its first token is learned with
    ahead: Ahead | None = None
    #: prefix blocks that the backend has only if this attempt comes to something
    fresh_blocks: Sequence[int] = ()
    learner: Learner | None = None
