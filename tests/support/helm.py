"""Helm, the chart, and what the chart makes of values. `make kubernetes` fetches Helm and the schemas of Kubernetes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "meridian"
EXAMPLES = ROOT / "deploy" / "helm" / "examples"
_FETCHED = ROOT / ".cache" / "kubernetes"
#: kubernetes-validate and what it needs
SCHEMAS = _FETCHED / "lib"

Object = dict[str, Any]


@cache
def program(name: str) -> str | None:
    """Where helm or kubectl is."""
    return shutil.which(name, path=str(_FETCHED / "bin")) or shutil.which(name)


#: For modules that need Helm. In CI they run whatever is missing, and say so by failing.
NEEDS_HELM = pytest.mark.skipif(
    "CI" not in os.environ and program("helm") is None, reason="Helm is not installed: make kubernetes"
)
NEEDS_SCHEMAS = pytest.mark.skipif(
    "CI" not in os.environ and not SCHEMAS.exists(), reason="kubernetes-validate is not installed: make kubernetes"
)


@cache
def helm(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    found = program("helm")
    assert found is not None, "make kubernetes fetches Helm"
    return subprocess.run([found, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False)


def render(
    *files: Path,
    values: Object | None = None,
    sets: Sequence[str] = (),
    release: str = "meridian",
    namespace: str = "llm",
    kube: str = "1.37.0",
) -> str:
    """What `helm template` prints. Raises AssertionError with Helm's complaint."""
    arguments = ["template", release, str(CHART), "--namespace", namespace, "--kube-version", kube]
    for file in files:
        arguments += ["--values", str(file)]
    for each in sets:
        arguments += ["--set", each]
    if values is not None:
        arguments += ["--values", "-"]
    done = helm(*arguments, stdin=json.dumps(values) if values is not None else "")
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(*files: Path, **how: Any) -> list[Object]:
    return [each for each in yaml.safe_load_all(render(*files, **how)) if each]


def pick(found: Sequence[Object], kind: str, name: str | None = None) -> Object:
    """The one object of this kind, or of this kind and name."""
    fits = [o for o in found if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(fits) == 1, f"{len(fits)} of {kind} {name or ''}"
    return fits[0]


def refusal(values: Object) -> str:
    """Why Helm refuses these values."""
    with pytest.raises(AssertionError) as caught:
        render(values=values)
    return str(caught.value)
