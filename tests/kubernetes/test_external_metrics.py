"""The routers as external.metrics.k8s.io of a cluster: what the chart makes for the API server to ask them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from router.config import parse
from tests.kubernetes.test_schemas import VERSIONS, validate
from tests.support.helm import EXAMPLES, NEEDS_HELM, NEEDS_SCHEMAS, Object, objects, pick, refusal, render

pytestmark = NEEDS_HELM

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
ON: Object = {
    "externalMetrics": {"enabled": True, "secret": "metrics-tls", "caBundle": "Q0E=", "clientCa": PEM, "port": 7443}
}
FIVE = EXAMPLES / "five-regions.yaml"


def _named(found: list[Object], kind: str) -> Mapping[str, Object]:
    return {o["metadata"]["name"]: o for o in found if o["kind"] == kind}


def test_the_api_server_finds_the_routers_by_way_of_the_service() -> None:
    found = objects(values=ON)
    api = pick(found, "APIService")["spec"]
    assert (api["group"], api["version"], api["caBundle"]) == ("external.metrics.k8s.io", "v1beta1", "Q0E=")
    service = _named(found, "Service")[api["service"]["name"]]
    (port,) = service["spec"]["ports"]
    assert port["port"] == api["service"]["port"]
    pod = pick(found, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {p["name"]: p["containerPort"] for p in pod["spec"]["containers"][0]["ports"]}
    assert ports[port["targetPort"]] == 7443


def test_the_router_listens_there_with_the_certificate_of_the_secret() -> None:
    found = objects(values=ON)
    config = parse(
        pick(found, "ConfigMap", "meridian")["data"]["regions.toml"], "regions.toml", secrets=False, whole=True
    ).autoscaling
    assert config.listen == "0.0.0.0:7443"
    pod = pick(found, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (v for v in pod["volumes"] if "projected" in v)
    tls, layer = volume["projected"]["sources"]
    assert tls["secret"]["name"] == "metrics-tls"
    assert pick(found, "ConfigMap", layer["configMap"]["name"])["data"] == {"ca.crt": PEM + "\n"}
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["name"] == volume["name"])
    paths = (config.tls_cert, config.tls_key, config.tls_client_ca)
    assert [str(path) for path in paths] == [
        f"{mount['mountPath']}/{name}" for name in ("tls.crt", "tls.key", "ca.crt")
    ]


def test_the_network_lets_the_api_server_through_to_this_port() -> None:
    (rule,) = (
        rule
        for rule in pick(objects(values=ON), "NetworkPolicy")["spec"]["ingress"]
        if rule["ports"] == [{"port": "metrics", "protocol": "TCP"}]
    )
    assert "from" not in rule


def test_one_service_has_the_routers_of_every_region() -> None:
    found = objects(FIVE, values=ON)
    (name,) = _named(found, "APIService")
    assert name == "v1beta1.external.metrics.k8s.io"
    selector = _named(found, "Service")[pick(found, "APIService")["spec"]["service"]["name"]]["spec"]["selector"]
    pods = [o["spec"]["template"]["metadata"]["labels"] for o in found if o["kind"] == "Deployment"]
    assert len(pods) == 5
    assert all(selector.items() <= labels.items() for labels in pods)


def test_without_it_there_is_none_of_this() -> None:
    text = render()
    assert "metrics-tls" not in text
    assert not _named(objects(), "APIService")


def test_another_program_may_write_the_authority_into_the_apiservice() -> None:
    note = {"cert-manager.io/inject-ca-from": "llm/metrics"}
    own = {k: v for k, v in ON["externalMetrics"].items() if k != "caBundle"} | {"annotations": note}
    api = pick(objects(values={"externalMetrics": own}), "APIService")
    assert api["metadata"]["annotations"] == note
    assert not {"caBundle", "insecureSkipTLSVerify"} & api["spec"].keys()


@pytest.mark.parametrize("left_out", ["secret", "caBundle", "clientCa"])
def test_a_certificate_that_cannot_be_checked_is_refused(left_out: str) -> None:
    values = {"externalMetrics": {k: v for k, v in ON["externalMetrics"].items() if k != left_out}}
    assert "externalMetrics" in refusal(values)


@NEEDS_SCHEMAS
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_objects(version: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = validate(render(kube=version, values=ON), version, tmp_path_factory.mktemp("objects"))
    assert done.returncode == 0, done.stdout + done.stderr
