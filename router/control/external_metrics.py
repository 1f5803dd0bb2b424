"""What Kubernetes asks an API of ``external.metrics.k8s.io/v1beta1``: how many backends are needed, as its documents.

A HorizontalPodAutoscaler with ``AverageValue: 1`` on ``router_backends_needed`` runs as many pods as the metric says.
``router_backends_ratio`` with ``Value: 1`` comes to the same by way of the pods that are ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from router.config.selectors import label_value, parse

GROUP = "external.metrics.k8s.io"
VERSION = f"{GROUP}/v1beta1"

Document = dict[str, Any]


def _number(name: str) -> Callable[[Document], float | None]:
    def read(entry: Document) -> float | None:
        value: float | None = entry[name]
        return value

    return read


def _ratio(entry: Document) -> float | None:
    needed, there = entry["needed"], entry["there"]
    return None if needed is None or not there else needed / there


#: name -> the value of an entry of the document of ``capacity``; None where there is none
METRICS: Mapping[str, Callable[[Document], float | None]] = {
    "router_backends_needed": _number("needed"),
    "router_backends_there": _number("there"),
    "router_backends_short": _number("short"),
    "router_backends_ratio": _ratio,
    "router_requests_waiting": _number("waiting"),
}


def groups() -> Document:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}


def group() -> Document:
    version = {"groupVersion": VERSION, "version": "v1beta1"}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}


def resources() -> Document:
    """What ``kubectl api-resources`` and the aggregation layer look for."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": VERSION,
        "resources": [
            {"name": name, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"]}
            for name in METRICS
        ],
    }


def values(capacity: Sequence[Document], metric: str, selector: str, wall_s: float) -> Document:
    """The values of a metric of every region and model that fits. Raises KeyError for one that does not exist, and
    SelectorError."""
    read, fits = METRICS[metric], parse(selector)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))
    items = []
    for entry in capacity:
        labels = {"region": entry["region"], "model": entry["model"]}
        value = read(entry)
        if value is not None and fits(labels):
            shown = {name: label_value(text) for name, text in labels.items()}
            items.append({"metricName": metric, "metricLabels": shown, "timestamp": at, "value": quantity(value)})
    return {"kind": "ExternalMetricValueList", "apiVersion": VERSION, "metadata": {}, "items": items}


def quantity(value: float) -> str:
    """As Kubernetes writes numbers: ``3``, ``2500m``."""
    return str(int(value)) if value == int(value) else f"{round(value * 1000)}m"


def status(code: int, reason: str, message: str) -> Document:
    """What went wrong, as Kubernetes writes it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
