"""Everything the admin API needs, handed in by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from router.control.attendance import Attendance
from router.control.bookkeeper import Bookkeeper
from router.control.burn_ins import BurnIns
from router.control.capacity import CensusTaker
from router.control.chronicle import Chronicle
from router.control.dormants import Dormants
from router.control.drains import Drains
from router.control.notices import Notices
from router.control.registrations import Registrations
from router.control.reload import ConfigReloader
from router.control.shared_faults import SharedFaults
from router.core.degrading import Degrading
from router.core.fleet import Fleet
from router.discovery.sources import Sources
from router.observe.observer import Observer
from router.store.base import Store
from router.store.fleet_exchange import FleetExchange
from router.telemetry.sink import Telemetry


@dataclass(slots=True)
class ControlPlane:
    """``ready`` says why this router should get no traffic, or None. ``explain`` answers the body of POST explain with
    ``{"decision": ...}``; it may raise RouterError. ``queued`` counts the requests that wait for a place,
    by model. ``in_flight`` lists the oldest requests on their way, as many as are asked for, and counts all of them."""

    reloader: ConfigReloader
    fleet: Fleet
    store: Store
    telemetry: Telemetry
    observer: Observer
    drains: Drains
    burn_ins: BurnIns
    faults: SharedFaults
    notices: Notices
    capacity: CensusTaker
    dormants: Dormants
    degrading: Degrading
    chronicle: Chronicle
    bookkeeper: Bookkeeper
    sources: Sources
    registrations: Registrations
    exchange: FleetExchange
    attendance: Attendance
    explain: Callable[[dict[str, Any]], Awaitable[dict[str, Any]] | dict[str, Any]]
    ready: Callable[[], str | None]
    queued: Callable[[], Mapping[str, int]]
    in_flight: Callable[[int], tuple[list[dict[str, Any]], int]]
    now_s: Callable[[], float]
    started_s: float  # monotonic
    version: str
