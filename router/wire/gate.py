"""What all connections of a listener share: what a client may cost, and which connection waits since when.

Every wait has an absolute limit, which ``Gate.sweep`` enforces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from router.wire.head import RequestHeads

#: Most waits of one kind that one sweep ends: thousands at once would hold up everybody else.
_SWEEP_MAX = 250


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may cost. Those without a default here are settings, see ``config/model.py``."""

    head_bytes: int
    headers: int
    body_bytes: int
    buffered_bytes: int  # bodies of all connections together
    connections: int
    body_timeout_s: float  # of a body that comes slower than body_bytes_per_s
    body_bytes_per_s: int
    body_whole_s: float  # of any body
    stall_s: float  # a client must take stall_bytes of its answer, or all of it, every stall_s
    stall_bytes: int = 1024
    head_timeout_s: float = 8.0
    pace_s: float = 8.0  # a body must bring pace_bytes, or its end, every pace_s
    pace_bytes: int = 8 * 1024
    idle_timeout_s: float = 75.0
    linger_timeout_s: float = 2.0
    write_high_bytes: int = 64 * 1024
    pipelined_bytes: int = 64 * 1024


class Waiting(Protocol):
    """A connection, as the gate sees it: one method for each wait that can last too long."""

    def head_expired(self) -> None: ...
    def body_expired(self) -> None: ...
    def upload_expired(self) -> None: ...
    def pace_expired(self) -> None: ...
    def idle_expired(self) -> None: ...
    def stall_expired(self) -> None: ...
    def abort(self) -> None: ...
    def close_quiet(self) -> None: ...


Connection = TypeVar("Connection", bound=Waiting)


@dataclass(slots=True)
class Gate(Generic[Connection]):
    """The limits, and for each kind of wait the connections that are in it, oldest first."""

    limits: ClientLimits
    now_s: Callable[[], float]
    connections: set[Connection] = field(default_factory=set)
    buffered_bytes: int = 0
    closing: bool = False  # answers carry connection: close
    reader: RequestHeads = field(init=False)
    heads: dict[Connection, float] = field(default_factory=dict)
    bodies: dict[Connection, float] = field(default_factory=dict)
    uploads: dict[Connection, float] = field(default_factory=dict)  # bodies, since their beginning
    paces: dict[Connection, float] = field(default_factory=dict)  # of bodies, since their last look
    idle: dict[Connection, float] = field(default_factory=dict)
    lingering: dict[Connection, float] = field(default_factory=dict)
    stalled: dict[Connection, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reader = RequestHeads(self.limits.headers)

    def reload(self, limits: ClientLimits) -> None:
        self.limits = limits
        self.reader = RequestHeads(limits.headers)

    def sweep(self) -> None:
        """Enforce the absolute limits. Call it a few times a second."""
        now_s, limits = self.now_s(), self.limits
        ends: tuple[tuple[dict[Connection, float], float, Callable[[Connection], None]], ...] = (
            (self.heads, limits.head_timeout_s, lambda c: c.head_expired()),
            (self.bodies, limits.body_timeout_s, lambda c: c.body_expired()),
            (self.uploads, limits.body_whole_s, lambda c: c.upload_expired()),
            (self.paces, limits.pace_s, lambda c: c.pace_expired()),
            (self.idle, limits.idle_timeout_s, lambda c: c.idle_expired()),
            (self.lingering, limits.linger_timeout_s, lambda c: c.abort()),
            (self.stalled, limits.stall_s, lambda c: c.stall_expired()),
        )
        for waiting, timeout_s, end in ends:
            for _ in range(min(len(waiting), _SWEEP_MAX)):
                connection, since_s = next(iter(waiting.items()))
                if now_s - since_s < timeout_s:
                    break
                del waiting[connection]
                end(connection)

    def close_quiet(self, before_s: float) -> None:
        """Close the connections on which nothing has happened since ``before_s`` and no request has begun."""
        for waiting in (self.idle, self.heads):
            for connection in [c for c, since_s in waiting.items() if since_s <= before_s]:
                connection.close_quiet()

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        for waiting in (self.heads, self.bodies, self.uploads, self.paces, self.idle, self.lingering, self.stalled):
            waiting.pop(connection, None)
