"""Backends that prove themselves, against simulated engines: who is let in, when, and what the others hear of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from router import clock
from router.config import Config, parse
from router.control import burn_ins
from router.control.burn_ins import BurnIns, identity_of
from router.core.decisions import Dispatch, Struck
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.policy import POLICIES
from router.core.types import Request
from router.observe.observer import Observer
from tests.shell.test_prober import until
from tests.support.shared_store import SharedStore
from tests.support.sim_engine import MODEL, Client
from tests.support.sim_engine import engine as simulated


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burn_ins, "_SYNC_S", 0.02)
    monkeypatch.setattr(burn_ins, "_CLAIM_S", 0.05)


def config_of(new: Client, *old: Client, engine: str = "vllm") -> Config:
    def backend(name: str, client: Client, probation: str) -> str:
        return (
            f'[[regions.backends]]\nname = "{name}"\nurl = "http://127.0.0.1:{client.server.port}"\n'
            f'engine = "{engine}"\nprobation = "{probation}"\n'
        )

    backends = backend("new", new, "burn-in") + "".join(backend(f"old{n}", c, "trials") for n, c in enumerate(old))
    text = f"[probes]\ninterval = 0.05\ntimeout = 2\n[[regions]]\nname = 'r'\n{backends}"
    return parse(text, "regions.toml", env={}, secrets=False)


@asynccontextmanager
async def router(config: Config, store: SharedStore, name: str = "one") -> AsyncIterator[tuple[BurnIns, Fleet]]:
    fleet = Fleet(Params())
    fleet.apply(config.backends, clock.monotonic_s())
    observer = Observer(fleet, config)
    await observer.start()
    running = BurnIns(fleet, store, observer, router=name, now_s=clock.monotonic_s)
    await running.start()
    try:
        yield running, fleet
    finally:
        await running.stop()
        await observer.stop()


def state(running: BurnIns, backend: str = "r/new") -> str:
    known = running.of(backend)
    return "none" if known is None else known.state


def answers_of(sim: Client) -> int:
    return sum(sim.server.finished_by_reason.values())


def failed_checks(running: BurnIns, backend: str = "r/new") -> list[str]:
    known = running.of(backend)
    assert known is not None
    assert known.report is not None
    return [check["name"] for check in known.report["checks"] if not check["passed"]]


class Fixed:
    def random(self) -> float:
        return 0.0


async def test_a_new_backend_gets_traffic_when_it_has_passed_and_not_before(store: SharedStore) -> None:
    async with simulated() as new, simulated() as old:
        async with router(config_of(new, old), store) as (running, fleet):
            backend = fleet.backends["r/new"]
            assert backend.burning_in_since_s is not None
            assert not backend.usable(clock.monotonic_s())
            await until(lambda: fleet.backends["r/old0"].models)
            policy = POLICIES["ttft"](fleet.params)
            decision = fleet.decide(Request("1", MODEL), policy, clock.monotonic_s(), Fixed(), dry_run=True)
            assert isinstance(decision, Dispatch)
            assert decision.lease.backend == "r/old0"
            await until(lambda: backend.burning_in_since_s is None)
            assert state(running) == "passed", failed_checks(running)
            assert backend.usable(clock.monotonic_s())
            assert backend.health.share(clock.monotonic_s()) < 1.0, "it begins slowly"
            known = running.of("r/new")
            assert known is not None
            assert known.report is not None
            assert known.report["beside"] == "r/old0"
            assert len(known.report["steps"]) == 4
            asked = answers_of(new)
    assert 30 <= asked <= 45
    assert answers_of(old) <= 40


async def test_one_that_fails_stays_outside_and_says_why(store: SharedStore) -> None:
    async with simulated() as new, simulated() as old:
        await new.fault("error_status", status=500)
        async with router(config_of(new, old), store) as (running, fleet):
            await until(lambda: state(running) == "failed")
            assert "errors" in failed_checks(running)
            backend = fleet.backends["r/new"]
            assert backend.burning_in_since_s is not None
            await until(lambda: fleet.models() and fleet.backends["r/old0"].models)
            decision = fleet.decide(
                Request("1", MODEL), POLICIES["ttft"](fleet.params), clock.monotonic_s(), Fixed(), dry_run=True
            )
            assert isinstance(decision, Dispatch)
            assert {c.backend: c.struck for c in decision.candidates}["r/new"] is Struck.BURNING_IN


async def test_all_routers_of_a_store_learn_it_and_a_restart_asks_nobody_again(store: SharedStore) -> None:
    async with simulated() as new, simulated() as old:
        config = config_of(new, old)
        async with router(config, store, "one") as (_, first), router(config, store, "two") as (_, second):
            await until(lambda: first.backends["r/new"].burning_in_since_s is None)
            await until(lambda: second.backends["r/new"].burning_in_since_s is None)
        asked = answers_of(new)
        assert asked <= 50, "one of them measured"
        async with router(config, store, "three") as (_, third):
            assert third.backends["r/new"].burning_in_since_s is None
        assert answers_of(new) <= asked + 5, "nothing but whether it continues answers"


async def test_another_engine_behind_the_name_proves_itself_again(store: SharedStore) -> None:
    async with simulated() as new, simulated() as old:
        config = config_of(new, old)
        name, spec = "r/new", config.backends[0]
        assert identity_of(spec) != identity_of(replace(spec, url="http://127.0.0.1:1"))
        assert identity_of(spec) == identity_of(replace(spec, max_inflight=3))
        async with router(config, store) as (_, fleet):
            await until(lambda: fleet.backends[name].burning_in_since_s is None)
            specs = (replace(spec, max_inflight=3), *config.backends[1:])
            fleet.apply(specs, clock.monotonic_s())
            assert fleet.backends[name].burning_in_since_s is None
            specs = (replace(spec, url="http://127.0.0.1:1"), *config.backends[1:])
            fleet.apply(specs, clock.monotonic_s())
            assert fleet.backends[name].burning_in_since_s is not None
            fleet.apply((replace(specs[0], probation="trials"), *specs[1:]), clock.monotonic_s())
            assert fleet.backends[name].burning_in_since_s is None, "an operator may let it in by the file"


async def test_an_operator_may_measure_one_that_serves(store: SharedStore) -> None:
    async with simulated("llamacpp") as new, simulated("llamacpp") as old:
        async with router(config_of(new, old, engine="llamacpp"), store) as (running, fleet):
            await until(lambda: fleet.backends["r/old0"].models and fleet.backends["r/new"].models)
            running.begin("r/old0")
            await until(lambda: state(running, "r/old0") in ("passed", "failed"))
            assert failed_checks(running, "r/old0") == []
            assert fleet.backends["r/old0"].usable(clock.monotonic_s())
            with pytest.raises(KeyError):
                running.begin("r/none")


async def test_without_a_store_a_router_measures_for_itself(store: SharedStore) -> None:
    store.away = True
    async with simulated() as new, router(config_of(new), store) as (running, fleet):
        await until(lambda: fleet.backends["r/new"].burning_in_since_s is None)
        known = running.of("r/new")
        assert known is not None
        assert known.report is not None
        assert known.report["beside"] is None
