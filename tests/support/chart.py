"""Writes what the chart has from the code, and the expected output of its examples: `python -m tests.support.chart`.

The schema of the values has that of regions.toml inside; tests/data/helm has what Helm makes of deploy/helm/examples.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from router.config.jsonschema import json_schema
from tests.support.helm import CHART, EXAMPLES, ROOT, render

SCHEMA = CHART / "values.schema.json"
GOLDEN = ROOT / "tests" / "data" / "helm"
#: Keys that only the chart sets.
CHARTS_OWN = ("listen", "admin")


def config_schema() -> dict[str, Any]:
    """regions.toml as the values have it."""
    schema = json_schema()
    del schema["$schema"]
    for key in CHARTS_OWN:
        del schema["properties"]["router"]["properties"][key]
    return schema


def values_schema() -> str:
    """The text of values.schema.json with the configuration as the code has it."""
    schema = json.loads(SCHEMA.read_text())
    schema["$defs"]["config"] = config_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def examples() -> list[Path]:
    return sorted(EXAMPLES.glob("*.yaml"))


def golden(example: Path) -> str:
    """Without the alerts: they have files and tests of their own."""
    return render(example, sets=["prometheusRule.enabled=false"])


def write() -> None:
    SCHEMA.write_text(values_schema())
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for example in examples():
        (GOLDEN / example.name).write_text(golden(example))


if __name__ == "__main__":
    write()
