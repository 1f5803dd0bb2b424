"""One answer of all routers that share the store: a question goes to all of them, or to one by its name.

Another router answers with the handler of its own admin API, for itself alone (``router=.``); nothing that can be asked
in this way changes anything. Where there is no shared store this router answers alone, and says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from aiohttp import web

from router import clock
from router.config import Config, fingerprint
from router.control import vanished
from router.control.dormants import merged as merged_dormants
from router.control.plane import ControlPlane
from router.control.region_views import region_summary
from router.control.unknown import unknown
from router.errors import RouterError
from router.moments import roughly

Document = dict[str, Any]

#: Names of routes that routers ask each other for.
ASKED = frozenset(
    {
        "status",
        "listRegions",
        "listRequests",
        "listInFlight",
        "showRequest",
        "window",
        "minutes",
        "usage",
        "quotaUse",
        "lastMinute",
    }
)
#: As the name of a router: the one that is asked.
THIS = "."
#: Counts of a backend that each router has of its own.
_SUMMED = ("inflight", "max_inflight", "uncached_tokens", "output_tokens_per_s", "requests_total", "failures_total")
#: Lines about routers that are gone.
_MISSING_MAX = 5
_SEEN = ("state", "usable", "since", "since_s", "why")


@dataclass(frozen=True, slots=True)
class Enquiry:
    """A question of another router, with what handlers look at in a request."""

    query: dict[str, str]
    match_info: dict[str, str]
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Heard:
    """``own``: this router is asked, too. ``answers``: names of other routers and what they say."""

    own: bool
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    scope: str = ""

    def documents(self) -> list[tuple[str, Any]]:
        return [(name, orjson.loads(raw)) for name, raw in self.answers]

    def about(self, me: str) -> Document:
        """For the reader: whom the answer is about. Workers of one router have one name."""
        names = dict.fromkeys([*([me] if self.own else []), *(name for name, _ in self.answers)])
        return {"scope": self.scope, "routers": [*names], "silent": self.silent}


def card_of(config: Config, *, version: str) -> dict[str, Any]:
    """The word of a router about itself to the others."""
    router = config.router
    return {"name": router.name, "region": router.region, "version": version, "config_hash": fingerprint(config)}


async def respond(
    control: ControlPlane,
    handlers: Mapping[str, Callable[[web.Request, ControlPlane], Awaitable[web.StreamResponse]]],
    what: str,
    about: dict[str, str],
) -> bytes | None:
    """The answer to another router's question: empty if there is nothing to say, None if this version cannot tell."""
    if what not in ASKED:
        return None
    path = {name[1:]: value for name, value in about.items() if name.startswith(":")}
    query = {name: value for name, value in about.items() if not name.startswith(":")} | {"router": THIS}
    try:
        response = await handlers[what](cast(web.Request, Enquiry(query, path)), control)
    except RouterError:
        return b""
    return bytes(cast(bytes, cast(web.Response, response).body))


async def ask(control: ControlPlane, request: web.Request, what: str, more: Mapping[str, str] | None = None) -> Heard:
    """Ask those that the query of ``request`` means: the one that ``router`` names, or all. Raises RouterError when
    there is no such router, or it does not answer."""
    me, router = control.reloader.config.router.name, request.query.get("router")
    peers = [p for p in control.exchange.known() if router is None or (router == p.name and router != me)]
    if router is not None:
        if router not in (THIS, me) and not peers:
            raise unknown("router", router, [me, *(p.name for p in control.exchange.known())])
        heard = Heard(router in (THIS, me), scope=f"{me if router in (THIS, me) else router} only")
    else:
        heard = Heard(True, scope="all routers" if control.store.streams is not None else "this router only")
    if not peers:
        return heard
    about = {name: value for name, value in request.query.items() if name != "router"}
    about |= {f":{name}": value for name, value in request.match_info.items()} | dict(more or {})
    told = await control.exchange.ask(what, about, [peer.id for peer in peers])
    for peer in peers:
        if (raw := told.get(peer.id)) is None:
            heard.silent.append(peer.name)
        elif raw:
            heard.answers.append((peer.name, raw))
    if heard.silent and not heard.own and not heard.answers:
        raise RouterError("no_worker", f"The router {router} does not answer.")
    return heard


# putting answers together


def status(documents: Sequence[tuple[str, Document]]) -> Document:
    """The first one, with the traffic of all, and how their configurations differ."""
    merged = dict(documents[0][1])
    counts = {name: sum(d["traffic"][name] for _, d in documents) for name in ("inflight", "queued")}
    dormant = merged_dormants(d.get("dormant", ()) for _, d in documents)
    strained = merged_strains(d.get("strained", ()) for _, d in documents)
    own = {"traffic": merged["traffic"] | counts, "dormant": dormant, "strained": strained}
    return merged | own | {"differences": differences(documents), "troubles": troubles(documents)}


def merged_strains(views: Iterable[Sequence[Document]]) -> list[Document]:
    """The overloaded models that any of them sees: since the first one did, with the requests of all."""
    models: dict[str, Document] = {}
    for document in (document for view in views for document in view):
        known = models.setdefault(document["model"], document | {"requests": 0})
        known |= {"requests": known["requests"] + document["requests"]}
        known |= {"since_s": min(known["since_s"], document["since_s"])}
    return list(models.values())


def differences(documents: Sequence[tuple[str, Document]]) -> list[str]:
    """In words; empty when all run the same configuration."""
    having: dict[str, dict[str, None]] = {}  # workers of one router have one name
    running: dict[str, dict[str, None]] = {}
    for router, document in documents:
        for backend in document["backends"]["names"]:
            having.setdefault(backend, {})[router] = None
        running.setdefault(document["router"]["config_hash"], {})[router] = None
    routers = {router for router, _ in documents}
    lines = [f"{b} only on {', '.join(who)}" for b, who in having.items() if len(who) < len(routers)]
    if not lines and len(running) > 1:
        told = (f"{', '.join(who)} {'runs' if len(who) == 1 else 'run'} {hash_}" for hash_, who in running.items())
        lines.append(f"configurations differ: {'; '.join(told)}")
    return lines


def troubles(documents: Sequence[tuple[str, Document]]) -> list[str]:
    """Other routers than the first that are not ready, or would not start again; each in one line."""
    lines: dict[str, str] = {}
    for name, document in documents[1:]:
        router = document["router"]
        if not router.get("ready", True):
            lines[name] = f"{name} is not ready" + (f": {router['not_ready']}" if router.get("not_ready") else "")
        elif refused := router.get("config_refused"):
            lines[name] = f"{name} would not start again, its file is refused: {'; '.join(refused['problems'][:1])}"
    return [line for name, line in lines.items() if name != documents[0][0]]


def missing(control: ControlPlane) -> list[str]:
    """The routers that died lately, each in one line."""
    gone = vanished.gone(control.chronicle.history, (peer.name for peer in control.exchange.known()))
    now_s = clock.wall_s()
    lines = [f"{o.subject} is gone: it was last heard {roughly(now_s - o.at_s)} ago" for o in gone[:_MISSING_MAX]]
    return lines + ([f"{len(gone) - _MISSING_MAX} more routers are gone"] if len(gone) > _MISSING_MAX else [])


def regions(me: str, own: Sequence[Document] | None, others: Sequence[tuple[str, list[Document]]]) -> list[Document]:
    """As this router sees them, with the counts of all; ``routers`` of a backend says how each router sees it."""
    seen = [*([(me, own)] if own is not None else []), *others]
    merged: dict[str, Document] = {}
    members: dict[str, dict[str, Document]] = {}
    for router, views in seen:
        for region in views:
            merged.setdefault(region["name"], region)
            known = members.setdefault(region["name"], {})
            for view in region["backends"]:
                sight = {"router": router} | {name: view[name] for name in _SEEN}
                if (backend := known.get(view["name"])) is None:
                    known[view["name"]] = view | {"routers": [sight]}
                    continue
                backend |= {name: backend[name] + view[name] for name in _SUMMED} | {"inflight_peers": 0}
                backend["routers"].append(sight)
    return [region | region_summary(list(members[name].values())) for name, region in merged.items()]
