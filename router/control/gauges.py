"""What stands now, as gauges: the fleet, the queue, the store. Read when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterator

from router.control import vanished
from router.control.gpu_views import gpu_samples
from router.control.plane import ControlPlane
from router.control.reload import ConfigReloader
from router.control.source_views import sources
from router.core.backend import Backend
from router.core.census import Group
from router.core.health import State
from router.telemetry.metrics import GaugeSample


def samples(control: ControlPlane) -> Iterator[GaugeSample]:
    """What is not known (no probe yet, no fresh scrape) has no sample."""
    now_s = control.now_s()
    yield GaugeSample("router_workers", (), 1)
    yield GaugeSample("router_build_info", (control.version,), 1)
    yield GaugeSample("router_config_generation", (), control.reloader.generation)
    if control.reloader.watching:
        yield from reload_samples(control.reloader)
    queued = control.queued()
    for model in sorted({*control.fleet.models(), *queued}):
        yield GaugeSample("router_queue_length", (model,), queued.get(model, 0))
    yield GaugeSample("router_store_up", (), control.store.state == "up")
    if control.store.streams is not None:
        there = (peer.name for peer in control.exchange.known())
        yield GaugeSample("router_routers_gone", (), len(vanished.gone(control.chronicle.history, there)))
    yield from _dormant_samples(control)
    yield from _degrading_samples(control)
    for group in control.capacity.groups():
        yield from _group_samples(group)
    control.chronicle.look()
    for kind, events in control.chronicle.history.counts.items():
        yield GaugeSample("router_events_total", (kind,), events)
    for labels, times in control.chronicle.transitions.items():
        yield GaugeSample("router_backend_transitions_total", labels, times)
    yield from control.bookkeeper.samples()
    for source in sources(control):
        place = (source["name"], source["kind"])
        yield GaugeSample("router_source_up", place, source["state"] != "away")
        yield GaugeSample("router_source_backends", place, source["backends"])
        yield GaugeSample("router_source_backends_in_use", place, source["in_use"])
    for backend in control.fleet.backends.values():
        yield from _backend_samples(backend, now_s)
        rests = control.dormants.rests(backend)
        yield GaugeSample("router_backend_asleep", (backend.region, backend.name), rests)
        yield from gpu_samples(control, backend)
        found = control.observer.continues(backend.name)
        if found is not None and found.how is not None:
            yield GaugeSample("router_backend_continues", (backend.region, backend.name), found.how)


def _dormant_samples(control: ControlPlane) -> Iterator[GaugeSample]:
    """Of models of which nothing need run."""
    dormants = control.dormants
    for labels, calls in dormants.calls.items():
        yield GaugeSample("router_wake_calls_total", labels, calls)
    for labels, failures in dormants.failures.items():
        yield GaugeSample("router_wake_failures_total", labels, failures)
    for model in dormants.fleet.dormant:
        yield GaugeSample("router_wake_failing", (model,), dormants.trouble(model) is not None)


def _degrading_samples(control: ControlPlane) -> Iterator[GaugeSample]:
    """Of models that have smaller variants."""
    strained = control.degrading.strained(control.now_s())
    for model, alias in control.reloader.config.models.items():
        if alias.degrade:
            yield GaugeSample("router_model_strained", (model,), model in strained)
    for labels, requests in control.degrading.counts.items():
        yield GaugeSample("router_degraded_requests_total", labels, requests)


def _group_samples(group: Group) -> Iterator[GaugeSample]:
    labels = (group.region, group.model)
    yield GaugeSample("router_backends_there", labels, group.there)
    yield GaugeSample("router_backends_idle_usd_per_hour", labels, group.idle_usd_hour)
    yield GaugeSample("router_requests_per_second", labels, group.asked.per_s)
    for standing in group.standings:
        if standing.state in ("saturated", "starved"):
            where = (group.region, standing.backend, group.model, standing.state)
            yield GaugeSample("router_backend_standing", where, 1)
    if group.goal is None or group.needed is None or group.short is None:
        return
    yield GaugeSample("router_backends_needed", labels, group.needed)
    yield GaugeSample("router_backends_short", labels, group.short)
    yield GaugeSample("router_ttft_target_seconds", labels, group.goal.target_ttft_s)
    if group.predicted_p95_s is not None:
        yield GaugeSample("router_ttft_predicted_seconds", labels, group.predicted_p95_s)


def reload_samples(reloader: ConfigReloader) -> Iterator[GaugeSample]:
    """How the last reload went; the start counts as one."""
    yield GaugeSample("router_config_last_reload_successful", (), reloader.refused is None)
    yield GaugeSample("router_config_last_reload_timestamp_seconds", (), reloader.tried_s)


def _backend_samples(backend: Backend, now_s: float) -> Iterator[GaugeSample]:
    labels = (backend.region, backend.name)
    yield GaugeSample("router_inflight", labels, backend.inflight)
    yield GaugeSample("router_backend_usable", labels, backend.usable(now_s))
    yield GaugeSample("router_backend_draining", labels, backend.draining)
    yield GaugeSample("router_backend_leaving", labels, backend.leaving is not None)
    yield GaugeSample("router_backend_ready", labels, not backend.unready)
    for state in State:
        yield GaugeSample("router_backend_state", (*labels, state.value), state is backend.state)
    if backend.rtt.mean_s is not None:
        yield GaugeSample("router_backend_rtt_seconds", labels, backend.rtt.mean_s)
    if backend.others.load is not None:
        yield GaugeSample("router_backend_scrape_age_seconds", labels, max(0.0, now_s - backend.others.load.at_s))
    load = backend.others.fresh_load(now_s)
    if load is None:
        return
    for name, value in (
        ("router_backend_running", load.running),
        ("router_backend_waiting", load.waiting),
        ("router_backend_kv_ratio", load.kv_ratio),
    ):
        if value is not None:
            yield GaugeSample(name, labels, value)
