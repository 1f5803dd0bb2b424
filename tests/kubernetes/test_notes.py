"""What Helm tells after an install: the Secret that is still to be made, and what will be missed."""

from __future__ import annotations

import json
from typing import Any

from tests.support.helm import CHART, EXAMPLES, NEEDS_HELM, helm

pytestmark = NEEDS_HELM


def notes(values: Any = None, *files: str) -> str:
    arguments = ["install", "meridian", str(CHART), "--namespace", "llm", "--dry-run=client", "--values", "-"]
    for file in files:
        arguments += ["--values", str(EXAMPLES / file)]
    done = helm(*arguments, stdin=json.dumps(values or {}))
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:\n")[2]


def test_the_keys_of_the_secret_are_those_that_come_from_it() -> None:
    said = notes()
    assert "the Secret meridian has the keys MERIDIAN_REDIS, ROUTER_ADMIN_TOKEN:" in said
    assert "--from-literal=ROUTER_ADMIN_TOKEN=..." in said


def test_a_variable_from_elsewhere_is_no_key_of_the_secret() -> None:
    own = {"env": [{"name": "MERIDIAN_REDIS", "value": "redis://redis:6379/0"}]}
    assert "has the key ROUTER_ADMIN_TOKEN:" in notes(own)
    other = {"secret": {"from": {"ROUTER_ADMIN_TOKEN": {"name": "operators"}}}}
    assert "MERIDIAN_REDIS" not in notes(own | other)
    assert "create secret" not in notes(own | other)


def test_keys_of_every_region_are_named() -> None:
    values = {
        "routers": {"b": {"config": {"auth": {"admin_token_env": "TOKEN_OF_B"}}}},
        "config": {"regions": [{"name": "b"}, *({"name": name} for name in ("us-east", "us-west"))]},
    }
    only = values | {"routers": {"us-east": None, "b": values["routers"]["b"]}}
    assert "MERIDIAN_REDIS, ROUTER_ADMIN_TOKEN, TOKEN_OF_B" in notes(only)


def test_keys_that_end_with_the_pod_are_no_surprise() -> None:
    gone = "in the memory of the pod and end with it"
    assert gone in notes({"config": {"store": {"redis": None}}, "replicas": 1})
    open_ = {"auth": {"mode": "open", "allow_open": True}, "store": {"redis": None}}
    assert gone not in notes({"config": open_, "replicas": 1})
    assert gone not in notes()


def test_a_source_brings_backends_too() -> None:
    assert "names no backend yet" in notes()
    assert "names no backend yet" not in notes(None, "scale-to-zero.yaml")
    source = {"name": "s", "kind": "dns", "region": "a", "host": "vllm:8000"}
    assert "names no backend yet" not in notes({"config": {"sources": [source]}})
