"""One request on its way, and the ways it can be ended from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from router.core.outcomes import Charge
from router.errors import RouterError

if TYPE_CHECKING:
    from router.core.course import Course
    from router.core.loop_guard import LoopGuard
    from router.core.prices import Leg
    from router.core.shapes import WholeShape
    from router.core.transcript import Transcript
    from router.core.types import Lease, Request, Usage
    from router.gateway.answer import Answer
    from router.gateway.envelope import Envelope
    from router.gateway.hedge import Hedge
    from router.gateway.ingress import Ask
    from router.gateway.keepers import Keeper
    from router.gateway.poison import Suspect
    from router.gateway.relay import Relay
    from router.gateway.rest import Rest
    from router.store.base import Key, Reservation
    from router.store.groups import Company
    from router.telemetry.journal import Record
    from router.upstream.classify import Objection
    from router.wire.flow import Flow
    from router.wire.inbound import InboundRequest


class ClientGone(Exception):  # noqa: N818 - an event, not an error
    """Thrown into a request's flow when its client has left."""


class Superseded(Exception):  # noqa: N818 - an event, not an error
    """Thrown into a request's flow when its second attempt has the first content token: see hedge.py."""


class PassedOn(RouterError):  # noqa: N818
    """A backend found fault with the request: the client gets the backend's own words."""

    def __init__(self, objection: Objection) -> None:
        super().__init__("upstream_error", objection.message)
        self.objection = objection

    @property
    def status(self) -> int:
        return self.objection.status


class Exchange(msgspec.Struct, eq=False):
    """Everything about a request that outlives a single stop."""

    answer: Answer
    request: InboundRequest
    envelope: Envelope
    request_id: bytes
    arrival_s: float
    record: Record
    flow: Flow | None = None
    key: Key | None = None
    ask: Ask | None = None
    need: Request | None = None
    course: Course | None = None
    models: tuple[str, ...] = ()  # that may answer it, in the order in which they are tried
    company: Company | None = None  # the groups whose limits it takes from besides its key's, if any has limits
    keeper: Keeper | None = None  # of what it continues or asks about
    reservation: Reservation | None = None
    lease: Lease | None = None  # of the attempt in progress
    hedge: Hedge | None = None  # the second attempt beside it
    trial: Suspect | None = None  # backends died of its body before: see gateway/poison.py
    found_dead: str = ""  # a backend, before the request was sent to it
    connect_s: float | None = None  # what opening a connection took, in the attempt in progress
    relay: Relay[Exchange] | None = None  # of the attempt in progress, or of the answer that was begun
    guard: LoopGuard | None = None  # of an answer that has begun, if it may be ended when it repeats itself
    transcript: Transcript | None = None  # of an answer that has begun, if another backend may continue it
    rest: Rest | None = None  # the request for the rest of it, after a break
    shape: WholeShape | None = None  # of a whole answer that the attempt in progress puts together from a stream
    usage: Usage | None = None  # of all its legs
    legs: list[Leg] = msgspec.field(default_factory=list)  # that broke off; tokens from the beginning of the answer on
    charge: Charge = Charge.REFUND
