"""The admin API in front of several workers: answers cover all of them, and count nothing twice.

The routes are those of ``router/control/routes``. ``_ANSWERS`` says how each is answered; a route that is not in it is
sent to all workers if it changes something, else to one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from router.control import config_views, views
from router.control.admin import add_route, bare_app
from router.control.autoscalers import metric_answer, needed_answer
from router.control.callers import ECHO_HEADER, deed, passed_on, who_of
from router.control.fleetwide import ASKED, THIS
from router.control.gauges import reload_samples
from router.control.guard import Guard
from router.control.inputs import number, usage_of
from router.control.operators import Operators
from router.control.reload import ConfigReloader
from router.control.replies import failure, listing, reply
from router.control.route import DOCUMENT, Route
from router.control.routes import ROUTES, configuration, operators
from router.control.routes.events import EVENTS_MAX
from router.control.routes.learned import JOURNAL_MAX
from router.control.routes.requests import REQUESTS_MAX
from router.tasks import spawn
from router.telemetry import minutes
from router.telemetry.formats import format_for
from router.telemetry.metrics import GaugeSample
from router.telemetry.stats import WINDOW_S_MAX, Window
from router.workers.admin import merge
from router.workers.admin.faults import Faults
from router.workers.admin.links import WorkerAnswer, WorkerGoneError, WorkerLink
from router.workers.admin.tail import tail

_V1 = "/admin/v1"
#: Every worker hears of a new or revoked key within about a second; the answer waits for that.
_KEY_WAIT_S = 2.0
_KEY_POLL_S = 0.01

_Answer = Callable[["Fanout", web.Request], Awaitable[web.StreamResponse]]


class NoWorkerError(Exception): ...


class Fanout:
    """``links`` are the workers that serve now. ``deaths`` counts those that had to be replaced."""

    def __init__(
        self,
        links: Callable[[], Sequence[WorkerLink]],
        reloader: ConfigReloader,
        faults: Faults,
        *,
        deaths: Callable[[], int],
        now_s: Callable[[], float],
        version: str,
    ) -> None:
        self.links = links
        self.reloader = reloader
        self.faults = faults
        self.deaths = deaths
        self._now_s = now_s
        self._started_s = now_s()
        self._version = version

    def app(self, operators: Operators) -> web.Application:
        guard = Guard(operators, self._now_s)
        guard.note = self.note
        app = bare_app(guard, self._version)
        for route in ROUTES:
            answer = _ANSWERS.get(route.name, _any if route.method == "GET" else _every)
            add_route(app, route, partial(_handle, self, answer, route))
        return app

    async def all(
        self, request: web.Request, *, path: str | None = None, lenient: bool = False
    ) -> list[tuple[WorkerLink, WorkerAnswer]]:
        """The answers of all workers that answer. Raises the first that is an error; ``lenient``: only if all are."""
        body = await request.read()
        links = self.links()
        asked = [_ask(link, request, body, path, echo=number > 0) for number, link in enumerate(links)]
        answers = [(link, a) for link, a in zip(links, await asyncio.gather(*asked), strict=True) if a is not None]
        good = [(link, a) for link, a in answers if a.status < 400] if lenient else []
        return _checked(good or answers)

    async def one_by_one(self, request: web.Request) -> list[tuple[WorkerLink, WorkerAnswer]]:
        """The same, but each worker is asked after the one before it has answered."""
        body = await request.read()
        answers: list[tuple[WorkerLink, WorkerAnswer]] = []
        for link in self.links():
            answer = await _ask(link, request, body, echo=bool(answers))
            answers += [(link, answer)] if answer is not None else []
        return _checked(answers)

    def note(self, kind: str, subject: str, **told: str | None) -> None:
        """Have a worker write into the history what this process has seen."""
        spawn(self._note({"kind": kind, "subject": subject, **told}), name="history")

    async def _note(self, told: dict[str, str | None]) -> None:
        for link in self.links():
            with suppress(WorkerGoneError):
                await link.note(told)
                return

    async def documents(self, request: web.Request, *, path: str | None = None, lenient: bool = False) -> list[Any]:
        return [answer.document for _, answer in await self.all(request, path=path, lenient=lenient)]

    async def capacity(self) -> dict[str, Any]:
        """Backends that are there and needed, by what all workers say. Nothing while none answers."""
        asked = [link.ask("GET", f"{_V1}/capacity", b"", "application/json") for link in self.links()]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return merge.capacity([a.document for a in found if isinstance(a, WorkerAnswer) and a.status == 200])

    async def window(self, window_s: float) -> Window:
        windows = await asyncio.gather(*(link.window(window_s) for link in self.links()), return_exceptions=True)
        merged = Window(window_s, 1.0)
        for window in windows:
            if isinstance(window, Window):
                merged.merge(window)
        return merged


class _OtherAnswerError(Exception):
    """A worker answered with an error, which is passed on."""

    def __init__(self, answer: WorkerAnswer) -> None:
        self.answer = answer


async def _handle(fanout: Fanout, answer: _Answer, route: Route, request: web.Request) -> web.StreamResponse:
    try:
        return await answer(fanout, request)
    except _OtherAnswerError as error:
        return _passed_on(error.answer)
    except NoWorkerError:
        if route.open:
            return reply({"status": "not ready", "reason": "no worker serves"}, 503)
        return failure("no_worker")


async def _ask(
    link: WorkerLink, request: web.Request, body: bytes, path: str | None = None, *, echo: bool = False
) -> WorkerAnswer | None:
    """``echo``: another worker writes into the history what is done."""
    headers = passed_on(request) | ({ECHO_HEADER: "1"} if echo else {})
    asked = path or request.rel_url.raw_path_qs
    if request.match_info.route.name in ASKED:  # of this router alone
        asked += f"{'&' if '?' in asked else '?'}router={THIS}"
    try:
        return await link.ask(request.method, asked, body, request.content_type, headers)
    except WorkerGoneError:
        return None


def _checked(answers: list[tuple[WorkerLink, WorkerAnswer]]) -> list[tuple[WorkerLink, WorkerAnswer]]:
    if not answers:
        raise NoWorkerError
    for _, answer in answers:
        if answer.status >= 400:
            raise _OtherAnswerError(answer)
    return answers


def _passed_on(answer: WorkerAnswer) -> web.Response:
    response = web.Response(body=answer.body, status=answer.status, content_type=answer.content_type)
    response.headers["Cache-Control"] = "no-store"
    if answer.retry_after is not None:
        response.headers["Retry-After"] = answer.retry_after
    return response


async def _any(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    """Ask one worker. A worker that does not find the thing may be late with news, so then the next one is asked."""
    body = await request.read()
    last: WorkerAnswer | None = None
    for link in fanout.links():
        if (answer := await _ask(link, request, body, echo=last is not None)) is not None:
            last = answer
            if answer.status != 404:
                break
    if last is None:
        raise NoWorkerError
    return _passed_on(last)


async def _every(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return _passed_on((await fanout.one_by_one(request))[0][1])


async def _healthz(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return reply({"status": "ok"})


async def _readyz(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    """Ready when at least one worker is."""
    answers = [a for link in fanout.links() if (a := await _ask(link, request, b"")) is not None]
    if not answers:
        raise NoWorkerError
    return _passed_on(min(answers, key=lambda a: a.status))


async def _metrics(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    answers = await fanout.all(request)
    pages, form = (
        {link.index: answer.body.decode() for link, answer in answers},
        format_for(request.headers.get("Accept", "")),
    )
    deaths = GaugeSample("router_worker_deaths_total", (), fanout.deaths())
    own = (deaths, *reload_samples(fanout.reloader))
    page = await asyncio.to_thread(merge.metrics, pages, own, form)
    return web.Response(body=page.encode(), headers={"Content-Type": form.value})


async def _describe(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return reply(request.app[DOCUMENT])


async def _status(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    answers = await fanout.documents(request)
    merged = merge.status(answers)
    merged["router"] |= {
        "uptime_s": fanout._now_s() - fanout._started_s,
        "workers_serving": len(answers),
        "config_generation": fanout.reloader.generation,
        **config_views.state(fanout.reloader),
    }
    merged["store"]["kind"] = views.store_kind(fanout.reloader.config)
    merged["traffic"] |= views.traffic(await fanout.window(views.TRAFFIC_WINDOW_S))
    return reply(merged)


async def _listed(merged: Callable[[list[Any]], list[Any]], fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return listing(merged([d["data"] for d in await fanout.documents(request)]))


async def _capacity(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return reply(await fanout.capacity())


async def _needed(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return needed_answer(request, (await fanout.capacity())["data"])


async def _metric(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return metric_answer(request, (await fanout.capacity())["data"])


async def _requests(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    limit = int(number(request, "limit", 50, low=1, high=REQUESTS_MAX))
    documents = await fanout.documents(request, lenient=True)
    matching = sum(d["matching"] for d in documents)
    merged = merge.requests([d["data"] for d in documents], limit, request.query.get("sort", "time"))
    return reply({"data": merged, "matching": matching})


async def _journal(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    limit = int(number(request, "limit", JOURNAL_MAX, low=1, high=JOURNAL_MAX))
    every = [record for document in await fanout.documents(request) for record in document["data"]]
    return listing(sorted(every, key=lambda record: float(record["arrival_s"]))[-limit:])


async def _in_flight(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    limit = int(number(request, "limit", 100, low=1, high=REQUESTS_MAX))
    return reply(merge.in_flight(await fanout.documents(request), limit))


async def _tail(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    path = f"{_V1}/requests?limit=1&{request.query_string}"
    await fanout.all(request, path=path, lenient=True)  # raises if the filter is not well-formed
    return await tail(request, fanout.links)


async def _events(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    limit = int(number(request, "limit", 100, low=1, high=EVENTS_MAX))
    return listing(merge.events([d["data"] for d in await fanout.documents(request)], limit))


async def _tail_events(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    await fanout.all(request, path=f"{_V1}/events?limit=1&{request.query_string}")
    return await tail(request, fanout.links, once=True)


async def _stats(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    window_s = number(request, "window_s", 60, low=1, high=WINDOW_S_MAX)
    return reply((await fanout.window(window_s)).document())


async def _usage(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    (first, *_) = await fanout.documents(request)
    since_s, by = usage_of(request)
    told = await asyncio.gather(*(link.minutes(since_s, by) for link in fanout.links()), return_exceptions=True)
    merged = minutes.merged([usage for usage in told if isinstance(usage, dict)])
    return reply(minutes.document(merged, since_s, by, first["sort"]) | {"fleet": first["fleet"]})


async def _create_key(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    body = await request.read()
    for link in fanout.links():
        if (answer := await _ask(link, request, body)) is not None:
            if answer.status == 201:
                await _until_known(fanout.links(), {"id": answer.document["id"], "revoked": False})
            return _passed_on(answer)
    raise NoWorkerError


async def _change_key(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    response = await _any(fanout, request)
    if response.status == 200:
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        await _until_known(fanout.links(), orjson.loads(response.body))
    return response


async def _until_known(links: Iterable[WorkerLink], key: dict[str, Any]) -> None:
    """Wait until all workers show a new or changed key like this: its next request may come to any of them."""
    shown = {name: value for name, value in key.items() if name != "key"}  # its secret

    async def known(link: WorkerLink) -> None:
        while True:
            answer = await link.ask("GET", f"{_V1}/keys/{key['id']}")
            if answer.status == 200 and shown.items() <= answer.document.items():
                return
            await asyncio.sleep(_KEY_POLL_S)

    try:
        async with asyncio.timeout(_KEY_WAIT_S):
            await asyncio.gather(*(known(link) for link in links), return_exceptions=True)
    except TimeoutError:
        return


async def _config(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return reply(config_views.config(fanout.reloader))


async def _reload(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    who = who_of(request)
    fanout.note("operator", f"{request.method} {request.path}", why="reloadConfig", who=who)
    result = await fanout.reloader.reload("admin API", who=who)
    return reply(config_views.reloaded(result, fanout.reloader.config, await _keys(fanout)))


async def _check(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    result = await fanout.reloader.check(*await configuration.config_text(request))
    return reply(config_views.checked(result, await _keys(fanout)))


async def _keys(fanout: Fanout) -> list[Any]:
    """The keys, from the first worker that answers."""
    for link in fanout.links():
        try:
            answer = await link.ask("GET", f"{_V1}/keys", b"", "application/json")
        except WorkerGoneError:
            continue
        if answer.status == 200:
            return list(answer.document["data"])
    return []


def _own(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> _Answer:
    async def answer(fanout: Fanout, request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        if request.method != "GET":
            route = request.match_info.route.name or ""
            about = {"after": str(response.status), "why": deed(request, route), "who": who_of(request)}
            fanout.note("operator", f"{request.method} {request.path}", **about)
        return response

    return answer


async def _withdraw(merged: Callable[[list[Any]], Any], fanout: Fanout, request: web.Request) -> web.StreamResponse:
    answers = [answer for _, answer in await fanout.one_by_one(request)]
    documents = [answer.document for answer in answers]
    shared = all(document["shared"] for document in documents)
    return reply(merged(documents) | views.reach(shared), max(answer.status for answer in answers))


async def _probe(merged: Callable[[list[Any]], Any], fanout: Fanout, request: web.Request) -> web.StreamResponse:
    return reply(merged(await fanout.documents(request)))


async def _chaos(fanout: Fanout, request: web.Request) -> web.StreamResponse:
    answers = await fanout.one_by_one(request)
    fanout.faults.note(answers[0][1].document["data"])
    asked = [link for link, _ in answers]
    for link in fanout.links():
        if link not in asked:  # the worker began to serve in the meantime
            await fanout.faults.hand_on(link)
    return _passed_on(answers[0][1])


_ONE = ("drainBackend", "resumeBackend", "noticeBackend", "cancelBackendNotice", "registerBackend", "deregisterBackend")
_ANSWERS: dict[str, _Answer] = {
    "healthz": _healthz,
    "readyz": _readyz,
    "metrics": _metrics,
    "openapi": _describe,
    "status": _status,
    "listRegions": partial(_listed, merge.regions),
    "listBackends": partial(_listed, merge.backends),
    "showCapacity": _capacity,
    "showNeeded": _needed,
    "showExternalMetric": _metric,
    "listRequests": _requests,
    "showLearned": partial(_probe, merge.learned),
    "readJournal": _journal,
    "listInFlight": _in_flight,
    "tailRequests": _tail,
    "listEvents": _events,
    "tailEvents": _tail_events,
    "stats": _stats,
    "usage": _usage,
    "createKey": _create_key,
    "changeKey": _change_key,
    "rotateKey": _change_key,
    "revokeKey": _change_key,
    "listQuotas": _any,
    "showConfig": _config,
    "reloadConfig": _reload,
    "checkConfig": _check,
    "whoami": _own(operators.whoami),
    "listOperators": _own(operators.list_operators),
    "addOperator": _own(operators.add_operator),
    "removeOperator": _own(operators.remove_operator),
    "explain": _any,
    "startChaos": _chaos,
    "stopChaos": _chaos,
    "stopRegionChaos": _chaos,
    "stopBackendChaos": _chaos,
    "drainRegion": partial(_withdraw, merge.region),
    "resumeRegion": partial(_withdraw, merge.region),
    "noticeRegion": partial(_withdraw, merge.region),
    "cancelRegionNotice": partial(_withdraw, merge.region),
    "probeRegion": partial(_probe, merge.region),
    **dict.fromkeys(_ONE, partial(_withdraw, merge.backend)),
    "beginBurnIn": _any,
    "probeBackend": partial(_probe, merge.backend),
}
