"""Kubernetes' own schemas take every object of the chart, strictly, in several versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chart import examples
from tests.support.helm import NEEDS_HELM, NEEDS_SCHEMAS, SCHEMAS, render

pytestmark = [NEEDS_HELM, NEEDS_SCHEMAS]

VERSIONS = ["1.30", "1.32", "1.34", "1.35", "1.36", "1.37"]


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


def test_the_check_finds_a_field_that_is_wrong(tmp_path: Path) -> None:
    text = render().replace("terminationGracePeriodSeconds:", "terminationGracePeriod:")
    done = validate(text, VERSIONS[-1], tmp_path)
    assert done.returncode != 0
    assert "terminationGracePeriod" in done.stdout + done.stderr
