"""The listeners of autoscalers, which have no admin token: the aggregation layer of Kubernetes, and KEDA.

They tell the numbers of ``router capacity`` and nothing else, whoever knows these: a router, or the parent of workers.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiohttp import web

from router import clock
from router.config import AutoscalingSection, split_address
from router.config.certificates import load_chain
from router.config.selectors import SelectorError
from router.control import external_metrics as kubernetes
from router.control.needed_number import NoNumberError, UnheardError, needed_number
from router.control.replies import reply
from router.errors import ConfigError, RouterError

_log = logging.getLogger("router.control")

#: In a path, the place of a region: all of them together.
EVERYWHERE = "-"

#: The document of ``router capacity``.
Told = Callable[[], Awaitable[dict[str, Any]]]


class Autoscalers:
    """``shared``: another router may listen on the same addresses."""

    def __init__(self, settings: AutoscalingSection, told: Told, *, shared: bool) -> None:
        """Raises ConfigError for a bad certificate."""
        self._settings = settings
        self._told = told
        self._shared = shared
        self._stack = AsyncExitStack()
        self._tls = _tls(settings) if settings.listen is not None else None
        #: where it listens, for KEDA and for the aggregation layer
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Raises OSError when an address is taken."""
        settings = self._settings
        if settings.listen is not None:
            runner = web.AppRunner(make_app(self._told), access_log=None, shutdown_timeout=1.0, handle_signals=False)
            await runner.setup()
            self._stack.push_async_callback(runner.cleanup)
            host, port = split_address(settings.listen)
            site = web.TCPSite(runner, host, port, ssl_context=self._tls, reuse_port=self._shared or None)
            await site.start()
            self.ports["listen"] = runner.addresses[0][1]
            _log.info("autoscalers of Kubernetes are told the numbers of backends on https://%s", settings.listen)

        if settings.keda is not None:
            from router.control.keda import Scaler  # grpcio is an extra

            scaler = Scaler(self._told)
            try:
                self.ports["keda"] = scaler.listen(settings.keda)
            except RuntimeError as error:
                raise OSError(f"[autoscaling] keda: {error}") from None
            await scaler.start()
            self._stack.push_async_callback(scaler.stop)
            _log.info("KEDA is told the numbers of backends on %s", settings.keda)

    async def stop(self) -> None:
        await self._stack.aclose()

    def renew(self) -> None:
        """Read the certificate again, for new connections. Raises ConfigError."""
        if self._tls is not None:
            _load(self._tls, self._settings)


def make_app(told: Told) -> web.Application:
    app = web.Application()
    base = f"/apis/{kubernetes.VERSION}"
    pages = {"/apis": kubernetes.groups, f"/apis/{kubernetes.GROUP}": kubernetes.group, base: kubernetes.resources}
    for path, page in pages.items():
        app.router.add_get(path, partial(_page, page))
    for path in ("/healthz", "/livez", "/readyz"):
        app.router.add_get(path, _alive)
    app.router.add_get(f"{base}/namespaces/{{namespace}}/{{metric}}", partial(_metric, told))
    app.router.add_route("*", "/{path:.*}", _nothing)
    return app


async def _page(page: Callable[[], kubernetes.Document], request: web.Request) -> web.StreamResponse:
    return reply(page())


async def _alive(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


async def _nothing(request: web.Request) -> web.StreamResponse:
    return reply(kubernetes.status(404, "NotFound", "There is no such path."), 404)


async def _metric(told: Told, request: web.Request) -> web.StreamResponse:
    return metric_answer(request, (await told())["data"])


def metric_answer(request: web.Request, capacity: list[dict[str, Any]]) -> web.StreamResponse:
    """The values of the metric that a request names."""
    metric, selector = request.match_info["metric"], request.query.get("labelSelector", "")
    try:
        return reply(kubernetes.values(capacity, metric, selector, clock.wall_s()))
    except KeyError:
        known = ", ".join(kubernetes.METRICS)
        return reply(kubernetes.status(404, "NotFound", f"There is no such metric. There are: {known}."), 404)
    except SelectorError as error:
        return reply(kubernetes.status(400, "BadRequest", str(error)), 400)


def needed_answer(request: web.Request, capacity: list[dict[str, Any]]) -> web.StreamResponse:
    """The number of the model and region in the path. Raises RouterError (not_found) where none is asked for."""
    model, region = request.match_info["model"], request.match_info["region"]
    try:
        needed: int | None = needed_number(capacity, model, None if region == EVERYWHERE else region)
        why = None
    except UnheardError as error:
        needed, why = None, str(error)
    except NoNumberError as error:
        raise RouterError("not_found", f"{str(error)[:1].upper()}{str(error)[1:]}") from None
    return reply({"model": model, "region": region, "needed": needed, "unknown": why})


def _tls(settings: AutoscalingSection) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings)
    return context


def _load(context: ssl.SSLContext, settings: AutoscalingSection) -> None:
    problem = load_chain(context, settings.tls_cert or "", settings.tls_key or "")
    if problem is not None:
        raise ConfigError("[autoscaling]", [f"[autoscaling] tls_cert: {problem}"])
    if settings.tls_client_ca is not None:
        context.load_verify_locations(settings.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
