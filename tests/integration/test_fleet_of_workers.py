"""A router with several workers, as the others of its fleet see it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.integration.test_fleet_of_routers import V1, Named, gone, head, until
from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey


@contextmanager
def fleet(site: Site) -> Iterator[tuple[RouterProcess, RouterProcess]]:
    """One with one process, and one with two workers; they know each other."""
    with Valkey() as valkey:
        one = Named([site], head=head(valkey), env={"NAME": "edge-1"})
        two = Named([site], head="workers = 2\n" + head(valkey), env={"NAME": "edge-2"}, errors_allowed=True)
        with one, two:
            until(lambda: len(one.ask_admin(f"{V1}/routers")["data"]) == 2, "they know each other")
            yield one, two


async def with_fleet(check: Callable[[RouterProcess, RouterProcess], None]) -> None:
    async with ScriptedBackend() as backend:

        def run() -> None:
            with fleet(Site("us", "a", backend.url, models=["m"])) as (one, two):
                check(one, two)

        await asyncio.to_thread(run)


async def test_one_whose_parent_is_killed_is_gone_though_its_workers_end_in_order() -> None:
    await with_fleet(_kill_the_parent)


def _kill_the_parent(one: RouterProcess, two: RouterProcess) -> None:
    two.process.send_signal(signal.SIGKILL)
    two.process.wait(30)
    until(lambda: gone(one, "edge-2") is not None, "edge-2 is gone")
    (line,) = one.ask_admin(f"{V1}/status")["troubles"]
    assert line.startswith("edge-2 is gone: ")
    events = one.ask_admin(f"{V1}/events?kind=router")["data"]
    last = {event["subject"]: (event["to"], event["why"]) for event in reversed(events)}
    assert last["edge-2"][0] == "gone"
    for worker in ("edge-2#0", "edge-2#1"):
        assert last[worker] == ("left alone", "the process in front of it has died")
