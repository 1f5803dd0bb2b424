"""Engines and a router for one row, as processes; all are gone when the row is over."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from bench.reliability.asking import MODEL
from bench.reliability.host import Host, Machine
from sim.distance import Distance
from tests.support.router import RouterProcess, Site

NEAR, FAR, THIRD = "us-east", "eu-central", "ap-northeast"
_LAWS = {NEAR: "us", FAR: "eu", THIRD: "jp"}
_RTT_MS = {NEAR: 2.0, FAR: 40.0, THIRD: 80.0}
#: of a round trip
_JITTER = 0.2
SHAPES = ("vllm", "sglang", "llamacpp", "openai")


@dataclass(slots=True)
class Stage:
    hosts: dict[str, Host]
    router: RouterProcess
    #: between the router and the regions that were given a distance
    lines: dict[str, Distance] = field(default_factory=dict)

    @property
    def near(self) -> list[Machine]:
        return self.hosts[NEAR].machines

    async def fault(self, machines: Iterable[Machine], kind: str, **parameters: object) -> None:
        for machine in machines:
            await asyncio.to_thread(machine.fault, kind, **parameters)

    async def reset(self, machines: Iterable[Machine]) -> None:
        for machine in machines:
            await asyncio.to_thread(machine.reset)

    async def ask(self, path: str, body: object = None, method: str | None = None) -> dict[str, object]:
        return dict(await asyncio.to_thread(self.router.ask_admin, path, body, method=method))

    async def backends(self) -> dict[str, dict[str, object]]:
        found = (await self.ask("/admin/v1/backends"))["data"]
        return {b["name"]: b for b in found}  # type: ignore[attr-defined]

    async def metric(self, name: str) -> float:
        """The sum of all its series."""
        text = await asyncio.to_thread(self._page, "/metrics")
        values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(map(float, values))

    def _page(self, path: str) -> str:
        with urllib.request.urlopen(self.router.admin + path, timeout=10) as answer:
            return str(answer.read().decode())

    async def usable(self, region: str) -> bool:
        return any(b["usable"] for b in (await self.backends()).values() if b["region"] == region)


def sites_of(hosts: Iterable[Host], *, extra: str = "") -> list[Site]:
    return [
        Site(host.region, machine.name, machine.url, machine.kind, [machine.model], _LAWS[host.region], extra)
        for host in hosts
        for machine in host.machines
    ]


@asynccontextmanager
async def stage(
    *regions: str,
    engines: Sequence[str] = ("vllm",),
    profile: str = "crowd",
    models: Sequence[str] = (MODEL,),
    head: str = "",
    more: Sequence[Site] = (),
    auth: bool = False,
    wait: str | None = "/readyz",
    extra: str = "",
    rtt_s: Mapping[str, float] | None = None,
    command: Sequence[str] = ("-m", "router"),
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Stage]:
    """The first region is where the router stands, and the nearest. ``head`` stands in the router's configuration: keys
    of [router] first; ``extra`` in that of every backend. ``more`` backends stand before those of the regions.
    ``rtt_s`` gives regions of one engine a distance of their own, which can change."""
    far = dict(rtt_s or {})
    hosts = [
        Host(name, engines, models, profile=profile, rtt_ms=0.0 if name in far else _RTT_MS[name]) for name in regions
    ]
    if not auth:
        head += '\n[auth]\nmode = "open"\n'
    router = RouterProcess(
        [],
        head=f'region = "{NEAR}"\n{head}',
        env=env or {},
        command=command,
        errors_allowed=True,
        wait=wait,
    )
    async with AsyncExitStack() as stack:
        for host in hosts:
            stack.push_async_callback(asyncio.to_thread, host.kill)
        await asyncio.gather(*(asyncio.to_thread(host.start) for host in hosts))
        there = {host.region: host for host in hosts}
        lines = {
            name: await stack.enter_async_context(Distance(there[name].machines[0].port, s, s * _JITTER))
            for name, s in far.items()
        }
        router.sites = [*more, *sites_of(hosts, extra=extra)]
        for site in router.sites:
            if site.region in lines:
                site.url = f"http://127.0.0.1:{lines[site.region].port}"
        await asyncio.to_thread(router.__enter__)
        stack.push_async_callback(asyncio.to_thread, _end, router)
        yield Stage(there, router, lines)


def _end(router: RouterProcess) -> None:
    """Without waiting for its streams: what was to be measured has been."""
    if router.process.poll() is None:
        router.process.kill()
        router.process.wait()
    router.__exit__(None, None, None)


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 30.0) -> float:
    """Seconds until it holds. Raises TimeoutError."""
    began_s = time.monotonic()
    while True:
        outcome = condition()
        if outcome if isinstance(outcome, bool) else await outcome:
            return time.monotonic() - began_s
        if time.monotonic() - began_s > timeout_s:
            raise TimeoutError("it did not happen in time")
        await asyncio.sleep(0.01)
