"""Where backends come from, and backends that register themselves."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from router.config.address import calls, notice_problem, url_problem
from router.config.names import each, model_problem, name_problem
from router.control import views
from router.control.callers import noting
from router.control.inputs import document_of, number, number_in, text_of
from router.control.plane import ControlPlane
from router.control.registrations import FIELDS
from router.control.replies import listing, reply
from router.control.route import V1, Param, Route
from router.control.routes.fleet import NOTICE_S_MAX
from router.control.source_views import sources
from router.core.roll import FILE
from router.core.traits import ENGINES
from router.discovery.sources import REGISTERED
from router.errors import RouterError

LEASE_S = 30.0
LEASE_S_MIN, LEASE_S_MAX = 1.0, 3600.0
#: How long a backend that says good-bye has for its answers, unless it says otherwise.
LEAVE_S = 30.0
BACKENDS_MAX = 5000
_MODELS_MAX = 100


async def list_sources(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing(sources(control))


async def register_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _REGISTRATION)
    name = _name_of(document, control)
    fields = _fields_of(document, control)
    lease_s = number_in(document, "lease_s", LEASE_S, low=LEASE_S_MIN, high=LEASE_S_MAX)
    _refuse_clash(name, fields["url"], control)
    new = control.registrations.of(name) is None
    everywhere = await control.registrations.register(name, fields, lease_s)
    if new:
        told = f"at {fields['url']}, and says so again within {lease_s:g} s"
        noting(request, control)("lease", name, after="registered", why=told)
    backend = control.fleet.backends.get(name)
    if backend is None:
        raise RouterError("internal", "The backend is registered, and this router cannot use it: see its log.")
    return reply(views.backend(control, backend) | views.reach(everywhere), 201 if new else 200)


async def deregister_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = f"{request.match_info['region']}/{request.match_info['backend']}"
    in_s = number(request, "in_s", LEAVE_S, low=0.0, high=NOTICE_S_MAX)
    backend = control.fleet.backends.get(name)
    if control.registrations.of(name) is None or backend is None:
        what = "is not registered" if backend is not None else "is not there"
        raise RouterError("not_found", f"The backend {name} {what}.")
    everywhere = await control.registrations.leave(name, in_s)
    noting(request, control)("lease", name, before="registered", after="leaving", why=f"it goes away in {in_s:g} s")
    return reply(views.backend(control, backend) | views.reach(everywhere))


_REGISTRATION: dict[str, Any] = {
    "type": "object",
    "required": ["name", "url"],
    "properties": {
        "name": {"type": "string", "description": "REGION/NAME, or NAME with the region beside it."},
        "region": {"type": "string", "description": "A region of the router's file."},
        "url": {"type": "string", "description": "Its http:// or https:// address, without /v1."},
        "engine": {"type": "string", "description": f"One of {', '.join(ENGINES)}; default openai."},
        "models": {"type": "array", "description": "Models it serves. Default: it is asked."},
        "max_inflight": {"type": "integer", "description": "Most requests in flight there, of each router."},
        "cost_usd_hour": {"type": "number", "description": "US dollars per hour."},
        "notice_url": {"type": "string", "description": "Who tells whether its machine is to go away."},
        "lease_s": {
            "type": "number",
            "description": f"Seconds after which it is gone unless it says this again, {LEASE_S_MIN:g} to "
            f"{LEASE_S_MAX:g}; default {LEASE_S:g}.",
        },
    },
}

ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/sources", "listSources", "Where backends come from, and how each source is.", list_sources),
    Route(
        "POST",
        f"{V1}/backends",
        "registerBackend",
        "A backend says where it is, for a time: again and again, every `source.renew_s` of the answer.",
        register_backend,
        body=_REGISTRATION,
        status=201,
    ),
    Route(
        "DELETE",
        f"{V1}/backends/{{region}}/{{backend}}",
        "deregisterBackend",
        "A registered backend goes away: no new requests, and its answers are handed over before.",
        deregister_backend,
        query=(Param("in_s", "number", f"In how many seconds; default {LEAVE_S:g}."),),
    ),
)


def _name_of(document: dict[str, Any], control: ControlPlane) -> str:
    region, slash, short = text_of(document, "name", required=True).partition("/")
    if not slash:
        region, short = text_of(document, "region", required=True), region
    elif document.get("region") not in (None, region):
        raise RouterError("invalid_request", "name and region name different regions.", param="region")
    if (problem := name_problem(short)) is not None:
        raise RouterError("invalid_request", f"name: {problem}.", param="name")
    known = [r.spec.name for r in control.reloader.config.regions]
    if region not in known:
        text = f"The router's file has no region {region}. It has: {', '.join(known) or 'none'}."
        raise RouterError("invalid_request", text, param="region")
    return f"{region}/{short}"


def _fields_of(document: dict[str, Any], control: ControlPlane) -> dict[str, Any]:
    """The keys of the backend, checked as those of the file are."""
    fields = {key: document[key] for key in FIELDS if document.get(key) is not None}
    url = fields["url"] = text_of(document, "url", required=True).rstrip("/")
    models = fields.get("models", [])
    router = control.reloader.config.router
    own = any(calls(url, address) for address in (router.listen, router.admin))
    problems = {
        "url": url_problem(url) or ("is this router" if own else None),
        "engine": None if fields.get("engine", "openai") in ENGINES else f"must be one of {', '.join(ENGINES)}",
        "models": _models_problem(models),
        "notice_url": notice_problem(str(fields.get("notice_url", "http://host"))),
    }
    for key, problem in problems.items():
        if problem is not None:
            raise RouterError("invalid_request", f"{key}: {problem}.", param=key)
    if "max_inflight" in fields:
        fields["max_inflight"] = int(number_in(document, "max_inflight", 1, low=1, high=1e6))
    if "cost_usd_hour" in fields:
        fields["cost_usd_hour"] = number_in(document, "cost_usd_hour", 0.0, low=0, high=1e6)
    return fields


def _models_problem(models: list[Any]) -> str | None:
    if len(models) > _MODELS_MAX or not all(isinstance(model, str) for model in models):
        return f"must be a list of at most {_MODELS_MAX} strings"
    return each(model_problem)(models)


def _refuse_clash(name: str, url: str, control: ControlPlane) -> None:
    """A name or an address that another source has is not given to a second one."""
    for b in control.fleet.backends.values():
        origin = control.sources.call.origins.get(b.name)
        source = origin.source if origin is not None else FILE
        if source != REGISTERED and b.name == name:
            raise RouterError("invalid_request", f"{name} is a backend of {source}.", param="name")
        if b.spec.url == url and b.name != name and (origin is None or origin.listed):
            raise RouterError("invalid_request", f"{b.name} of {source} has this address.", param="url")
    if name not in control.fleet.backends and len(control.fleet.backends) >= BACKENDS_MAX:
        raise RouterError("invalid_request", f"There are {BACKENDS_MAX} backends already.")
