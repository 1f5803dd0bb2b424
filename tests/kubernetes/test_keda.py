"""KEDA's external scaler in the chart: what it makes for KEDA to ask the routers over gRPC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from router.config import parse
from tests.kubernetes.test_external_metrics import PEM
from tests.kubernetes.test_schemas import VERSIONS, validate
from tests.support.helm import EXAMPLES, NEEDS_HELM, NEEDS_SCHEMAS, Object, objects, pick, refusal, render
from tests.tidy.tree import ROOT

pytestmark = NEEDS_HELM

MODELS: Object = {"org/m": {"target_ttft_s": 1}}
ENGINE: Object = {"name": "vllm-m", "model": "org/m", "min": 0, "max": 2}
ON: Object = {
    "keda": {"enabled": True, "port": 9123},
    "engines": [ENGINE],
    "config": {
        "router": {"region": "us"},
        "regions": [{"name": "us", "backends": [{"name": "a", "url": "http://a:1", "models": ["org/m"]}]}],
        "models": MODELS,
    },
}


def _trigger(found: list[Object], name: str = "vllm-m") -> Mapping[str, Any]:
    (trigger,) = pick(found, "ScaledObject", name)["spec"]["triggers"]
    return dict(trigger)


def test_keda_finds_the_routers_by_way_of_the_service() -> None:
    found = objects(values=ON)
    trigger = _trigger(found)
    assert (trigger["type"], trigger["metricType"]) == ("external-push", "AverageValue")
    assert trigger["metadata"] == {
        "scalerAddress": "meridian-keda.llm.svc:9123",
        "model": "org/m",
        "region": "us",
    }
    service = pick(found, "Service", "meridian-keda")
    (port,) = service["spec"]["ports"]
    pod = pick(found, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {p["name"]: p["containerPort"] for p in pod["spec"]["containers"][0]["ports"]}
    assert (port["port"], ports[port["targetPort"]]) == (9123, 9123)
    config = parse(pick(found, "ConfigMap")["data"]["regions.toml"], "regions.toml", secrets=False, whole=True)
    assert config.autoscaling.keda == "0.0.0.0:9123"


def test_the_object_in_the_manual_is_the_one_that_the_chart_makes() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    (shown,) = [block for block in blocks if block.get("kind") == "ScaledObject"]
    (values,) = [block for block in blocks if "keda" in block]
    values["config"] |= {"router": {"region": "us-east"}, "regions": [{"name": "us-east"}]}
    made = pick(objects(values=values), "ScaledObject")
    assert made["spec"] == shown["spec"]
    assert shown["metadata"].items() <= made["metadata"].items()


def test_keda_needs_no_token_there() -> None:
    found = objects(values=ON)
    assert "authenticationRef" not in _trigger(found)
    assert not [o for o in found if o["kind"] == "TriggerAuthentication"]


def test_the_network_lets_keda_alone_through_to_this_port() -> None:
    def rule(**policy: Any) -> Object:
        rules = pick(objects(values=ON | {"networkPolicy": policy}), "NetworkPolicy")["spec"]["ingress"]
        (found,) = (r for r in rules if r["ports"] == [{"port": "keda", "protocol": "TCP"}])
        return dict(found)

    assert rule()["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]
    assert rule(keda=[{"podSelector": {}}])["from"] == [{"podSelector": {}}]
    assert "from" not in rule(keda=[])


def test_engines_may_stand_in_other_namespaces() -> None:
    engines = [ENGINE, ENGINE | {"namespace": "engines", "max": 5}]
    found = objects(values=ON | {"engines": engines})
    scaled = {o["metadata"]["namespace"]: o["spec"]["maxReplicaCount"] for o in found if o["kind"] == "ScaledObject"}
    assert scaled == {"llm": 2, "engines": 5}
    there = {"engines": engines[1:], "keda": {"enabled": False}}
    assert "needs the Secret with the admin token in the namespace engines, too: set keda.enabled" in refusal(
        ON | there
    )
    assert objects(values=ON | there, namespace="engines"), "the Secret is there"
    assert "engines: vllm-m is there twice" in refusal(ON | {"engines": [ENGINE, ENGINE | {"namespace": "llm"}]})


def test_one_service_has_the_routers_of_every_region() -> None:
    found = objects(EXAMPLES / "five-regions.yaml", values={"keda": {"enabled": True}})
    selector = pick(found, "Service", "meridian-keda")["spec"]["selector"]
    pods = [o["spec"]["template"]["metadata"]["labels"] for o in found if o["kind"] == "Deployment"]
    assert len(pods) == 5
    assert all(selector.items() <= labels.items() for labels in pods)


def test_it_stands_beside_the_api_of_external_metrics() -> None:
    both = ON | {"externalMetrics": {"enabled": True, "secret": "metrics-tls", "caBundle": "Q0E=", "clientCa": PEM}}
    text = pick(objects(values=both), "ConfigMap", "meridian")["data"]["regions.toml"]
    config = parse(text, "regions.toml", secrets=False, whole=True).autoscaling
    assert (config.keda, config.listen) == ("0.0.0.0:9123", "0.0.0.0:6443")


def test_without_it_there_is_none_of_this() -> None:
    found = objects(values=ON | {"keda": {"enabled": False}})
    assert _trigger(found)["type"] == "metrics-api"
    assert "meridian-keda" not in render(values=ON | {"keda": {"enabled": False}})
    text = pick(found, "ConfigMap")["data"]["regions.toml"]
    assert parse(text, "regions.toml", secrets=False, whole=True).autoscaling.keda is None


def test_a_port_that_another_listener_has_is_refused() -> None:
    assert "must differ" in refusal(ON | {"keda": {"enabled": True, "port": 9090}})


def test_routers_with_addresses_of_ipv6_are_asked_over_grpc() -> None:
    """KEDA 2.20 writes an address into the URL without its brackets."""
    six = ON | {"listenAddress": "[::]"}
    config = parse(pick(objects(values=six), "ConfigMap")["data"]["regions.toml"], "r", secrets=False, whole=True)
    assert config.autoscaling.keda == "[::]:9123"
    assert "set keda.enabled" in refusal(six | {"keda": {"enabled": False}})


@NEEDS_SCHEMAS
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_objects(version: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = validate(render(kube=version, values=ON), version, tmp_path_factory.mktemp("objects"))
    assert done.returncode == 0, done.stdout + done.stderr
