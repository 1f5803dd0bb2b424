"""A router with several workers, as the others of its fleet see it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.integration.test_fleet_of_routers import V1, Named, gone, head, until
from tests.support.backends import ScriptedBackend
from tests.support.processes import all_serve, workers
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
            until(partial(all_serve, two), "both workers serve")
            until(lambda: {"edge-2#0", "edge-2#1"} <= set(last_words(one)), "and have told the others")
            yield one, two


async def with_fleet(check: Callable[[RouterProcess, RouterProcess], None]) -> None:
    async with ScriptedBackend() as backend:

        def run() -> None:
            with fleet(Site("us", "a", backend.url, models=["m"])) as (one, two):
                check(one, two)

        await asyncio.to_thread(run)


async def test_a_file_that_is_refused_is_seen_by_the_others_though_the_parent_alone_reads_it() -> None:
    await with_fleet(_refuse_a_file)


def _refuse_a_file(one: RouterProcess, two: RouterProcess) -> None:
    assert one.ask_admin(f"{V1}/status")["differences"] == [], "the number of workers is a router's own"
    good = two.file.read_text()
    two.file.write_text(good + "\n[plans.a]\nrequest_per_minute = 5\n")
    until(lambda: refused(one) is not None, "edge-1 knows of the refused file")
    assert "request_per_minute" in refused(one)["problems"][0]
    (line,) = one.ask_admin(f"{V1}/status")["troubles"]
    assert line.startswith("edge-2 would not start again, its file is refused: ")
    for pid in workers(two):
        os.kill(pid, signal.SIGKILL)
        until(partial(replaced, two, pid), "another process takes its place")
    until(lambda: refused(one) is not None, "so do the workers that took their places")
    two.file.write_text(good)
    until(lambda: refused(one) is None, "the file is right again")
    assert one.ask_admin(f"{V1}/status")["troubles"] == []


def replaced(router: RouterProcess, pid: int) -> bool:
    return pid not in workers(router) and all_serve(router)


def refused(asked: RouterProcess) -> Any:
    lines = {line["name"]: line for line in asked.ask_admin(f"{V1}/routers")["data"]}
    return lines.get("edge-2", {}).get("config_refused")


async def test_one_whose_parent_is_killed_is_gone_though_its_workers_end_in_order() -> None:
    await with_fleet(_kill_the_parent)


def _kill_the_parent(one: RouterProcess, two: RouterProcess) -> None:
    two.process.send_signal(signal.SIGKILL)
    two.process.wait(30)
    until(lambda: gone(one, "edge-2") is not None, "edge-2 is gone")
    (line,) = one.ask_admin(f"{V1}/status")["troubles"]
    assert line.startswith("edge-2 is gone: ")
    last = last_words(one)
    assert last["edge-2"][0] == "gone"
    for worker in ("edge-2#0", "edge-2#1"):
        assert last[worker] == ("left alone", "the process in front of it has died")


def last_words(asked: RouterProcess) -> dict[str, tuple[str, str]]:
    """The last event of each router and worker: what it came to, and why."""
    events = asked.ask_admin(f"{V1}/events?kind=router")["data"]
    return {event["subject"]: (event["to"], event["why"]) for event in reversed(events)}
