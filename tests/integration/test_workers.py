"""One router of several processes: it answers, counts, limits, reloads and stops as one, and outlives each of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.conftest import OPEN
from tests.support import processes
from tests.support.backends import DONE, Call, ScriptedBackend, chunk, event
from tests.support.processes import alive, children, command, workers
from tests.support.router import ROOT, RouterProcess, Site
from tests.support.valkey import Valkey

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": []}
STREAM = {**ASK, "stream": True}
TWO = 'workers = 2\n[store]\nredis = "embedded"\n'


def worker_of(request_id: str) -> str:
    """The part of the id that is the same for all requests of a process."""
    return request_id.split("-")[1]


@asynccontextmanager
async def serving(sites: list[Site], head: str) -> AsyncIterator[RouterProcess]:
    """A router all of whose workers serve."""
    async with RouterProcess(sites, head=head) as r:
        await until(lambda: all_serve(r))
        yield r


async def all_serve(router: RouterProcess) -> bool:
    return await asyncio.to_thread(processes.all_serve, router)


async def all_have_ended(router: RouterProcess) -> bool:
    return bool((await admin(router, "/admin/v1/status"))["traffic"]["inflight"] == 0)


async def revoked(router: RouterProcess, key_id: str) -> bool:
    """False: the store is away for a moment, on a machine that stalls."""
    try:
        await admin(router, f"/admin/v1/keys/{key_id}", method="DELETE")
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


async def ask(url: str, **options: Any) -> tuple[int, str]:
    """Over a connection of its own. The status and the request's id."""
    async with aiohttp.ClientSession() as fresh, fresh.post(url + CHAT, json=ASK, **options) as reply:
        await reply.read()
        return reply.status, reply.headers["x-request-id"]


async def ask_both(url: str, count: int = 20, **options: Any) -> list[tuple[int, str]]:
    """At least ``count`` answers, some by each of two workers.

    The connections stay open meanwhile: workers share clients evenly, and may leave all requests to one of them when
    each client goes before the next one comes.
    """
    answers: list[tuple[int, str]] = []
    async with contextlib.AsyncExitStack() as kept, asyncio.timeout(30):
        while len(answers) < count or len({worker_of(i) for _, i in answers}) < 2:
            client = await kept.enter_async_context(aiohttp.ClientSession())
            async with client.post(url + CHAT, json=ASK, **options) as reply:
                await reply.read()
                answers.append((reply.status, reply.headers["x-request-id"]))
    return answers


async def admin(router: RouterProcess, path: str, body: object = None, method: str | None = None) -> Any:
    return await asyncio.to_thread(router.ask_admin, path, body, method=method)


async def metrics(router: RouterProcess, http: aiohttp.ClientSession) -> list[tuple[str, str, float]]:
    """(name, labels, value)"""
    async with http.get(router.admin + "/metrics") as reply:
        text = await reply.text()
    found = [re.fullmatch(r"(\w+)(\{.*\})? (\S+)", line) for line in text.splitlines() if not line.startswith("#")]
    assert all(found), text
    return [(m[1], m[2] or "", float(m[3])) for m in found if m is not None]


def total(samples: list[tuple[str, str, float]], name: str) -> float:
    return sum(value for n, _, value in samples if n == name)


async def until(condition: Any, timeout_s: float = 30.0) -> float:
    """Seconds until the condition, a coroutine function, was true."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < timeout_s
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_every_answer_is_counted_once_whoever_gave_it(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as b, serving([Site("a", "a", b.url)], TWO + OPEN) as r:
        tail = await http.get(r.admin + "/admin/v1/requests/tail")
        answers = await ask_both(r.url, 60)
        assert {status for status, _ in answers} == {200}
        ids = {request_id for _, request_id in answers}
        assert len(ids) == len(answers)

        entries = (await admin(r, "/admin/v1/requests?limit=1000"))["data"]
        assert {e["request_id"] for e in entries} == ids
        assert len(entries) == len(ids)
        ends = [e["arrival_s"] + e["duration_s"] for e in entries]
        assert ends == sorted(ends, reverse=True)
        assert len((await admin(r, "/admin/v1/requests?limit=7"))["data"]) == 7
        lines = (await admin(r, "/admin/v1/journal"))["data"]
        assert {line["request_id"] for line in lines} == ids
        assert lines == sorted(lines, key=lambda line: float(line["arrival_s"]))
        assert [b["name"] for b in (await admin(r, "/admin/v1/learned"))["backends"]] == ["a/a"]
        for request_id in list(ids)[:6]:
            assert (await admin(r, f"/admin/v1/requests/{request_id}"))["request_id"] == request_id
            explained = await admin(r, "/admin/v1/explain", {"request_id": request_id})
            assert explained["decision"]["candidates"][0]["backend"] == "a/a"
        with pytest.raises(urllib.error.HTTPError) as missing:
            await admin(r, "/admin/v1/requests/req-none")
        missing.value.close()
        assert missing.value.code == 404

        stats = await admin(r, "/admin/v1/stats")
        assert (stats["requests"], stats["by_region"][0]["requests"]) == (len(ids), len(ids))
        (backend,) = (await admin(r, "/admin/v1/backends"))["data"]
        assert (backend["requests_total"], backend["max_inflight"], backend["usable"]) == (len(ids), 256, True)
        samples = await metrics(r, http)
        assert total(samples, "router_requests_total") == len(ids)
        assert total(samples, "router_request_duration_seconds_count") == len(ids)
        assert total(samples, "router_backend_usable") == 1, "two workers look at one backend"
        assert total(samples, "router_workers") == 2
        assert len(samples) == len({(name, labels) for name, labels, _ in samples})

        told = set()
        async with asyncio.timeout(30):
            while len(told) < len(ids):
                line = await tail.content.readline()
                if line.startswith(b"data: "):
                    told.add(json.loads(line[6:])["request_id"])
        tail.close()
        assert told == ids


async def test_one_journal_file_of_all_workers(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    head = TWO + OPEN + f'[journal]\npath = "{path}"\nfile_bytes = 65536\nfiles = 50\n'
    async with ScriptedBackend() as b:
        async with serving([Site("a", "a", b.url)], head) as r:
            answers = [a for _ in range(15) for a in await asyncio.gather(*(ask(r.url) for _ in range(20)))]
        lines = [line for file in tmp_path.glob("journal*") for line in file.read_text().splitlines()]
        assert len(list(tmp_path.glob("journal*"))) > 1, "it was never rotated"
        assert sorted(json.loads(line)["request_id"] for line in lines) == sorted(i for _, i in answers)


async def test_clients_are_spread_evenly_and_streams_are_seen_in_sum(http: aiohttp.ClientSession) -> None:
    go_on = asyncio.Event()

    async def held(call: Call) -> None:
        await call.stream("one", finish=False)
        await go_on.wait()
        await call.send(chunk(event(None, "stop")), chunk(DONE), b"0\r\n\r\n")

    async def ask_all(many: aiohttp.ClientSession) -> tuple[list[aiohttp.ClientResponse], int]:
        """The answers, and how many the worker gives that has the fewest."""
        replies = await asyncio.gather(*(many.post(r.url + CHAT, json=STREAM) for _ in range(60)))
        shares = Counter(worker_of(reply.headers["x-request-id"]) for reply in replies)
        return replies, min(shares.values()) if len(shares) == 2 else 0

    async with ScriptedBackend(held) as b, serving([Site("a", "a", b.url)], TWO + OPEN) as r:
        # A worker that does not get its turn of the processor leaves its clients to the other one, so: half each, once.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as many:
            replies, fewest = await ask_all(many)
            for _ in range(4):
                if fewest >= 18:
                    break
                go_on.set()
                for reply in replies:
                    assert (await reply.read()).endswith(DONE)
                await until(lambda: all_have_ended(r))
                go_on.clear()
                replies, fewest = await ask_all(many)
            assert fewest >= 18
            assert (await admin(r, "/admin/v1/status"))["traffic"]["inflight"] == 60
            assert (await admin(r, "/admin/v1/regions"))["data"][0]["inflight"] == 60
            assert total(await metrics(r, http), "router_inflight") == 60
            go_on.set()
            for reply in replies:
                assert (await reply.read()).endswith(DONE)
        await until(lambda: all_have_ended(r))


async def test_limits_hold_over_all_workers(http: aiohttp.ClientSession) -> None:
    plans = '[auth]\nmode = "keys"\n[plans.few]\nrequests_per_minute = 20\n'
    async with ScriptedBackend() as b:
        with Valkey() as valkey:
            head = f'workers = 3\n[store]\nredis = "{valkey.url}"\non_down = "deny"\n{plans}'
            async with serving([Site("a", "a", b.url)], head) as r:
                key = await asyncio.to_thread(r.create_key, "few", "few")
                auth = {"authorization": f"Bearer {key}"}
                began, statuses = time.monotonic(), Counter[int]()
                async with asyncio.timeout(60):
                    while True:
                        before = statuses[503]
                        for _ in range(8):  # all at once would stall a slow machine themselves
                            answers = await asyncio.gather(*(ask(r.url, headers=auth) for _ in range(10)))
                            statuses.update(status for status, _ in answers)
                        assert set(statuses) <= {200, 429, 503}, "a worker did not know the key yet"
                        if statuses[503] == before:  # else the store was away for a moment, on a machine that stalls
                            break
                refilled = int((time.monotonic() - began) / 3)
                # Who met such a moment was refused, and may have used up a request all the same.
                assert 20 - statuses[503] <= statuses[200] <= 21 + refilled, statuses
                quotas = await admin(r, "/admin/v1/quotas")
                assert quotas["fleet"] == {"scope": "all routers", "routers": ["test"], "silent": []}
                (lately,) = [quota["last_minute"] for quota in quotas["data"]]
                if time.monotonic() - began < 50:
                    assert (lately["requests"], lately["refused"]) == (statuses[200], statuses[429] + statuses[503])
                (entry,) = (await admin(r, "/admin/v1/keys"))["data"]
                await until(lambda: revoked(r, entry["id"]))
                assert {status for status, _ in await ask_both(r.url, 12, headers=auth)} == {401}


async def test_a_dead_worker_takes_only_its_own_streams_and_is_replaced(http: aiohttp.ClientSession) -> None:
    go_on = asyncio.Event()

    async def held(call: Call) -> None:
        await call.stream("one", finish=False)
        await go_on.wait()
        await call.send(chunk(event(None, "stop")), chunk(DONE), b"0\r\n\r\n")

    async with ScriptedBackend(held) as b, serving([Site("a", "a", b.url)], TWO + OPEN) as r:
        r.errors_allowed = True
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as many:
            replies = await asyncio.gather(*(many.post(r.url + CHAT, json=STREAM) for _ in range(20)))
            shares = Counter(worker_of(reply.headers["x-request-id"]) for reply in replies)
            before = workers(r)
            os.kill(before[0], signal.SIGKILL)
            b.behaviour = lambda call: call.stream("hello")
            assert {status for status, _ in [await ask(r.url) for _ in range(20)]} == {200}, "nobody else may notice"

            await until(lambda: all_serve(r))
            go_on.set()
            ended: Counter[str] = Counter()
            for reply in replies:
                try:
                    good = (await reply.read()).endswith(DONE)
                except aiohttp.ClientPayloadError:
                    good = False
                ended[f"{worker_of(reply.headers['x-request-id'])} {good}"] += 1
        assert len(ended) == 2, ended
        assert sorted(n for n in ended.values()) == sorted(shares.values())
        assert sum(n for name, n in ended.items() if name.endswith("True")) in shares.values()
        assert {status for status, _ in await ask_both(r.url)} == {200}, "the new one serves too"
        assert len(workers(r)) == 2
        assert total(await metrics(r, http), "router_worker_deaths_total") == 1
        assert r.log.read_text().count("has died of SIGKILL") == 1


async def test_a_worker_that_dies_under_load_fails_nothing_but_its_own_requests() -> None:
    plans = '[auth]\nmode = "keys"\n[plans.default]\nrequests_per_minute = 1000000\nconcurrent = 100\n'
    async with ScriptedBackend() as b, serving([Site("a", "a", b.url)], TWO + plans) as r:
        r.errors_allowed = True
        auth = {"authorization": f"Bearer {await asyncio.to_thread(r.create_key)}"}
        ended: list[tuple[str, bool]] = []  # of each request: the worker that its client had before, and was it well?
        enough = asyncio.Event()
        statuses: Counter[int] = Counter()

        async def client(kept: bool) -> None:
            worker = ""
            async with aiohttp.ClientSession(headers=auth) as own:
                while not enough.is_set():
                    headers = {} if kept else {"connection": "close"}
                    try:
                        async with own.post(r.url + CHAT, json=ASK, headers=headers) as reply:
                            await reply.read()
                            ended.append((worker, reply.status == 200))
                            statuses[reply.status] += 1
                            worker = worker_of(reply.headers["x-request-id"]) if kept else ""
                    except aiohttp.ClientConnectionError:
                        ended.append((worker, False))
                        worker = ""

        async def at_least(count: int) -> bool:
            return len(ended) >= count

        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(client(n % 4 > 0)) for n in range(16)]
            await until(partial(at_least, 200))
            os.kill(workers(r)[0], signal.SIGKILL)
            await asyncio.sleep(0.1)
            await until(lambda: all_serve(r))
            await until(partial(at_least, len(ended) + 200))
            enough.set()
        failed = Counter(worker for worker, well in ended if not well)
        log = r.log.read_text()
        assert log.count("has died of") == 1, log
        assert sum(failed.values()) <= len(clients), f"each client had at most one request there; answered: {statuses}"
        assert len(set(failed) - {""}) <= 1, "requests of the other worker failed"
        status = await admin(r, "/admin/v1/status")
        assert (status["traffic"]["inflight"], status["router"]["workers_serving"]) == (0, 2)


async def test_a_replaced_worker_has_the_configuration_in_force_not_the_broken_file(
    http: aiohttp.ClientSession,
) -> None:
    async with ScriptedBackend() as old, ScriptedBackend() as new:
        async with serving([Site("old", "a", old.url)], TWO + OPEN) as r:
            r.errors_allowed = True
            r.sites = [Site("new", "a", new.url)]
            r.write_config()
            answer = await admin(r, "/admin/v1/config/reload", {})
            assert (answer["changed"], answer["generation"]) == (True, 2)
            before = len(old.calls)
            assert {status for status, _ in await ask_both(r.url)} <= {200, 503}
            assert len(old.calls) == before, "a worker has not heard of the reload"
            r.file.write_text("[router]\nlisten = 5\n")
            with pytest.raises(urllib.error.HTTPError) as refused:
                await admin(r, "/admin/v1/config/reload", {})
            assert refused.value.code == 422
            assert json.loads(refused.value.read())["error"]["problems"]
            refused.value.close()
            assert (await admin(r, "/admin/v1/status"))["router"]["config_refused"]["problems"]
            async with http.get(r.admin + "/metrics") as page:
                lines = (await page.text()).splitlines()
            assert [line for line in lines if line.startswith("router_config_last_reload_successful")] == [
                "router_config_last_reload_successful 0"
            ], "the parent alone has read the file"
            for pid in workers(r):
                os.kill(pid, signal.SIGKILL)

            await asyncio.sleep(0.1)
            await until(lambda: all_serve(r))
            await asyncio.to_thread(r.wait_for, "/readyz")
            assert {status for status, _ in await ask_both(r.url)} == {200}
            assert len(old.calls) == before
            config = await admin(r, "/admin/v1/config")
            assert (config["generation"], config["config"]["regions"][0]["name"]) == (2, "new")
            assert config["refused"]["problems"]


async def test_faults_on_purpose_hold_in_all_workers_and_in_those_that_replace_them(
    http: aiohttp.ClientSession,
) -> None:
    async with ScriptedBackend() as one, ScriptedBackend() as two:
        sites = [Site("one", "a", one.url), Site("two", "a", two.url)]
        head = TWO.replace("workers = 2", "workers = 2\nchaos = true") + OPEN
        async with serving(sites, head) as r:
            r.errors_allowed = True
            fault = {"target": "one", "fault": "refuse", "for_s": 600}
            (entry,) = (await admin(r, "/admin/v1/chaos", fault))["data"]
            assert (entry["backends"], entry["fault"]) == (["one/a"], "refuse")

            async def replaced(pid: int) -> bool:
                return pid not in workers(r) and await all_serve(r)

            for number in range(2):
                if number:
                    pid = workers(r)[0]
                    os.kill(pid, signal.SIGKILL)
                    await until(partial(replaced, pid))
                assert {status for status, _ in await ask_both(r.url)} == {200}
                assert one.calls == [], f"a worker does not know of the fault: {r.log.read_text()}"
            assert 400 < (await admin(r, "/admin/v1/chaos"))["data"][0]["left_s"] < 600
            assert (await admin(r, "/admin/v1/chaos/one", method="DELETE"))["data"] == []
            await until(lambda: used(r, one))
            assert r.log.read_text().count("has died of") == 1


async def used(router: RouterProcess, backend: ScriptedBackend) -> bool:
    await ask(router.url)
    return bool(backend.calls)


async def test_sighup_and_drains_reach_all_workers(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as one, ScriptedBackend() as two:
        sites = [Site("one", "a", one.url), Site("two", "a", two.url)]
        async with serving(sites, TWO + OPEN) as r:
            answer = await admin(r, "/admin/v1/regions/one/drain", {})
            assert (answer["draining"], answer["state"], answer["applied"]) == (True, "draining", "all routers")
            before = len(one.calls)
            assert {status for status, _ in await ask_both(r.url)} == {200}
            assert len(one.calls) == before, "a worker has not heard of the drain"
            assert (await admin(r, "/admin/v1/backends/one/a/resume", {}))["draining"] is False
            answer = await admin(r, "/admin/v1/regions/one/notice", {"in_s": 60, "by": "a test"})
            assert (answer["leaving"]["by"], answer["state"], answer["applied"]) == ("a test", "leaving", "all routers")
            assert {status for status, _ in await ask_both(r.url)} == {200}
            assert len(one.calls) == before, "a worker has not heard of the notice"
            assert (await admin(r, "/admin/v1/backends/one/a/resume", {}))["leaving"] is None
            r.sites = [sites[0]]
            r.write_config()
            r.process.send_signal(signal.SIGHUP)

            async def reloaded() -> bool:
                return bool((await admin(r, "/admin/v1/config"))["generation"] == 2)

            await until(reloaded)
            before = len(two.calls)
            assert {status for status, _ in await ask_both(r.url)} == {200}
            assert len(two.calls) == before


async def test_sigterm_lets_the_streams_of_all_workers_finish(http: aiohttp.ClientSession) -> None:
    go_on = asyncio.Event()

    async def held(call: Call) -> None:
        await call.stream("one", finish=False)
        await go_on.wait()
        await call.send(chunk(event("two")), chunk(event(None, "stop")), chunk(DONE), b"0\r\n\r\n")

    async with ScriptedBackend(held) as b, serving([Site("a", "a", b.url)], TWO + OPEN) as r:
        replies: list[aiohttp.ClientResponse] = []
        async with asyncio.timeout(30):
            while len({worker_of(reply.headers["x-request-id"]) for reply in replies}) < 2:
                replies += await asyncio.gather(*(http.post(r.url + CHAT, json=STREAM) for _ in range(20)))
        everyone = [r.process.pid, *children(r.process.pid)]
        r.terminate()
        await r.until_nobody_listens()
        assert (await admin(r, "/admin/v1/status"))["traffic"]["inflight"] == len(replies), "operators see it drain"
        go_on.set()
        for reply in replies:
            assert (await reply.read()).endswith(DONE)
        assert await asyncio.to_thread(r.process.wait, 30) == 0
        assert [pid for pid in everyone if alive(pid)] == []


async def test_a_second_signal_ends_at_once(http: aiohttp.ClientSession) -> None:
    async def endless(call: Call) -> None:
        await call.stream("one", finish=False)
        await call.until_gone(100)

    async with ScriptedBackend(endless) as b, serving([Site("a", "a", b.url)], TWO + OPEN) as r:
        reply = await http.post(r.url + CHAT, json=STREAM)
        r.terminate()
        await asyncio.sleep(0.2)
        r.terminate()
        assert await asyncio.to_thread(r.process.wait, 60) == 0, "the answer would take longer, and so would a drain"
        reply.close()


async def test_nothing_is_left_when_the_parent_is_killed(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as b, serving([Site("a", "a", b.url)], TWO + OPEN) as r:
        r.errors_allowed = True
        family = children(r.process.pid)
        family += [pid for child in family for pid in children(child)]
        assert len(family) >= 4, "two workers, the store and its watcher"
        r.process.kill()

        end = time.monotonic() + 30
        while left := [command(pid) for pid in family if alive(pid)]:
            assert time.monotonic() < end, left
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("after_s", [0.2, 0.5, 0.8, 1.2])
def test_nothing_is_left_when_the_parent_is_killed_while_it_starts(after_s: float, tmp_path: Path) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(f'[router]\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n{TWO}{OPEN}')
    with (tmp_path / "log").open("wb") as log:
        parent = subprocess.Popen([sys.executable, "-m", "router", str(file)], cwd=ROOT, stderr=log)
    time.sleep(after_s)
    family = children(parent.pid)
    family += [pid for child in family for pid in children(child)]
    parent.kill()
    parent.wait()
    end = time.monotonic() + 30
    while left := [command(pid) for pid in family if alive(pid)]:
        assert time.monotonic() < end, (left, (tmp_path / "log").read_text())
        time.sleep(0.02)
