"""Watches every backend of the configuration: a probe loop and a scrape loop each, and the fleet is told.

An engine that can perhaps continue answers of others is asked for it as well, now and then."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from router import clock
from router.config import Config, ProbesSection, secret
from router.core.fleet import Fleet
from router.core.types import BackendSpec, Rng
from router.observe.client import AskFailedError, EngineClient, Failure, ProbeAnswer
from router.observe.continuing import Finding
from router.observe.gpus import GpuWatch
from router.observe.prober import Prober, ProbeResult
from router.observe.proving import Proving
from router.observe.scraper import Scraper
from router.tasks import spawn, stop, supervise
from router.wire.names import Names

#: A probe and a scrape cost about a millisecond of CPU: with many backends they come less often.
_BACKENDS_PER_S_MAX = 100
_JITTER = 0.1
_ASK_AGAIN_S = 1.0


@dataclass(slots=True)
class _Watch:
    spec: BackendSpec
    key: str | None
    probes: ProbesSection
    prober: Prober
    scraper: Scraper
    proving: Proving
    gpus: GpuWatch | None
    tasks: tuple[asyncio.Task[Any], ...]
    ask_again_s: float = float("-inf")
    asking: asyncio.Task[Any] | None = None


class Observer:
    """One per process. ``refused`` is called when nobody listens at a backend any more: what streams from there may
    be frozen for good."""

    def __init__(
        self,
        fleet: Fleet,
        config: Config,
        *,
        names: Names | None = None,
        now_s: Callable[[], float] = clock.monotonic_s,
        rng: Rng | None = None,
        refused: Callable[[str], None] | None = None,
    ) -> None:
        self._fleet = fleet
        self._config = config
        self._specs = config.backends
        self._now_s = now_s
        self._rng = rng if rng is not None else random.Random()
        self._refused = refused
        #: do a backend's metrics stand still, on purpose?
        self.stale: Callable[[str], bool] = lambda backend: False
        self._names = names
        self._client: EngineClient | None = None
        self._watches: dict[str, _Watch] = {}
        self._turn = asyncio.Semaphore()

    async def start(self) -> None:
        """Begin to watch; the first probes go out at once."""
        self._client = EngineClient(self._names)
        self.reload(self._config, self._specs)

    async def stop(self) -> None:
        watches = self._watches.values()
        tasks = [task for watch in watches for task in (*watch.tasks, watch.asking) if task is not None]
        self._watches.clear()
        await stop(*tasks)
        if self._client is not None:
            await self._client.close()
            self._client = None

    def reload(self, config: Config, specs: tuple[BackendSpec, ...] | None = None) -> None:
        """Watch these backends as ``config`` says; without ``specs`` those of the file. Those that did not change are
        watched on undisturbed.

        Call it after the fleet knows the backends.
        """
        self._config = config
        self._specs = config.backends if specs is None else specs
        if self._client is None:
            return
        wanted = {spec.name: spec for spec in self._specs}
        for name, watch in list(self._watches.items()):
            if wanted.get(name) != watch.spec or watch.probes != config.probes:
                for task in watch.tasks:
                    task.cancel()
                del self._watches[name]
        for name, spec in wanted.items():
            if name not in self._watches:
                self._watches[name] = self._watch(spec)

    def renew_tls(self) -> None:
        """Read the TLS files of the backends again, for new connections."""
        if self._client is not None:
            self._client.renew_tls()

    @property
    def surveyed(self) -> bool:
        """Has every backend been probed and, if it answered, been heard of its models?"""
        probers = [watch.prober for watch in self._watches.values()]
        return all(p.last is not None and (p.models or not p.last.ok) for p in probers)

    def last_error(self, backend: str) -> str | None:
        """Why the last probe or scrape of a backend failed; None when both were well."""
        watch = self._watches.get(backend)
        if watch is None:
            return None
        verdict = watch.prober.last
        return verdict.error if verdict is not None and not verdict.ok else watch.scraper.last_error

    async def send(
        self,
        backend: str,
        path: str,
        body: bytes | None,
        *,
        timeout_s: float,
        bytes_max: int,
        feed: Callable[[bytes], None] | None = None,
    ) -> ProbeAnswer:
        """POST ``body`` to a backend, or GET. Raises AskFailedError, also when it is watched no more."""
        watch, client = self._watches.get(backend), self._client
        if watch is None or client is None:
            raise AskFailedError(Failure.UNREACHABLE, "no such backend is watched")
        return await client.ask(
            watch.spec, path, key=watch.key, timeout_s=timeout_s, bytes_max=bytes_max, feed=feed, body=body
        )

    async def find_out(self, backend: str) -> Finding:
        """Ask a backend now whether it can continue answers, if it is to be asked at all."""
        watch = self._watches.get(backend)
        if watch is None:
            return Finding(None, "no such backend is watched")
        if watch.proving.asks:
            await watch.proving.ask()
        return watch.proving.finding

    def continues(self, backend: str) -> Finding | None:
        """Whether a backend can continue answers of others, as far as is known; None if there is no such backend."""
        watch = self._watches.get(backend)
        return None if watch is None else watch.proving.finding

    def gpus(self, backend: str) -> GpuWatch | None:
        """The GPUs of a backend; None where the configuration names no page of theirs."""
        watch = self._watches.get(backend)
        return None if watch is None else watch.gpus

    async def probe_now(self, backend: str) -> dict[str, Any]:
        """Probe and scrape at once, out of turn. Raises KeyError when there is no such backend."""
        watch = self._watches[backend]
        verdict = await watch.prober.probe(ask_models=True)
        load = await watch.scraper.scrape() if watch.scraper.has_page else None
        return {
            "backend": backend,
            "ok": verdict.ok,
            "status": verdict.status,
            "rtt_s": verdict.rtt_s,
            "error": verdict.error or watch.scraper.last_error,
            "models": list(watch.prober.models),
            "load": asdict(load) if load is not None else None,
        }

    def ask_models(self, backend: str) -> None:
        """Ask a backend for its models soon, out of turn: it has just denied one. Once a second at most."""
        watch, now_s = self._watches.get(backend), self._now_s()
        if watch is not None and now_s >= watch.ask_again_s:
            watch.ask_again_s = now_s + _ASK_AGAIN_S
            watch.asking = spawn(watch.prober.probe(ask_models=True), name=f"ask {backend} for its models")

    def _watch(self, spec: BackendSpec) -> _Watch:
        assert self._client is not None, "start() comes first"
        key = secret(spec.key_env) if spec.key_env else None
        timeout_s = self._config.probes.timeout
        proving = Proving(spec, key, self._fleet, self._client, self._turn, now_s=self._now_s)
        prober = Prober(
            spec,
            key,
            self._fleet,
            self._client,
            timeout_s=timeout_s,
            now_s=self._now_s,
            refused=self._refused,
            answers=proving.answers,
        )
        scraper = Scraper(spec, key, self._fleet, self._client, timeout_s=timeout_s, now_s=self._now_s)
        scraper.stale = lambda: self.stale(spec.name)
        tasks = [supervise(partial(self._loop, prober.probe, prober.pause_s), name=f"probe {spec.name}")]
        if scraper.has_page:
            scraping = partial(self._loop, scraper.scrape, lambda interval_s: interval_s)
            tasks.append(supervise(scraping, name=f"scrape {spec.name}"))
        if proving.asks:
            tasks.append(supervise(proving.run, name=f"ask {spec.name} to continue an answer"))
        gpus = None
        if spec.gpu_metrics is not None:
            gpus = GpuWatch(spec, self._client, timeout_s=timeout_s, now_s=self._now_s)
            tasks.append(supervise(gpus.run, name=f"read the GPU metrics of {spec.name}"))
        return _Watch(spec, key, self._config.probes, prober, scraper, proving, gpus, tuple(tasks))

    async def _loop(
        self, ask: Callable[[], Awaitable[ProbeResult | object]], pause_s: Callable[[float], float]
    ) -> None:
        """Ask again and again."""
        while True:
            started_s = self._now_s()
            await ask()
            interval_s = max(self._config.probes.interval, len(self._watches) / _BACKENDS_PER_S_MAX)
            due_s = started_s + pause_s(interval_s) * (1 + _JITTER * (2 * self._rng.random() - 1))
            await asyncio.sleep(max(0.001, due_s - self._now_s()))
