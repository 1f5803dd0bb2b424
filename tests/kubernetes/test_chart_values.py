"""Which values the chart refuses, and why, and that no value becomes something else on its way into an object."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.test_external_metrics import PEM
from tests.support.helm import NEEDS_HELM, Object, objects, pick, refusal, render

pytestmark = NEEDS_HELM


def test_several_routers_without_a_store_are_refused() -> None:
    assert "config.store.redis" in refusal({"config": {"store": {"redis": None}}})
    assert "config.store.redis" in refusal({"config": {"store": {"redis": "embedded"}}})
    assert "config.store.redis" in refusal(
        {"config": {"store": None}, "routers": {"a": {"replicas": 1}, "b": {"replicas": 1}}}
    )
    assert objects(values={"config": {"store": {"redis": "embedded"}}, "replicas": 1})


def test_an_admin_address_without_a_token_is_refused() -> None:
    assert "admin_token_env" in refusal({"config": {"auth": {"admin_token_env": None}}})


def test_a_region_that_is_not_there_is_refused() -> None:
    assert '"mars" is not one of routers: a, b' in refusal({"routers": {"a": {}, "b": {}}, "only": "mars"})


WRONG: list[tuple[Object, str]] = [
    ({"replica": 3}, "replica"),
    ({"replicas": "three"}, "replicas"),
    ({"image": {"repo": "x"}}, "repo"),
    ({"config": {"router": {"listen": "0.0.0.0:1"}}}, "listen"),
    ({"config": {"timeouts": {"drian": 3}}}, "drian"),
    ({"config": {"regions": [{"name": "a", "backends": [{"name": "b"}]}]}}, "url"),
    (
        {"config": {"regions": [{"name": "a", "backends": [{"name": "b", "url": "http://x", "engine": "vlm"}]}]}},
        "engine",
    ),
    ({"routers": {"a": {"config": {"nonsense": {}}}}}, "nonsense"),
    ({"autoscaling": {"minimum": 3}}, "minimum"),
    ({"probes": {"liveness": {"periodSeconds": 0}}}, "periodSeconds"),
    ({"resources": {"limits": {"memory": "2 GB"}}}, "memory"),
    ({"mounts": [{"name": "x", "path": "/x"}]}, "mounts"),
    ({"ports": {"clients": 80}}, "clients"),
    ({"user": 0}, "user"),
    ({"keda": {"enabled": True, "port": 80}}, "port"),
    ({"networkPolicy": {"admin": [{"ipblock": {}}]}}, "ipblock"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"engines": [{"name": "x", "model": "m", "min": 0}]}, "max"),
]


@pytest.mark.parametrize(("values", "place"), WRONG, ids=lambda each: each if isinstance(each, str) else "")
def test_values_that_are_wrong_are_refused(values: Object, place: str) -> None:
    why = refusal(values)
    assert "schema" in why
    assert place in why


#: They render; the router or the API server refuses them, or they do something else than is meant.
ONE_REGION: Object = {"regions": [{"name": "a"}, {"name": "b"}], "models": {"m": {"target_ttft_s": 1}}}
ENGINE: Object = {"name": "x", "model": "m", "min": 1, "max": 2}
MOUNT: Object = {"name": "x", "secret": "s", "path": "/x"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"engines": [ENGINE | {"min": 3}]}, "engines: x: min (3) is more than max (2)"),
        ({"engines": [ENGINE, ENGINE]}, "engines: x is there twice"),
        ({"engines": [ENGINE | {"model": "other"}]}, 'config.models."other".target_ttft_s'),
        ({"engines": [ENGINE], "routers": {"a": None, "b": None}}, "engines: x: there are routers of several regions"),
        ({"autoscaling": {"enabled": True, "min": 11}}, "autoscaling: min (11) is more than max (10)"),
        ({"ports": {"clients": 9090}}, "must differ"),
        (
            {"externalMetrics": {"enabled": True, "secret": "s", "caBundle": "QQ==", "clientCa": PEM, "port": 8080}},
            "must differ",
        ),
        ({"keda": {"enabled": True, "port": 8080}}, "must differ"),
        ({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "env: A is there twice"),
        (
            {"env": [{"name": "ROUTER_CONFIG", "value": "/x"}]},
            "env: ROUTER_CONFIG is there twice, or is one that the chart",
        ),
        ({"mounts": [MOUNT, MOUNT | {"path": "/y"}]}, "mounts: there are two of the name x"),
        ({"mounts": [MOUNT, MOUNT | {"name": "y", "path": "/x/"}]}, "mounts: y: /x/ is the place of something else"),
        ({"mounts": [MOUNT | {"path": "/tmp"}]}, "mounts: x: /tmp is the place of something else"),
        ({"image": {"pullSecrets": ["a", "a"]}}, "pullSecrets"),
        ({"routers": {"c": None}}, 'routers.c.region: "c" is not one of config.regions (a, b)'),
        ({"config": {"router": {"region": "c"}}}, 'config.router.region: "c" is not one of config.regions (a, b)'),
        ({"routers": {"x.a": {"region": "a"}, "X-A": {"region": "a"}}}, "would have the same name, meridian-x-a"),
        ({"routers": {"a_": {"region": "a"}}}, "at '/routers': additional properties 'a_' not allowed"),
        ({"config": {"plans": {"a b": {}}}}, "at '/config/plans': additional properties 'a b' not allowed"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(values: Object, said: str) -> None:
    config = ONE_REGION | values.get("config", {})
    assert said in refusal(values | {"config": config})


def test_a_release_whose_name_no_service_can_have() -> None:
    with pytest.raises(AssertionError, match="set fullnameOverride"):
        render(release="1st")
    assert objects(release="1st", values={"fullnameOverride": "first"})


@pytest.mark.parametrize("word", ["no", "true", "null", "123", "0x1f", "1e3", "y"])
def test_names_that_yaml_reads_as_something_else_stay_names(word: str) -> None:
    """no is Norway, 123 is a namespace."""
    wake = {"min": 0, "target_ttft_s": 1, "wake": {"scale": f"{word}/deployments/{word}"}}
    source = {"name": "s", "kind": "kubernetes", "region": word, "namespace": word, "selector": "a=b", "nodes": True}
    values: Object = {
        "config": {"models": {"m": wake}, "regions": [{"name": word}], "sources": [source]},
        "routers": {word: None},
        "engines": [ENGINE | {"name": word}, ENGINE | {"name": "n", "namespace": word}],
        "keda": {"enabled": True},
        "image": {"pullSecrets": [word]},
        "secret": {"name": word, "from": {"MERIDIAN_REDIS": {"name": word, "key": word}}},
        "tls": {"secret": word},
        "serviceAccount": {"name": word},
        "mounts": [{"name": word, "secret": word, "path": f"/{word}"}, {"name": "c", "configMap": word, "path": "/c"}],
        "priorityClassName": word,
        "externalMetrics": {"enabled": True, "secret": word, "caBundle": "QQ==", "clientCa": PEM},
        "serviceMonitor": {"enabled": True},
        "autoscaling": {"enabled": True},
        "fullnameOverride": "" if word[0].isdigit() else word,
    }
    found = objects(values=values, release="meridian" if word[0].isdigit() else word, namespace=word)
    assert len(found) > 15
    wrong = [at for o in found for at in _not_text(o, o["kind"])]
    assert not wrong


#: Keys of objects whose value is a name, or a table of texts.
_NAMES = {"name", "namespace", "secretName", "priorityClassName", "serviceAccountName", "key", "mountPath"}
_TABLES = {"labels", "annotations", "matchLabels", "nodeSelector"}


def _not_text(thing: Any, path: str) -> list[str]:
    found = []
    for key, value in thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ():
        if key in _NAMES and not isinstance(value, str):
            found.append(f"{path}/{key}: {value!r}")
        if key in _TABLES:
            found += [f"{path}/{key}/{k}: {v!r}" for k, v in value.items() if not isinstance(v, str)]
        found += _not_text(value, f"{path}/{key}")
    return found


def test_a_variable_of_the_values_takes_the_place_of_that_of_the_secret() -> None:
    """Twice in one list it would be refused when the chart is applied."""
    own = {"name": "MERIDIAN_REDIS", "value": "redis://redis:6379/0"}
    container = _router(objects(values={"env": [own]}))
    assert [entry for entry in container["env"] if entry["name"] == own["name"]] == [own]


def test_no_wait_before_the_signal_where_none_is_wanted() -> None:
    """Kubernetes before 1.34 refuses a sleep of 0 seconds."""
    container = _router(objects(values={"preStopSeconds": 0}))
    assert "lifecycle" not in container


@pytest.mark.parametrize("text", ['[[sources]]\nname = "s"', '[models.m.wake]\nscale = "x"'])
def test_a_regions_file_that_the_router_would_refuse_is_left_to_it(text: str) -> None:
    """It lists every problem of the file; Helm would stop with a riddle about one."""
    head = '[auth]\nadmin_token_env = "T"\n[store]\nredis = "env:R"\n'
    assert objects(values={"configToml": head + text})


def _router(found: list[Object]) -> Object:
    (container,) = pick(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container
