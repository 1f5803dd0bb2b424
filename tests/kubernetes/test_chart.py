"""The chart renders values to objects that fit each other, the router and the image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from router.app import STOP_S
from router.config import Config, TimeoutsSection, parse
from router.config.loader import LEAD_KUBERNETES_S
from router.config.present import AT_START_ONLY
from tests.support.chart import GOLDEN, examples, golden
from tests.support.dockerfile import image
from tests.support.helm import CHART, EXAMPLES, NEEDS_HELM, Object, helm, objects, pick

pytestmark = NEEDS_HELM

ONE = EXAMPLES / "one-region.yaml"
FIVE = EXAMPLES / "five-regions.yaml"
REGIONS = ["ap-northeast", "ap-south", "eu-west", "us-east", "us-west"]


def _pod(found: list[Object], name: str | None = None) -> Object:
    spec: Object = pick(found, "Deployment", name)["spec"]["template"]["spec"]
    return spec


def _config(found: list[Object], name: str | None = None) -> Config:
    text = pick(found, "ConfigMap", name)["data"]["regions.toml"]
    return parse(text, "regions.toml", secrets=False, whole=True)


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.stem)
def test_lint_finds_nothing(example: Path) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(example))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


def test_lint_finds_nothing_without_values() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.stem)
def test_examples_come_out_as_they_did(example: Path) -> None:
    """After a change on purpose: python -m tests.support.chart."""
    assert golden(example) == (GOLDEN / example.name).read_text()


def test_every_golden_file_has_an_example() -> None:
    assert {path.name for path in GOLDEN.glob("*.yaml")} == {path.name for path in examples()}


@pytest.mark.parametrize("example", [None, *examples()], ids=lambda path: path.stem if path else "no values")
def test_what_objects_name_is_there(example: Path | None) -> None:
    found = objects(*([example] if example else []))
    names = {(o["kind"], o["metadata"]["name"]) for o in found}
    assert len(names) == len(found), "no two of a name"
    labels = [o["spec"]["template"]["metadata"]["labels"] for o in found if o["kind"] == "Deployment"]
    for o in found:
        if o["kind"] == "Deployment":
            spec = o["spec"]["template"]["spec"]
            assert ("ServiceAccount", spec["serviceAccountName"]) in names
            for volume in spec["volumes"]:
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in names
            mounted = [mount["name"] for mount in spec["containers"][0]["volumeMounts"]]
            assert sorted(mounted) == sorted(volume["name"] for volume in spec["volumes"])
        if o["kind"] == "HorizontalPodAutoscaler":
            assert ("Deployment", o["spec"]["scaleTargetRef"]["name"]) in names
        selector = _selector(o)
        if selector is not None:
            assert any(selector.items() <= pod.items() for pod in labels), f"{o['kind']} selects nothing"
        if o["kind"] == "ServiceMonitor":
            services = [s for s in found if s["kind"] == "Service" and _labels_fit(o, s)]
            assert [s["spec"]["clusterIP"] for s in services] == ["None"]


def _selector(o: Object) -> dict[str, str] | None:
    spec = o.get("spec", {})
    match o["kind"]:
        case "Service":
            return dict(spec["selector"])
        case "PodDisruptionBudget" | "Deployment":
            return dict(spec["selector"]["matchLabels"])
        case "NetworkPolicy":
            return dict(spec["podSelector"]["matchLabels"])
    return None


def _labels_fit(monitor: Object, service: Object) -> bool:
    wanted: dict[str, str] = monitor["spec"]["selector"]["matchLabels"]
    return wanted.items() <= service["metadata"]["labels"].items()


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.stem)
def test_every_configuration_is_one_that_the_router_takes(example: Path) -> None:
    maps = [o for o in objects(example) if o["kind"] == "ConfigMap"]
    assert maps
    for each in maps:
        config = parse(each["data"]["regions.toml"], "regions.toml", secrets=False, whole=True)
        assert config.backends or config.sources
        assert config.router.region in {region.spec.name for region in config.regions}


def test_every_kind_of_value_reaches_the_configuration() -> None:
    config = {
        "models": {'a/"b"-c': {"targets": [{"model": "x", "weight": 0.25}, {"model": "z"}]}},
        "plans": {"default": {}, "x.y": {"residency": ["eu"], "tokens_per_minute": 10**12}},
        "timeouts": {"connect": 0.000001, "first_token": 60, "drain": 1e1},
        "hedge": {"enabled": True},
        "cors": {"origins": []},
        "router": {"name": "r-1"},
        "regions": [
            {
                "name": "a",
                "jurisdiction": "eu",
                "location": [-33.9, 151],
                "backends": [{"name": "b", "url": "http://h:1/x"}],
            }
        ],
    }
    found = _config(objects(values={"config": config}))
    assert found.models['a/"b"-c'].targets[0].weight == 0.25
    assert found.plans["x.y"].residency == ("eu",)
    assert found.plans["x.y"].tokens_per_minute == 10**12
    assert found.plans["default"].written
    assert found.router.name == "r-1"
    assert found.timeouts.connect == 0.000001
    assert found.hedge.enabled
    assert found.cors.origins == ()
    assert found.regions[0].spec.location == (-33.9, 151)
    assert found.backends[0].url == "http://h:1/x"


def test_a_regions_file_is_taken_as_it_is(tmp_path: Path) -> None:
    text = '[auth]\nadmin_token_env = "T"\n[store]\nredis = "env:R"\n[[regions]]\nname = "x"\n[[regions.backends]]\nname = "y"\nurl = "http://z:1"\nmax_inflight = 7\n'
    found = objects(values={"configToml": text})
    assert _config(found).backends[0].max_inflight == 7
    assert [e["name"] for e in _pod(found)["containers"][0]["env"] if "valueFrom" in e] == ["R", "T"]


# The Deployment.


def test_the_pod_fits_the_image() -> None:
    made = image()
    spec = _pod(objects())
    (container,) = spec["containers"]
    assert "command" not in container, "the image's own"
    assert container["args"][:2] == made.command[:2]
    assert made.command[2] == container["args"][2], "the configuration is where the image expects it"
    assert made.user == f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
    assert [port["containerPort"] for port in container["ports"]] == made.ports
    assert made.folder in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_pod_can_do_nothing_that_it_need_not() -> None:
    spec = _pod(objects(FIVE), "meridian-us-east")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False, "nothing here asks the cluster's API"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "cpu" not in container["resources"]["limits"], "throttling makes every stream stutter"
    assert not [o for o in objects(FIVE) if o["kind"] in ("Secret", "Role", "ClusterRole")]


def test_the_cluster_may_choose_the_user() -> None:
    """OpenShift refuses a pod that names one outside of the range of its namespace."""
    chosen = _pod(objects(values={"user": None}))["securityContext"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & chosen.keys()
    assert (chosen["runAsNonRoot"], chosen["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert image().user.partition(":")[0].isdigit(), "of a name nobody knows that it is not root"


@pytest.mark.parametrize("timeouts", [{}, {"lead": 0, "drain": 0}, {"lead": 12.5}, {"drain": 3600, "lead": 1}])
def test_there_is_time_to_drain(timeouts: dict[str, float]) -> None:
    found = objects(values={"config": {"timeouts": timeouts}, "preStopSeconds": 7})
    spec = _pod(found)
    section = TimeoutsSection(**({"lead": LEAD_KUBERNETES_S} | timeouts))
    wait_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait_s == 7
    needed_s = wait_s + section.lead + section.drain + STOP_S
    assert needed_s <= spec["terminationGracePeriodSeconds"] < needed_s + 1


def test_only_keys_that_are_read_at_start_replace_the_pods() -> None:
    assert set(re.findall(r'"(\w+\.\w+)"', _template_text("meridian.atStart"))) == AT_START_ONLY

    def template(**config: Any) -> Object:
        found: Object = pick(objects(values={"config": config}), "Deployment")["spec"]["template"]
        return found

    plain = template()
    assert template(plans={"default": {"requests_per_minute": 1}}, limits={"queue": 5}) == plain
    assert template(router={"workers": 2}) != plain
    assert template(limits={"connections": 5}) != plain
    assert template(store={"wait": 0.2}) != plain


def _template_text(name: str) -> str:
    text = (CHART / "templates" / "_groups.tpl").read_text()
    return text.partition(f'define "{name}"')[2].partition("{{- define")[0]


def test_the_configuration_is_mounted_as_a_folder() -> None:
    (container,) = _pod(objects())["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["configuration"] == {"name": "configuration", "mountPath": "/etc/router", "readOnly": True}


def test_secrets_come_by_reference_and_only_those_that_are_named() -> None:
    found = objects(FIVE, values={"secret": {"from": {"ENGINES_KEY": {"name": "engines", "key": "token"}}}})
    (container,) = _pod(found, "meridian-eu-west")["containers"]
    assert [entry for entry in container["env"] if "valueFrom" in entry] == [
        _from_secret("ENGINES_KEY", "engines", "token"),
        _from_secret("MERIDIAN_REDIS", "meridian", "MERIDIAN_REDIS"),
        _from_secret("ROUTER_ADMIN_TOKEN", "meridian", "ROUTER_ADMIN_TOKEN"),
    ]


def _from_secret(variable: str, name: str, key: str) -> Object:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def test_probes_ask_what_they_mean() -> None:
    (container,) = _pod(objects())["containers"]
    assert container["startupProbe"]["tcpSocket"] == {"port": "clients"}, "it listens, whatever it speaks"
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin", "scheme": "HTTP"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin", "scheme": "HTTP"}
    live = container["livenessProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] >= 60, "a restart ends every stream"


def test_tls_reaches_the_router_and_the_service() -> None:
    found = objects(values={"tls": {"secret": "cert", "clientCa": True}})
    router = _config(found).router
    assert (router.tls_cert, router.tls_key, router.tls_client_ca) == (
        "/etc/router-tls/tls.crt",
        "/etc/router-tls/tls.key",
        "/etc/router-tls/ca.crt",
    )
    assert pick(found, "Service", "meridian")["spec"]["ports"][0]["port"] == 443
    assert {"name": "tls", "secret": {"secretName": "cert", "defaultMode": 0o440}} in _pod(found)["volumes"]


# Around it.


def test_the_admin_service_has_the_address_of_each_router_ready_or_not() -> None:
    spec = pick(objects(), "Service", "meridian-admin")["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)
    assert [port["name"] for port in spec["ports"]] == ["admin"]


def test_clients_reach_no_admin_port() -> None:
    found = objects(FIVE)
    for o in found:
        if o["kind"] == "Service" and not o["metadata"]["name"].endswith("-admin"):
            assert [port["targetPort"] for port in o["spec"]["ports"]] == ["clients"]
    policy = pick(found, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    (admin,) = [rule for rule in policy["ingress"] if rule["ports"][0]["port"] == "admin"]
    assert len(admin["from"]) == 2, "the routers themselves and Prometheus"


def test_routers_connect_where_they_may_and_always_find_names() -> None:
    own = {"networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}}
    policy = pick(objects(values=own), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    dns, given = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53, 5353}
    assert given == own["networkPolicy"]["egress"][0]


def test_the_autoscaler_and_the_deployment_do_not_both_decide() -> None:
    assert pick(objects(), "Deployment")["spec"]["replicas"] == 2
    found = objects(ONE)
    assert "replicas" not in pick(found, "Deployment")["spec"]
    assert pick(found, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2


# Five regions.


def test_every_region_has_its_own_routers_and_all_know_all() -> None:
    found = objects(FIVE)
    names = [o["metadata"]["name"] for o in found if o["kind"] == "Deployment"]
    assert names == [f"meridian-{region}" for region in REGIONS]
    for region in REGIONS:
        config = _config(found, f"meridian-{region}")
        assert config.router.region == region
        assert [r.spec.name for r in config.regions] == ["us-east", "us-west", "eu-west", "ap-northeast", "ap-south"]
        assert _pod(found, f"meridian-{region}")["nodeSelector"]
        assert pick(found, "PodDisruptionBudget", f"meridian-{region}")
        assert pick(found, "Service", f"meridian-{region}")
    everywhere = pick(found, "Service", "meridian")["spec"]["selector"]
    assert "meridian/router" not in everywhere


@pytest.mark.parametrize("region", REGIONS)
def test_one_file_serves_a_cluster_in_each_region(region: str) -> None:
    alone, together = objects(FIVE, sets=[f"only={region}"]), objects(FIVE)
    assert pick(alone, "Deployment") == pick(together, "Deployment", f"meridian-{region}")
    assert pick(alone, "ConfigMap") == pick(together, "ConfigMap", f"meridian-{region}")


def test_engines_are_scaled_within_their_bounds_by_the_model_and_the_region() -> None:
    engines = [
        {"name": "a", "model": "org/m-1", "min": 0, "max": 8, "region": "eu"},
        {"name": "b", "kind": "StatefulSet", "model": "n", "min": 2, "max": 3},
    ]
    models = {"org/m-1": {"target_ttft_s": 1}, "n": {"target_ttft_s": 1}}
    config = {"router": {"region": "us"}, "regions": [{"name": "us"}], "models": models}
    found = objects(values={"engines": engines, "config": config})
    assert len([o for o in found if o["kind"] == "TriggerAuthentication"]) == 1
    a, b = (pick(found, "ScaledObject", name)["spec"] for name in "ab")
    assert (a["minReplicaCount"], a["maxReplicaCount"], b["minReplicaCount"], b["maxReplicaCount"]) == (0, 8, 2, 3)
    assert [each["scaleTargetRef"]["kind"] for each in (a, b)] == ["Deployment", "StatefulSet"]
    asked = [urlsplit(each["triggers"][0]["metadata"]["url"]) for each in (a, b)]
    assert [(each.path, each.query) for each in asked] == [
        ("/admin/v1/needed/eu/org_m-1", ""),
        ("/admin/v1/needed/us/n", ""),
    ], "KEDA drops a query, and decodes a path"


# The cluster's API.


def _rights(found: list[Object]) -> dict[tuple[str, str], list[str]]:
    """(namespace, resource) -> verbs, of what the service account of the routers is given."""
    rights = {}
    for binding in (o for o in found if o["kind"] in ("RoleBinding", "ClusterRoleBinding")):
        (subject,) = binding["subjects"]
        assert (subject["kind"], subject["name"], subject["namespace"]) == ("ServiceAccount", "meridian", "llm")
        role = pick(
            [o for o in found if o["metadata"].get("namespace") == binding["metadata"].get("namespace")],
            binding["roleRef"]["kind"],
            binding["roleRef"]["name"],
        )
        for rule in role["rules"]:
            for resource in rule["resources"]:
                named = "/".join([*rule["apiGroups"], resource, *rule.get("resourceNames", ())])
                rights[binding["metadata"].get("namespace", ""), named] = rule["verbs"]
    return rights


READ = ["get", "list", "watch"]


def test_routers_may_ask_the_cluster_for_what_their_sources_need() -> None:
    source = {"kind": "kubernetes", "region": "a", "selector": "app=vllm"}
    config = {
        "regions": [{"name": "a"}],
        "sources": [
            source | {"name": "here"},
            source | {"name": "there", "namespace": "engines", "nodes": True},
            source | {"name": "far", "namespace": "elsewhere", "api": "https://other:6443", "token_file": "/t"},
            {"name": "names", "kind": "dns", "region": "a", "host": "vllm:8000"},
        ],
    }
    found = objects(values={"config": config})
    assert _rights(found) == {
        ("llm", "discovery.k8s.io/endpointslices"): READ,
        ("llm", "/services"): READ,
        ("engines", "discovery.k8s.io/endpointslices"): READ,
        ("engines", "/services"): READ,
        ("", "/nodes"): READ,
    }
    assert _pod(found)["automountServiceAccountToken"] is True
    config["sources"] = config["sources"][2:]
    found = objects(values={"config": config})
    assert _rights(found) == {}
    assert _pod(found)["automountServiceAccountToken"] is False


def test_routers_may_scale_the_workloads_that_they_wake_and_no_others() -> None:
    wake = {
        "x": {"min": 0, "target_ttft_s": 1, "wake": {"scale": "engines/deployments/vllm-x"}},
        "y": {"min": 0, "target_ttft_s": 1, "wake": {"scale": "llm/statefulsets/vllm-y"}},
        "z": {"min": 0, "target_ttft_s": 1, "wake": {"url": "https://hook.example.com/z"}},
    }
    found = objects(values={"config": {"models": wake}})
    assert _rights(found) == {
        ("engines", "apps/deployments/scale/vllm-x"): ["get", "patch"],
        ("llm", "apps/statefulsets/scale/vllm-y"): ["get", "patch"],
    }
    assert _pod(found)["automountServiceAccountToken"] is True
