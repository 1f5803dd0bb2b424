"""How many backends there are and how many are needed: for operators, and as Kubernetes asks for it."""

from __future__ import annotations

from aiohttp import web

from router.control import external_metrics as kubernetes
from router.control import views
from router.control.autoscalers import metric_answer, needed_answer
from router.control.capacity import document
from router.control.plane import ControlPlane
from router.control.replies import reply
from router.control.route import V1, Param, Route

_BASE = f"/apis/{kubernetes.VERSION}"


async def show_capacity(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    states = {"dormant": control.dormants.document(), "strained": views.strained(control)}
    return reply(document(control.capacity.groups()) | states)


async def show_needed(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return needed_answer(request, document(control.capacity.groups())["data"])


async def list_groups(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(kubernetes.groups())


async def show_group(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(kubernetes.group())


async def list_metrics(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(kubernetes.resources())


async def show_metric(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return metric_answer(request, document(control.capacity.groups())["data"])


_SELECTOR = Param("labelSelector", "string", "A label selector of Kubernetes over region and model.")

ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        f"{V1}/capacity",
        "showCapacity",
        "Backends of every model in every region: how many there are, and how many are needed.",
        show_capacity,
    ),
    Route(
        "GET",
        f"{V1}/needed/{{region}}/{{model}}",
        "showNeeded",
        "How many backends of a model are needed in a region, or in all (-); names as labels spell them will do.",
        show_needed,
    ),
    Route("GET", "/apis", "listApiGroups", "The API groups that Kubernetes finds here.", list_groups),
    Route("GET", f"/apis/{kubernetes.GROUP}", "showApiGroup", "The versions of its group.", show_group),
    Route("GET", _BASE, "listExternalMetrics", "The metrics that autoscalers of Kubernetes may ask for.", list_metrics),
    Route(
        "GET",
        f"{_BASE}/namespaces/{{namespace}}/{{metric}}",
        "showExternalMetric",
        "The values of a metric, as external.metrics.k8s.io/v1beta1; any namespace will do.",
        show_metric,
        query=(_SELECTOR,),
    ),
)
