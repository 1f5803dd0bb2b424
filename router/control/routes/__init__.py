"""Every route of the admin API: the server, its OpenAPI document and the answers of several workers are made from it.

page           the page for a browser
process        this process: alive, ready, its metrics and figures
fleet          regions and backends: how they are, drained, given notice, resumed, probed
capacity       how many backends there are and how many are needed, also as Kubernetes asks for it
sources        where backends come from, and backends that register themselves
requests       requests that ended, and why a request goes where it goes
learned        what this router has learned of its fleet, and the records it learned from
events         the history: what changed for all requests
keys           API keys
quotas         how far limits are used, and who spends
configuration  the configuration in force, its reload, and the policies
operators      who may operate, and who asks
chaos          faults that an operator injects
"""

from __future__ import annotations

from router.control.route import Route
from router.control.routes import (
    capacity,
    chaos,
    configuration,
    events,
    fleet,
    keys,
    learned,
    operators,
    page,
    process,
    quotas,
    requests,
    sources,
)

ROUTES: tuple[Route, ...] = (
    *page.ROUTES,
    *process.ROUTES,
    *fleet.ROUTES,
    *capacity.ROUTES,
    *sources.ROUTES,
    *requests.ROUTES,
    *learned.ROUTES,
    *events.ROUTES,
    *keys.ROUTES,
    *quotas.ROUTES,
    *configuration.ROUTES,
    *operators.ROUTES,
    *chaos.ROUTES,
)
