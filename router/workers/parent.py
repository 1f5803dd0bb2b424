"""The process in front of several workers. It owns everything that they share, and handles no request of a client."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack, suppress

from router import __version__, clock, signals
from router.app import STOP_S, greeting
from router.config import Config
from router.control.admin import serve
from router.control.autoscalers import Autoscalers
from router.control.operators import operators_of
from router.control.reload import ConfigReloader
from router.gateway.tls import ServerTls
from router.store.embedded import EmbeddedValkey
from router.systemd import ServiceManager
from router.tasks import spawn
from router.wire.listeners import Listeners
from router.words import plural
from router.workers.admin.fanout import Fanout
from router.workers.admin.faults import Faults
from router.workers.admin.links import WorkerGoneError, WorkerLink
from router.workers.crew import Crew

_log = logging.getLogger("router.workers")


class Parent:
    """Owns the sockets, the embedded store, the configuration in force and the admin API of all workers."""

    def __init__(self, config: Config, listeners: Listeners, *, human: bool) -> None:
        """Make it inside a running loop. Raises ConfigError for a bad certificate."""
        self._listeners = listeners
        self._tls = ServerTls.of(config.router)
        self._valkey = EmbeddedValkey() if config.store.redis == "embedded" else None
        redis = self._valkey.url if self._valkey is not None else config.store.redis
        self._faults = Faults(clock.monotonic_s)
        self._crew = Crew(config, listeners.clients, redis=redis, human=human, welcome=self._welcome)
        self._manager = ServiceManager(os.environ)
        self._reloader = ConfigReloader(
            config,
            [self._put_in_force],
            renew=self._renew,
            complete=listeners.in_force,
            reloading=self._manager.reloading,
        )
        self._stopping = asyncio.Event()
        self._telling = asyncio.Lock()
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Parent {self._crew!r}>"

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; a second signal ends at once. Raises StoreError and StartError."""
        signals.on(signal.SIGTERM, signal.SIGINT, act=self._shut_down)
        async with self._stack:
            await self._start()
            await self._stopping.wait()
            timeouts = self._reloader.config.timeouts
            self._manager.stopping(timeouts.lead + timeouts.drain + STOP_S)
            self._listeners.clients.close()
            _log.info("draining %s", plural(len(self._crew.links()), "worker"))
        _log.info("router %s has stopped", self._reloader.config.router.name)

    async def _start(self) -> None:
        config = self._reloader.config
        self._stack.push_async_callback(self._manager.close)
        if self._valkey is not None:
            self._stack.push_async_callback(self._valkey.stop)
        fanout = Fanout(
            self._crew.links,
            self._reloader,
            self._faults,
            deaths=lambda: self._crew.deaths,
            now_s=clock.monotonic_s,
            version=__version__,
        )
        self._reloader.note = fanout.note
        self._reloader.judged = lambda: spawn(self._tell_refused(), name="refused file")
        runner = await serve(fanout.app(operators_of(config)), self._listeners.admin)
        self._stack.push_async_callback(runner.cleanup)  # operators can watch the drain
        self._autoscalers = Autoscalers(config.autoscaling, fanout.capacity, shared=config.router.share_port)
        await self._autoscalers.start()
        self._stack.push_async_callback(self._autoscalers.stop)
        self._stack.push_async_callback(self._stop_crew)
        if self._valkey is not None:
            await self._valkey.start()
        self._reloader.start()
        self._stack.push_async_callback(self._reloader.stop)
        await self._crew.start(self._stopping)
        _log.info("%s", greeting(config))
        self._manager.ready(greeting(config))

    async def _stop_crew(self) -> None:
        timeouts = self._reloader.config.timeouts
        await self._crew.stop(timeouts.lead + timeouts.drain)

    async def _put_in_force(self, _: Config, new: Config) -> None:
        changed = new != self._reloader.config
        await self._crew.adopt(new, self._reloader.generation + changed)

    async def _renew(self) -> None:
        """Check the certificates before each worker reads them, so that a bad one is refused once."""
        if self._tls is not None:
            self._tls.renew()
        if self._tls is not None or any(b.tls_ca or b.tls_cert for b in self._reloader.config.backends):
            await self._crew.adopt(self._reloader.config, self._reloader.generation)

    async def _welcome(self, link: WorkerLink) -> None:
        """Tell a worker that is started what the others know."""
        await self._faults.hand_on(link)
        await self._tell_refused(link)

    async def _tell_refused(self, new: WorkerLink | None = None) -> None:
        """The workers do not read the file, and other routers ask them. One after the other: the last holds."""
        async with self._telling:
            for link in self._crew.links() if new is None else [new]:
                with suppress(WorkerGoneError):
                    await link.refused(self._reloader.refused)

    def _shut_down(self) -> None:
        if self._stopping.is_set():
            spawn(self._crew.abort(), name="abort")
        self._stopping.set()
