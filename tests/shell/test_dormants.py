"""Models that may sleep: locks that all routers share, and how each model is, for operators."""

from __future__ import annotations

from typing import Any

from router import clock
from router.config import Config, ModelAlias
from router.control.dormants import Dormants, merged
from router.control.sleepers import Sleepers
from router.core.dormancy import Hindrance
from router.core.fleet import Fleet
from router.errors import RouterError
from router.store.memory import MemoryStore
from tests.support.fleets import MODEL, ask, fleet_of

EAST, WEST = "us-east/a", "us-west/a"


def store() -> MemoryStore:
    return MemoryStore({}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)


def dormants(fleet: Fleet | None = None, kept: MemoryStore | None = None, held: int = 0) -> Dormants:
    fleet = fleet or fleet_of(EAST, WEST)
    fleet.dormant = {MODEL: 60.0}
    kept = kept or store()
    config = Config(models={MODEL: ModelAlias(MODEL, least=0, cold_start_s=42.0)})
    return Dormants(fleet, kept, Sleepers(fleet, kept), lambda: config, lambda _: [ask()] * held, now_s=lambda: 100.0)


async def test_one_router_has_all_locks_or_none() -> None:
    kept = store()
    one, other = dormants(kept=kept), dormants(kept=kept)
    assert await one.claim_all(("wake:m:us", "wake:m"), 30.0)
    assert not await other.claim_all(("wake:m:eu", "wake:m"), 30.0)
    assert await other.claim_all(("wake:m:eu",), 30.0), "it was given back"
    await one.release("wake:m:us", "wake:m")
    assert await other.claim_all(("wake:m",), 30.0)


async def test_without_the_store_each_acts_for_itself() -> None:
    class Away(MemoryStore):
        async def claim(self, name: str, ttl_s: float) -> bool:
            raise RouterError("store_unavailable")

    away = Away({}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)
    assert await dormants(kept=away).claim_all(("wake:m",), 30.0)


async def test_a_backend_that_sleeps_rests_unless_it_cannot_be_woken() -> None:
    fleet = fleet_of(EAST, WEST)
    of = dormants(fleet, held=3)
    b = fleet.backends[EAST]
    assert (of.rests(b), of.story(b)) == (False, None)
    await of.sleepers.put({EAST: "engine", WEST: "engine"})
    since_s, why = of.story(b) or (None, "")
    assert (of.rests(b), why, since_s is not None) == (True, "it sleeps until a request comes", True)
    of.known(MODEL).waking_s = 90.0
    assert (of.story(b) or (0, ""))[1] == "it is being woken"
    (told,) = of.document()
    assert (told["state"], told["waking_s"], told["takes_s"], told["held"]) == ("waking", 10.0, 42.0, 3)
    assert (told["asleep"], told["problem"]) == ([EAST, WEST], None)
    of.known(MODEL).trouble = Hindrance("the webhook answered 500: no", "the webhook answered 500", 95.0, 108.0, 2)
    (told,) = of.document()
    assert (told["state"], told["problem"], told["asleep"]) == ("failing", "the webhook answered 500: no", [])
    assert (told["failing_s"], told["again_s"], told["tries"]) == (5.0, 8.0, 2)
    assert (of.rests(b), (of.story(b) or (0, ""))[1]) == (False, "the webhook answered 500: no")


def test_of_several_views_the_one_that_sees_trouble_is_right() -> None:
    def view(state: str, held: int, **more: Any) -> list[dict[str, Any]]:
        return [{"model": "m", "state": state, "held": held} | more]

    (told,) = merged([view("asleep", 1), view("failing", 2, problem="no"), view("running", 4)])
    assert (told["state"], told["held"], told["problem"]) == ("failing", 7, "no")
    assert merged([]) == []


def test_a_model_that_runs_is_not_failing_whatever_its_last_wake_said() -> None:
    of = dormants()
    of.known(MODEL).trouble = Hindrance("the webhook answered 500: no", "the webhook answered 500", 95.0, 108.0, 2)
    (told,) = of.document()
    assert (told["state"], told["problem"], of.trouble(MODEL)) == ("running", None, None)
