"""Kubernetes' own schemas take every object of the chart, strictly, in several versions; those of operators as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart import examples
from tests.support.helm import NEEDS_HELM, NEEDS_SCHEMAS, SCHEMAS, objects, render
from tests.tidy.tree import ROOT

pytestmark = [NEEDS_HELM, NEEDS_SCHEMAS]

VERSIONS = ["1.30", "1.32", "1.34", "1.35", "1.36", "1.37"]
ENGINES = {
    "engines": [{"name": "x", "model": "m", "min": 0, "max": 2}],
    "config": {"models": {"m": {"target_ttft_s": 1}}},
}


def validate(text: str, version: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "objects.yaml"
    file.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(file)],
        env={**os.environ, "PYTHONPATH": str(SCHEMAS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_kubernetes_takes(version: str, tmp_path: Path) -> None:
    text = "\n---\n".join([render(kube=version), *(render(example, kube=version) for example in examples())])
    done = validate(text, version, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_the_example_of_engines_is_one_that_kubernetes_takes(version: str, tmp_path: Path) -> None:
    done = validate((ROOT / "deploy" / "examples" / "vllm.yaml").read_text(), version, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_finds_a_field_that_is_wrong(tmp_path: Path) -> None:
    text = render().replace("terminationGracePeriodSeconds:", "terminationGracePeriod:")
    done = validate(text, VERSIONS[-1], tmp_path)
    assert done.returncode != 0
    assert "terminationGracePeriod" in done.stdout + done.stderr


#: Fields of the kinds of operators, of those that the chart uses: names and types as their definitions have them.
#: A table is an object, a list of one item a list, anything else a value's type.
FOREIGN: dict[str, Any] = {
    "ServiceMonitor": {
        "jobLabel": str,
        "selector": {"matchLabels": dict},
        "namespaceSelector": {"matchNames": [str]},
        "endpoints": [
            {
                "port": str,
                "path": str,
                "interval": str,
                "authorization": {"type": str, "credentials": {"name": str, "key": str}},
            }
        ],
    },
    "PrometheusRule": {
        "groups": [
            {
                "name": str,
                "rules": [{"alert": str, "record": str, "expr": str, "for": str, "labels": dict, "annotations": dict}],
            }
        ]
    },
    "TriggerAuthentication": {"secretTargetRef": [{"parameter": str, "name": str, "key": str}]},
    "ScaledObject": {
        "scaleTargetRef": {"apiVersion": str, "kind": str, "name": str},
        "minReplicaCount": int,
        "maxReplicaCount": int,
        "pollingInterval": int,
        "cooldownPeriod": int,
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    "scaleUp": {"stabilizationWindowSeconds": int},
                    "scaleDown": {"stabilizationWindowSeconds": int},
                }
            }
        },
        "triggers": [{"type": str, "metricType": str, "metadata": dict, "authenticationRef": {"name": str}}],
    },
}


def _misfit(value: Any, shape: Any, path: str = "spec") -> str | None:
    if isinstance(shape, dict):
        if not isinstance(value, dict) or not value.keys() <= shape.keys():
            return f"{path}: {value}"
        return next(filter(None, (_misfit(value[name], shape[name], f"{path}.{name}") for name in value)), None)
    if isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return f"{path}: {value}"
        return next(filter(None, (_misfit(item, shape[0], path) for item in value)), None)
    if shape is dict:
        return (
            None if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()) else f"{path}: {value}"
        )
    return None if type(value) is shape else f"{path}: {value!r}"


def test_objects_of_operators_have_fields_that_there_are() -> None:
    found = [o for example in examples() for o in objects(example)] + objects(values=ENGINES)
    seen = set()
    for o in found:
        if o["kind"] in FOREIGN:
            seen.add(o["kind"])
            assert (why := _misfit(o["spec"], FOREIGN[o["kind"]])) is None, f"{o['kind']}: {why}"
    assert seen == set(FOREIGN)
