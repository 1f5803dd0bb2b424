"""The listeners of autoscalers: HTTPS for the aggregation layer of Kubernetes, gRPC for KEDA, and nothing but numbers."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.config import AutoscalingSection
from router.control.autoscalers import Autoscalers
from router.errors import ConfigError
from tests.support.certificates import Certificate, certificate
from tests.support.ports import free_port

BASE = "/apis/external.metrics.k8s.io/v1beta1"
ENTRY = {"region": "us-east", "model": "m", "needed": 5, "there": 2, "short": 3, "waiting": 0.0, "reason": "load"}


async def told() -> dict[str, Any]:
    return {"data": [ENTRY]}


@pytest.fixture
def own(tmp_path: Path) -> Certificate:
    return certificate(tmp_path, "router")


def settings(own: Certificate, **changes: str) -> AutoscalingSection:
    files = {"tls_cert": str(own.cert), "tls_key": str(own.key)}
    return AutoscalingSection(listen=f"127.0.0.1:{free_port()}", **files, **changes)


async def get(autoscalers: Autoscalers, path: str, tls: ssl.SSLContext) -> tuple[int, Any]:
    url = f"https://127.0.0.1:{autoscalers.ports['listen']}{path}"
    async with aiohttp.ClientSession() as http, http.get(url, ssl=tls) as reply:
        return reply.status, await reply.json(content_type=None) if "json" in reply.content_type else await reply.text()


async def test_what_the_aggregation_layer_asks(own: Certificate) -> None:
    autoscalers = Autoscalers(settings(own), told, shared=False)
    await autoscalers.start()
    tls = ssl.create_default_context(cafile=str(own.cert))
    try:
        status, listed = await get(autoscalers, BASE, tls)
        assert (status, listed["kind"]) == (200, "APIResourceList")
        status, found = await get(
            autoscalers, f"{BASE}/namespaces/prod/router_backends_needed?labelSelector=model%3Dm", tls
        )
        assert (status, [item["value"] for item in found["items"]]) == (200, ["5"])
        status, missing = await get(autoscalers, f"{BASE}/namespaces/prod/nothing", tls)
        assert (status, missing["kind"], missing["reason"]) == (404, "Status", "NotFound")
        assert await get(autoscalers, "/healthz", tls) == (200, "ok")
        for path in ("/admin/v1/keys", "/metrics", "/admin/v1/capacity", "/openapi/v2"):
            status, nothing = await get(autoscalers, path, tls)
            assert (status, nothing["kind"]) == (404, "Status")
    finally:
        await autoscalers.stop()


async def test_only_the_aggregation_layer_is_answered_where_its_authority_is_named(
    own: Certificate, tmp_path: Path
) -> None:
    layer, stranger = certificate(tmp_path, "front-proxy"), certificate(tmp_path, "stranger")
    autoscalers = Autoscalers(settings(own, tls_client_ca=str(layer.cert)), told, shared=False)
    await autoscalers.start()
    tls = ssl.create_default_context(cafile=str(own.cert))
    try:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await get(autoscalers, BASE, tls)
        tls.load_cert_chain(stranger.cert, stranger.key)
        with pytest.raises((aiohttp.ClientError, OSError)):
            await get(autoscalers, BASE, tls)
        tls.load_cert_chain(layer.cert, layer.key)
        assert (await get(autoscalers, BASE, tls))[0] == 200
    finally:
        await autoscalers.stop()


async def test_a_bad_certificate_is_refused_and_a_new_one_taken(own: Certificate, tmp_path: Path) -> None:
    autoscalers = Autoscalers(settings(own), told, shared=False)
    await autoscalers.start()
    try:
        other = certificate(tmp_path, "other")
        own.cert.write_bytes(other.cert.read_bytes())
        with pytest.raises(ConfigError):  # the key is not that of the certificate
            autoscalers.renew()
        own.key.write_bytes(other.key.read_bytes())
        autoscalers.renew()
        tls = ssl.create_default_context(cafile=str(other.cert))
        assert (await get(autoscalers, BASE, tls))[0] == 200
    finally:
        await autoscalers.stop()


async def test_nothing_is_configured() -> None:
    autoscalers = Autoscalers(AutoscalingSection(), told, shared=False)
    await autoscalers.start()
    assert autoscalers.ports == {}
    autoscalers.renew()
    await autoscalers.stop()


async def test_keda_is_answered() -> None:
    grpc = pytest.importorskip("grpc")
    from router.control import keda_messages as messages
    from router.control.keda import METRIC, SERVICE

    autoscalers = Autoscalers(AutoscalingSection(keda=f"127.0.0.1:{free_port()}"), told, shared=False)
    await autoscalers.start()
    try:
        asks = messages.ScaledObject("vllm", "prod", {"model": "m"})
        async with grpc.aio.insecure_channel(f"127.0.0.1:{autoscalers.ports['keda']}") as channel:
            value = await channel.unary_unary(f"/{SERVICE}/GetMetrics")(messages.metrics_request(asks, METRIC))
        assert value == messages.metric_value(METRIC, 5)
    finally:
        await autoscalers.stop()
