"""Every route of the admin API: the server, its OpenAPI document and the answers of several workers are made from it.

process        this process: alive, ready, its metrics and figures
fleet          regions and backends: how they are, drained, given notice, resumed, probed
capacity       how many backends there are and how many are needed, also as Kubernetes asks for it
requests       requests that ended, and why a request goes where it goes
keys           API keys, and how far their limits are used
configuration  the configuration in force, its reload, and the policies
chaos          faults that an operator injects
"""

from __future__ import annotations

from router.control.route import Route
from router.control.routes import capacity, chaos, configuration, fleet, keys, process, requests

ROUTES: tuple[Route, ...] = (
    *process.ROUTES,
    *fleet.ROUTES,
    *capacity.ROUTES,
    *requests.ROUTES,
    *keys.ROUTES,
    *configuration.ROUTES,
    *chaos.ROUTES,
)
