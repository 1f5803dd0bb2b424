"""The numbers of a running router by way of the real kubectl, and what a HorizontalPodAutoscaler makes of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sim.scaling import hpa, hpa_average
from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.certificates import Certificate, certificate
from tests.support.helm import program
from tests.support.ports import free_port
from tests.support.router import RouterProcess, Site

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ and program("kubectl") is None, reason="kubectl is not installed: make kubernetes"
)
BASE = "/apis/external.metrics.k8s.io/v1beta1"


def kubectl(port: int, own: Certificate, layer: Certificate, path: str) -> tuple[int, str]:
    """`kubectl get --raw` as whoever has the certificate of ``layer``: (exit code, what it says)."""
    found = program("kubectl")
    assert found is not None, "make kubernetes fetches kubectl"
    command = [found, f"--server=https://127.0.0.1:{port}", f"--certificate-authority={own.cert}"]
    command += [f"--client-certificate={layer.cert}", f"--client-key={layer.key}", "get", "--raw", path]
    plain = {"PATH": os.environ["PATH"], "HOME": str(own.cert.parent), "KUBECONFIG": os.devnull}
    done = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


def head(own: Certificate, layer: Certificate, port: int, least: int) -> str:
    return "\n".join(
        [
            OPEN,
            "[autoscaling]",
            f'listen = "127.0.0.1:{port}"',
            f'tls_cert = "{own.cert}"',
            f'tls_key = "{own.key}"',
            f'tls_client_ca = "{layer.cert}"',
            f"[models.m]\ntarget_ttft_s = 1\nhold_s = 0\nmin = {least}\n",
        ]
    )


async def test_kubectl_reads_the_number_and_a_deployment_follows_it_from_two_to_five_and_back(tmp_path: Path) -> None:
    own, layer, port = certificate(tmp_path, "router"), certificate(tmp_path, "front-proxy"), free_port()

    async def get(path: str) -> Any:
        code, told = await asyncio.to_thread(kubectl, port, own, layer, f"{BASE}{path}")
        assert code == 0, told
        return json.loads(told)

    async def value(metric: str) -> float:
        found = await get(f"/namespaces/llm/{metric}?labelSelector=model=m,region=us")
        (item,) = found["items"]
        assert (found["kind"], item["metricName"]) == ("ExternalMetricValueList", metric)
        assert item["metricLabels"] == {"model": "m", "region": "us"}
        return float(item["value"].removesuffix("m")) / (1000 if item["value"].endswith("m") else 1)

    async with ScriptedBackend() as b:
        sites = [Site("us", "a", b.url, models=["m"]), Site("us", "b", b.url, models=["m"])]
        async with RouterProcess(sites, head=head(own, layer, port, 2)) as r:
            assert "router_backends_needed" in {resource["name"] for resource in (await get(""))["resources"]}
            replicas, seen = 2, []
            for least in (2, 5, 2):
                r.head = head(own, layer, port, least)
                r.write_config()
                async with asyncio.timeout(20):
                    while await value("router_backends_needed") != least:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                replicas = hpa_average(replicas, await value("router_backends_needed"), 1.0)
                seen.append(replicas)
                ready = int(await value("router_backends_there"))
                assert hpa(ready, ready, await value("router_backends_ratio"), 1.0) == replicas
            assert seen == [2, 5, 2]
            code, told = await asyncio.to_thread(kubectl, port, own, layer, f"{BASE}/namespaces/llm/nothing")
            assert (code, "NotFound" in told) == (1, True)
            stranger = certificate(tmp_path, "stranger")
            code, told = await asyncio.to_thread(kubectl, port, own, stranger, BASE)
            assert code == 1, "the API server alone is answered"
