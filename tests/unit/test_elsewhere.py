"""The fleet as seen from another region: another distance, the same load, and nothing altered here."""

from __future__ import annotations

from enum import Enum
from typing import Any

from router.core.decisions import Dispatch
from router.core.elsewhere import fleet_seen_from
from router.core.outcomes import Outcome
from tests.support.fleets import Driver, ask, fleet_of

NAMES = ("us-east/a", "us-east/b", "eu-west/a")


def state_of(value: Any, seen: dict[int, int]) -> Any:
    """Everything that ``value`` holds, as plain data that can be compared. Cycles become numbers."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, Enum):
        return str(value)
    if id(value) in seen:
        return f"seen {seen[id(value)]}"
    seen[id(value)] = len(seen)
    if isinstance(value, dict):
        return [(state_of(k, seen), state_of(v, seen)) for k, v in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(state_of(v, dict(seen))) for v in value)
    parts: dict[str, Any] = {}
    for cls in type(value).__mro__:
        for names in (getattr(cls, "__slots__", ()), getattr(cls, "__struct_fields__", ())):
            for name in names if isinstance(names, tuple) else ():
                parts[name] = state_of(getattr(value, name, None), seen)
    parts |= {name: state_of(v, seen) for name, v in getattr(value, "__dict__", {}).items()}
    items = [state_of(v, seen) for v in value] if hasattr(value, "__iter__") else []
    return type(value).__name__, parts, items


def busy_fleet() -> Driver:
    """Requests done, under way, failed and retried; prefixes known; one backend ejected."""
    driver = Driver(fleet_of(*NAMES))
    for name, rtt_s in zip(NAMES, (0.002, 0.002, 0.083), strict=True):
        driver.fleet.observe_rtt(name, rtt_s, 0.0)
    for i in range(20):
        driver.serve(i * 0.3, prefix_blocks=(1, 2, i), tokens_per_block=30.0)
    for i in range(6):
        driver.fail(7.0 + i * 0.1, Outcome.UNREACHABLE, exclude=("us-east/a", "eu-west/a"))
    for i in range(5):
        driver.send(8.0 + i * 0.01, request_id=str(i), prompt_tokens=2000)
    return driver


def test_the_way_is_another_one() -> None:
    driver = Driver(fleet_of("us-east/a", "eu-west/a"))
    for name, rtt_s in (("us-east/a", 0.002), ("eu-west/a", 0.083)):
        driver.fleet.observe_rtt(name, rtt_s, 0.0)
    here = driver.fleet.decide(ask(), driver.policy, 0.0, driver.rng, dry_run=True)
    there = fleet_seen_from(driver.fleet, "eu-west", 0.0).decide(ask(), driver.policy, 0.0, driver.rng, dry_run=True)
    assert isinstance(here, Dispatch)
    assert isinstance(there, Dispatch)
    assert (here.lease.backend, there.lease.backend) == ("us-east/a", "eu-west/a")
    rtt = {c.backend: dict(c.terms)["rtt"] for c in there.candidates}
    assert rtt["eu-west/a"] < 0.01 < 0.05 < rtt["us-east/a"]


def test_load_and_prefixes_are_those_that_are_known_here() -> None:
    driver = busy_fleet()
    away = fleet_seen_from(driver.fleet, "eu-west", 8.2)
    for name, b in driver.fleet.backends.items():
        copy = away.backends[name]
        assert (copy.inflight, copy.prompts.tokens, copy.state) == (
            b.inflight,
            b.prompts.tokens,
            b.state,
        )
        assert copy.prefix is b.prefix
    away.audit()


def test_the_live_fleet_is_left_as_it_was() -> None:
    driver = busy_fleet()
    before = state_of(driver.fleet, {})
    for region in ("eu-west", "us-east", "ap-east"):
        away = fleet_seen_from(driver.fleet, region, 8.2)
        for i in range(5):
            request = ask(prefix_blocks=(1, 2, 3), tokens_per_block=30.0, request_id=f"what if {i}")
            away.decide(request, driver.policy, 8.2, driver.rng, dry_run=True)
    assert state_of(driver.fleet, {}) == before
    driver.fleet.audit()
