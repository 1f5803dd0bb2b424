"""An admin API on a real listener, over a real fleet, store, journal, observer and file; no data plane."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from router import clock
from router.config import Config, load
from router.control.admin import start_admin
from router.control.attendance import Attendance
from router.control.bookkeeper import Bookkeeper
from router.control.burn_ins import BurnIns
from router.control.capacity import CensusTaker, goals_of
from router.control.chronicle import Chronicle
from router.control.dormants import Dormants
from router.control.drains import Drains
from router.control.muster import Muster
from router.control.notices import Notices
from router.control.operators import Operators
from router.control.plane import ControlPlane
from router.control.registrations import Registrations
from router.control.reload import ConfigReloader
from router.control.shared_faults import SharedFaults
from router.control.sleepers import Sleepers
from router.core.decisions import Candidate
from router.core.degrading import Degrading
from router.core.fleet import Fleet
from router.core.params import Params
from router.discovery.sources import Sources
from router.errors import RouterError
from router.observe.observer import Observer
from router.store.base import Store
from router.store.fleet_exchange import FleetExchange
from router.store.open import open_store
from router.telemetry.counters import Metrics
from router.telemetry.history import History
from router.telemetry.journal import AttemptRecord, Journal, Record
from router.telemetry.labels import Labels
from router.telemetry.sink import Telemetry
from router.telemetry.stats import Stats
from router.upstream.chaos import Chaos
from router.upstream.pool import Network, Pools

TOML = """
[router]
name = "edge"
region = "us-east"
policy = "p2c"

[probes]
interval = 3600
timeout = 0.3

[plans.default]

[plans.gold]
requests_per_minute = 100
tokens_per_minute = 1000
concurrent = 5

[[regions]]
name = "us-east"
jurisdiction = "us"
location = [38.9, -77.0]
  [[regions.backends]]
  name = "a"
  url = "http://127.0.0.1:1"
  engine = "vllm"
  models = ["m"]
  cost_usd_hour = 2.5
  [[regions.backends]]
  name = "b"
  url = "http://127.0.0.1:2"
  models = ["m", "n"]

[[regions]]
name = "eu-west"
  [[regions.backends]]
  name = "a"
  url = "http://127.0.0.1:3"
  models = ["n"]
"""


@dataclass
class Admin:
    control: ControlPlane
    session: aiohttp.ClientSession
    url: str
    path: Path  # of regions.toml
    not_ready: str | None = None
    on_their_way: list[dict[str, Any]] = field(default_factory=list)  # requests in flight

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        return await self.ask("GET", path, status, **options)

    async def post(self, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        return await self.ask("POST", path, status, **({"json": body} if body is not None else {}), **options)

    async def ask(self, method: str, path: str, status: int, **options: Any) -> Any:
        async with self.session.request(method, self.url + path, **options) as response:
            text = await response.text()
            assert response.status == status, f"{method} {path}: {response.status} {text}"
            return await response.json() if response.content_type == "application/json" else text


def listener() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(64)
    made.setblocking(False)
    return made


def _explain(fleet: Fleet, body: dict[str, Any]) -> dict[str, Any]:
    if body["model"] not in fleet.models():
        raise RouterError("unknown_model", param="model")
    return {"decision": {"asked": body}}


def _dormants(fleet: Fleet, store: Store, reloader: ConfigReloader) -> Dormants:
    sleepers = Sleepers(fleet, store)
    return Dormants(fleet, store, sleepers, lambda: reloader.config, lambda model: (), now_s=clock.monotonic_s)


def _census_taker(fleet: Fleet, sources: Sources, reloader: ConfigReloader) -> CensusTaker:
    now_s, unheard = clock.monotonic_s, sources.unheard
    return CensusTaker(fleet, lambda: goals_of(reloader.config), dict, unheard=unheard, now_s=now_s)


def _write_history(history: History, control: ControlPlane, muster: Muster, reloader: ConfigReloader) -> None:
    tellers = (control.drains, control.notices, control.burn_ins, control.faults)
    for teller in (*tellers, control.registrations, muster, reloader):
        teller.note = history.note


@asynccontextmanager
async def administering(
    path: Path, token: str | None = None, *, operators: Operators | None = None
) -> AsyncIterator[Admin]:
    """The file must exist. Probes run only when asked for."""
    config = load(path)
    fleet = Fleet(Params(), router_region=config.router.region)
    store = open_store(config, router_name=config.router.name)
    labels = Labels(fleet.models, clock.monotonic_s)
    telemetry = Telemetry(Journal(100), Metrics(labels), Stats(labels, clock.monotonic_s))
    observer = Observer(fleet, config)
    sources = Sources(busy=lambda name: name in fleet.backends and fleet.backends[name].inflight > 0)

    pools = Pools(Network.new(clock.monotonic_s))
    chaos = Chaos(pools, clock.monotonic_s)

    def put_in_force(old: Config, new: Config) -> None:
        store.set_plans(new.plans)
        muster.apply(new)

    reloader = ConfigReloader(config, [put_in_force], poll_s=0.05)
    history = History(config.router.name)
    chronicle = Chronicle(history, fleet, store, last_error=observer.last_error, now_s=clock.monotonic_s)
    muster = Muster(fleet, pools, observer, chaos, sources, forget=lambda names: None)
    muster.apply(config)
    control = ControlPlane(
        reloader=reloader,
        fleet=fleet,
        store=store,
        telemetry=telemetry,
        observer=observer,
        drains=Drains(fleet, store),
        burn_ins=BurnIns(fleet, store, observer, router=config.router.name, now_s=clock.monotonic_s),
        faults=SharedFaults(chaos, store, lambda: reloader.config.router.chaos),
        notices=Notices(fleet, store),
        capacity=_census_taker(fleet, sources, reloader),
        dormants=_dormants(fleet, store, reloader),
        degrading=Degrading(fleet),
        chronicle=chronicle,
        bookkeeper=Bookkeeper(store, telemetry, history, lambda: reloader.config),
        sources=sources,
        registrations=Registrations(fleet, store, sources, router=config.router.name),
        attendance=Attendance(store, lambda: {"name": config.router.name}),
        exchange=FleetExchange(store, dict, lambda _: None, monotonic_s=clock.monotonic_s, params=fleet.params),
        explain=partial(_explain, fleet),
        ready=lambda: admin.not_ready,
        queued=lambda: {next(iter(fleet.models()), "m"): 3},
        in_flight=lambda most: (admin.on_their_way[:most], len(admin.on_their_way)),
        now_s=clock.monotonic_s,
        started_s=clock.monotonic_s(),
        version="1.2.3",
    )
    _write_history(history, control, muster, reloader)
    await store.start()
    await observer.start()
    await sources.start()
    await control.registrations.start()
    runner = await start_admin(control, listener(), operators or Operators(token))
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(headers={"X-Router-Admin": "1"}) as session:
        admin = Admin(control, session, f"http://{host}:{port}", path)
        try:
            yield admin
        finally:
            await runner.cleanup()
            await control.registrations.stop()
            await sources.stop()
            await observer.stop()
            await store.stop()
            # aiohttp ends its handlers in tasks of their own
            await asyncio.sleep(0)


def record(number: int = 0, **changes: Any) -> Record:
    made = Record(
        f"req-{number}",
        1000.0 + number,
        model="m",
        served_model="m",
        path="/v1/chat/completions",
        status=200,
        policy="p2c",
        attempts=[
            AttemptRecord("eu-west/a", "eu-west", 0.001, "unreachable", status=None, detail="connection refused"),
            AttemptRecord("us-east/a", "us-east", 0.01, "ok", 0.2, 0.25, 200, kind="retry"),
        ],
        candidates=(Candidate("us-east/a", 0.25, (("rtt", 0.05), ("queue", 0.2)), None),),
        ttft_s=0.21,
        duration_s=1.0,
        output_tokens=20,
        prefix_blocks=(1, 2, 3),
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made
