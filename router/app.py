"""The composition root: a router process is built, wired, started and stopped here, and nowhere else."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from router import __version__, clock, signals
from router.config import AutoscalingSection, Config, part_of
from router.control.admin import start_admin
from router.control.attendance import Attendance
from router.control.bookkeeper import Bookkeeper
from router.control.burn_ins import BurnIns
from router.control.chronicle import Chronicle
from router.control.drains import Drains
from router.control.fleetwide import card_of, respond
from router.control.muster import Muster
from router.control.notices import Notices
from router.control.operators import Operators, operators_of
from router.control.plane import ControlPlane
from router.control.readiness import why_nobody_is_served
from router.control.registrations import Registrations
from router.control.reload import ConfigReloader
from router.control.scaling import Scaling
from router.control.shared_faults import SharedFaults
from router.control.worker_routes import ANSWERED, WORKER_ROUTES
from router.core.admission import WaitQueue
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.policy import POLICIES
from router.discovery.sources import Sources
from router.gateway.aliases import Aliases
from router.gateway.auth import Authenticator
from router.gateway.explain import Explainer
from router.gateway.in_flight import in_flight
from router.gateway.lifecycle import Lifecycle
from router.gateway.server import Server
from router.gateway.settings import Settings
from router.gateway.tls import ServerTls
from router.gateway.waiting import Place
from router.identity.issuer import Issuer
from router.observe.observer import Observer
from router.store.base import Store
from router.store.fleet_exchange import FleetExchange
from router.store.open import open_store
from router.store.tidings import Counts
from router.systemd import ServiceManager
from router.telemetry.build import diary_of, exporter_of, telemetry_of
from router.telemetry.history import History
from router.telemetry.metrics import GaugeSample
from router.telemetry.writer import LineWriter
from router.upstream.chaos import Chaos
from router.upstream.pool import Network, Pools
from router.wire.listeners import Listeners
from router.words import plural

if TYPE_CHECKING:
    from router.identity.bearers import Bearers

_log = logging.getLogger("router")

#: Objects between two collections of the young, and how many of each go to one of the older.
_GC_THRESHOLDS = (10_000, 20, 50)
#: The time to end that a router may take beyond that of its requests.
STOP_S = 10.0
#: How long the first look at the backends may keep clients waiting.
_SURVEY_S = 1.0


class App:
    """One router process. ``start`` and ``stop`` are each called once; ``serve`` does both around a signal."""

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        *,
        access: LineWriter | None,
        human: bool,
        worker: int | None = None,
    ) -> None:
        """``worker``: its number among several. Then the process in front of it reads the configuration, hands over
        the clients through ``server.adopt`` and checks who may operate. Raises ConfigError for a bad certificate."""
        self._listeners = listeners
        self._worker = worker
        self._manager = ServiceManager(os.environ if worker is None else {})
        self._tls = ServerTls.of(config.router)
        self._stack = AsyncExitStack()
        self.stopping = asyncio.Event()
        rng = random.Random()
        self._params = Params(queue_max=config.limits.queue, breaks_max=config.continuation.breaks)
        self.fleet = Fleet(self._params, router_region=config.router.region)
        name = config.router.name if worker is None else f"{config.router.name}#{worker}"
        self.store: Store = open_store(config, router_name=name)
        self._issuer = Issuer(monotonic_s=clock.monotonic_s)
        self._network = Network.new(clock.monotonic_s)
        self._pools = Pools(self._network)
        self.telemetry = telemetry_of(config, self._models, access=access, human=human)
        self._exporter = exporter_of(self.telemetry, config, self.fleet, version=__version__)
        self._queue = WaitQueue[Place](self._params)
        self._policies = {name: make(self._params) for name, make in POLICIES.items()}
        self.lifecycle = Lifecycle(
            self._settings(config),
            fleet=self.fleet,
            store=self.store,
            pools=self._pools,
            telemetry=self.telemetry,
            queue=self._queue,
            rng=rng,
        )
        self.server = Server(config, self.lifecycle, self.telemetry, self.not_ready)
        self._chaos = Chaos(self._pools, clock.monotonic_s, rng)
        self._observer = self._new_observer(config, rng)
        self._drains = Drains(self.fleet, self.store)
        self._notices = Notices(self.fleet, self.store)
        self._sources = self._new_sources(config, worker)
        forget = self.telemetry.metrics.forget
        self._muster = Muster(self.fleet, self._pools, self._observer, self._chaos, self._sources, forget=forget)
        self._registrations = Registrations(self.fleet, self.store, self._sources, router=name)
        self._burn_ins = BurnIns(self.fleet, self.store, self._observer, router=name, now_s=clock.monotonic_s)
        self._scaling = self._new_scaling(config)
        self._chronicle = Chronicle(
            History(name), self.fleet, self.store, last_error=self._observer.last_error, now_s=clock.monotonic_s
        )
        self._diary = diary_of(config, self.telemetry, self._chronicle.history, worker=worker)
        self._bookkeeper = Bookkeeper(self.store, self.telemetry, self._chronicle.history, lambda: self.reloader.config)
        self._exchange = FleetExchange(
            self.store,
            self._counts,
            self._heard,
            monotonic_s=clock.monotonic_s,
            params=self.fleet.params,
            news=self.fleet.take_prefix_news,
            learned=self.fleet.observe_prefix,
        )
        self._attendance = Attendance(self.store, lambda: self._exchange.card)
        self.reloader = self._new_reloader(config)
        self.control = self._control_plane(Explainer(self.lifecycle, rng))
        self._exchange.answer(partial(respond, self.control, ANSWERED))
        self._write_history()
        self.telemetry.metrics.add_source(self._gauges)
        self._configure(config)

    def _write_history(self) -> None:
        """Those who change something tell the history of it."""
        tellers = (self._drains, self._notices, self._burn_ins, self.control.faults, self.reloader)
        for teller in (*tellers, self._muster, self._registrations, self._scaling.dormants):
            teller.note = self._chronicle.history.note
        self._chronicle.swings = self.lifecycle.demand.degrading.take_swings
        self._chronicle.watch(self._exchange.known, self.telemetry, speaks=not self._worker)

    def _new_sources(self, config: Config, worker: int | None) -> Sources:
        workers = config.router.workers
        return Sources(
            busy=lambda name: (b := self.fleet.backends.get(name)) is not None and b.inflight > 0,
            share=lambda most: most if worker is None else part_of(most, worker, workers),
        )

    def _new_observer(self, config: Config, rng: random.Random) -> Observer:
        refused = self.lifecycle.backend_refused
        observer = Observer(self.fleet, config, names=self._network.names, rng=rng, refused=refused)
        observer.stale = self._chaos.stale
        self.lifecycle.ask_models = observer.ask_models
        return observer

    def _new_scaling(self, config: Config) -> Scaling:
        holding = self.lifecycle.holding
        scaling = Scaling(
            self.fleet,
            self.store,
            self._observer,
            lambda: self.reloader.config,
            waiting=self._queued,
            held=holding.requests,
            asking=config.autoscaling if self._worker is None else AutoscalingSection(),
            shared=config.router.share_port,
            unheard=self._sources.unheard,
            now_s=clock.monotonic_s,
        )
        holding.wake, holding.wait_s = scaling.waker.wake, scaling.waker.wait_s
        holding.trouble = scaling.dormants.trouble
        return scaling

    def _queued(self) -> Mapping[str, int]:
        """Requests that wait for a place or for a backend, by model."""
        return self._queue.by_model + Counter(self.lifecycle.holding.by_model)

    def _new_reloader(self, config: Config) -> ConfigReloader:
        return ConfigReloader(
            config,
            [self._apply],
            announce=self._announce,
            renew=self._renew_tls,
            complete=self._listeners.in_force,
            reloading=self._manager.reloading,
        )

    def _control_plane(self, explain: Explainer) -> ControlPlane:
        return ControlPlane(
            reloader=self.reloader,
            fleet=self.fleet,
            store=self.store,
            telemetry=self.telemetry,
            observer=self._observer,
            drains=self._drains,
            notices=self._notices,
            burn_ins=self._burn_ins,
            chronicle=self._chronicle,
            bookkeeper=self._bookkeeper,
            sources=self._sources,
            registrations=self._registrations,
            exchange=self._exchange,
            attendance=self._attendance,
            faults=SharedFaults(self._chaos, self.store, lambda: self.reloader.config.router.chaos),
            capacity=self._scaling.capacity,
            dormants=self._scaling.dormants,
            degrading=self.lifecycle.demand.degrading,
            explain=explain,
            ready=self.not_ready,
            queued=self._queued,
            in_flight=lambda most: in_flight(self.lifecycle.live, clock.monotonic_s(), most),
            now_s=clock.monotonic_s,
            started_s=clock.monotonic_s(),
            version=__version__,
        )

    def __repr__(self) -> str:
        return f"<App {self.fleet!r} {len(self.lifecycle.live)} requests>"

    def _models(self) -> list[str]:
        return [*self.fleet.models(), *self.lifecycle.force.settings.aliases.names()]

    def _settings(self, config: Config) -> Settings:
        keys, bearers = self.store.keys, self._bearers(config)
        door = Authenticator(config.auth, config.plans, keys, bearers, newer_keys=self.store.newer_keys)
        return Settings(config, door, Aliases(config.models), self._policies)

    def _bearers(self, config: Config) -> Bearers | None:
        """Those of the issuer that the configuration names, if it names one."""
        self._issuer.apply(config.jwt)
        if config.jwt.jwks is None:
            return None
        from router.identity.bearers import Bearers  # imports the library, which few routers need

        return Bearers(config.jwt, config.plans, self._issuer, wall_s=clock.wall_s)

    def _configure(self, config: Config) -> None:
        """What the first load and every reload have in common."""
        self.fleet.dormant = {name: model.wake.wait_s for name, model in config.models.items() if not model.least}
        self.telemetry.tracing.apply(config.tracing)
        self._exchange.card = card_of(config, version=__version__)
        self._network.names.age_s = config.timeouts.name_age
        self._network.connection_age_s = config.timeouts.connection_age
        if not config.router.chaos:
            self._chaos.stop_all()
        self._muster.apply(config)

    def _apply(self, old: Config, new: Config) -> None:
        """Put a new configuration in force. Synchronous: no request sees half of it."""
        self.store.set_plans(new.plans)
        self._configure(new)
        self.lifecycle.force.settings = self._settings(new)
        self.server.reload(new)

    def _renew_tls(self) -> None:
        """Certificates may have been renewed in their files. Raises ConfigError."""
        if self._tls is not None:
            self._tls.renew()
        self._pools.renew_tls()
        self._scaling.autoscalers.renew()
        self._observer.renew_tls()
        self._exporter.renew_tls()

    def _announce(self, generation: int) -> None:
        self.telemetry.generation = generation

    def _gauges(self) -> list[GaugeSample]:
        gate = self.server.gate
        return [
            GaugeSample("router_connections", (), len(gate.connections)),
            GaugeSample("router_buffered_bytes", (), gate.buffered_bytes),
            *self._issuer_gauges(),
        ]

    def _issuer_gauges(self) -> list[GaugeSample]:
        issuer = self._issuer
        if self.reloader.config.jwt.jwks is None:
            return []
        known = GaugeSample("router_jwks_keys", (), 0 if issuer.keys is None else len(issuer.keys))
        return [known] if issuer.age_s is None else [known, GaugeSample("router_jwks_age_seconds", (), issuer.age_s)]

    def _counts(self) -> dict[str, tuple[int, int]]:
        """What this router has in flight, for the others, and by model what waits in it."""
        counts = {name: (b.inflight, b.prompts.tokens) for name, b in self.fleet.backends.items()}
        return counts | self._scaling.counts()

    def _heard(self, counts: Counts) -> None:
        now_s = clock.monotonic_s()
        for name, (inflight, uncached_tokens) in counts.items():
            if name in self.fleet.backends:
                self.fleet.observe_peers(name, inflight, uncached_tokens, now_s)
            else:
                self._scaling.heard(name, inflight)

    def not_ready(self) -> str | None:
        """Why this router should get no traffic, or None."""
        if self.server.gate.closing:
            return "shutting down"
        config = self.reloader.config
        backends = self.fleet.backends.values()
        why = why_nobody_is_served(backends, clock.monotonic_s())
        if not backends and config.sources:
            why = "no usable backend: no source names one"
        if why is not None and not self.fleet.dormant:
            return why
        if config.auth.mode == "keys" and not self.store.keys.loaded:
            return f"no API key can be checked: {self.store.notice}, and was away since the start"
        return None

    async def start(self) -> None:
        """From the store outwards; clients are let in last."""
        config = self.reloader.config
        stack = self._stack
        await self.store.start()
        stack.push_async_callback(self.store.stop)
        await self._issuer.start()
        stack.push_async_callback(self._issuer.stop)
        await self._exporter.start()
        stack.push_async_callback(self._exporter.stop)
        self.telemetry.start()
        stack.callback(self.telemetry.stop)
        if self._diary is not None:
            await self._diary.start()
            stack.push_async_callback(self._diary.stop)
        await self._chronicle.start(__version__)
        stack.push_async_callback(self._chronicle.stop)
        await self._bookkeeper.start()
        stack.push_async_callback(self._bookkeeper.stop)
        await self._drains.start()
        stack.push_async_callback(self._drains.stop)
        await self.control.faults.start()
        stack.push_async_callback(self.control.faults.stop)
        await self._notices.start()
        stack.push_async_callback(self._notices.stop)
        await self._observer.start()
        stack.push_async_callback(self._observer.stop)
        await self._burn_ins.start()
        stack.push_async_callback(self._burn_ins.stop)
        await self._sources.start()
        stack.push_async_callback(self._sources.stop)
        await self._registrations.start()
        stack.push_async_callback(self._registrations.stop)
        await self._exchange.start()
        stack.push_async_callback(self._exchange.stop)
        await self._attendance.start()
        stack.push_async_callback(self._attendance.stop)
        await self._scaling.start()
        stack.push_async_callback(self._scaling.stop)
        await self._start_control(config)
        stack.callback(self._pools.close)
        await self._survey()
        self._muster.serving = True
        self.server.start(self._listeners.clients if self._worker is None else None, self._tls)
        _collect_seldom()

    async def _survey(self) -> None:
        """Let no client in before the backends are known, or their time is up: a request in the first moments would
        be refused for a model or a jurisdiction that is there."""
        deadline_s = clock.monotonic_s() + _SURVEY_S
        while not self._surveyed and clock.monotonic_s() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    @property
    def _surveyed(self) -> bool:
        return self.stopping.is_set() or (self._sources.heard and self._observer.surveyed)

    async def _start_control(self, config: Config) -> None:
        admin, stack = self._listeners.admin, self._stack
        if self._worker is None:
            self.reloader.start()
            stack.push_async_callback(self.reloader.stop)
            runner = await start_admin(self.control, admin, operators_of(config))
        else:
            runner = await start_admin(self.control, admin, Operators(), more=WORKER_ROUTES)
        stack.push_async_callback(runner.cleanup)

    async def stop(self) -> None:
        """Serve on for ``[timeouts] lead``, let running requests end within ``drain``, then stop everything in the
        reverse order."""
        timeouts = self.reloader.config.timeouts
        if left := len(self.lifecycle.live):
            _log.info("draining: %s in progress", plural(left, "request"))
        self._manager.stopping(timeouts.lead + timeouts.drain + STOP_S)
        if not await self.server.drain(timeouts.drain, lead_s=timeouts.lead):
            _log.warning("drain time is over: the remaining requests were ended")
        await self._stack.aclose()
        await self._manager.close()

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT, then drain; a second signal ends at once."""
        signals.on(signal.SIGTERM, signal.SIGINT, act=self.shut_down)
        try:
            await self.start()
        except BaseException:
            await self._stack.aclose()
            raise
        config = self.reloader.config
        _log.info("%s", greeting(config))
        self._manager.ready(greeting(config))
        await self.stopping.wait()
        await self.stop()
        _log.info("router %s has stopped", config.router.name)

    def shut_down(self) -> None:
        """Begin to drain; if that has begun already, end the requests at once."""
        if self.stopping.is_set():
            self.server.hurry = True
            for x in list(self.lifecycle.live):
                x.answer.inbound.abort()
        self.stopping.set()


def _collect_seldom() -> None:
    """Requests leave no cycles behind: what they leave is freed at once. So what was loaded is never looked at again,
    and young objects not at every turn of a busy router, whose requests in flight alone are more than the usual 700."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def greeting(config: Config) -> str:
    router = config.router
    scheme = "https" if router.tls_cert is not None else "http"
    workers = f" by {router.workers} workers" if router.workers > 1 else ""
    sources = f" and those of {plural(len(config.sources), 'source')}" if config.sources else ""
    return (
        f"router {router.name} serves clients on {scheme}://{router.listen} and operators on http://{router.admin} "
        f"with {plural(len(config.backends), 'backend')} in {plural(len(config.regions), 'region')}{sources}{workers}"
    )
