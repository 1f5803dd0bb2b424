"""The documents of external.metrics.k8s.io/v1beta1."""

from __future__ import annotations

from typing import Any

import pytest

from router.control import external_metrics as kubernetes

ENTRIES: list[dict[str, Any]] = [
    {"region": "us-east", "model": "meta/llama", "there": 2, "needed": 5, "short": 3, "waiting": 4.0},
    {"region": "eu-west", "model": "meta/llama", "there": 0, "needed": 1, "short": 1, "waiting": 0.0},
    {"region": "us-east", "model": "plain", "there": 1, "needed": None, "short": None, "waiting": 0.0},
]


def values(metric: str, selector: str = "") -> list[tuple[dict[str, str], str]]:
    document = kubernetes.values(ENTRIES, metric, selector, 0.0)
    assert (document["kind"], document["apiVersion"]) == ("ExternalMetricValueList", "external.metrics.k8s.io/v1beta1")
    assert all(i["metricName"] == metric and i["timestamp"] == "1970-01-01T00:00:00Z" for i in document["items"])
    return [(item["metricLabels"], item["value"]) for item in document["items"]]


def test_values_are_those_that_are_known() -> None:
    east, west = {"region": "us-east", "model": "meta_llama"}, {"region": "eu-west", "model": "meta_llama"}
    assert values("router_backends_needed") == [(east, "5"), (west, "1")]
    assert values("router_backends_needed", "region=eu-west") == [(west, "1")]
    assert values("router_backends_ratio") == [(east, "2500m")]
    assert values("router_backends_there", "model=plain") == [({"region": "us-east", "model": "plain"}, "1")]
    assert values("router_backends_needed", "region=nowhere") == []


def test_an_unknown_metric() -> None:
    with pytest.raises(KeyError):
        values("router_backends")


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (3.0, "3"), (2.5, "2500m"), (1 / 3, "333m"), (1000.0, "1000")])
def test_quantities(value: float, text: str) -> None:
    assert kubernetes.quantity(value) == text


def test_discovery_names_every_metric() -> None:
    listed = kubernetes.resources()
    assert [r["name"] for r in listed["resources"]] == list(kubernetes.METRICS)
    assert all(r["namespaced"] and r["kind"] == "ExternalMetricValueList" for r in listed["resources"])
    assert kubernetes.groups()["groups"][0]["preferredVersion"]["groupVersion"] == listed["groupVersion"]
