"""Telemetry as the configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.config import parse
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec
from router.errors import ConfigError
from router.telemetry.build import exporter_of, telemetry_of
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.spans import spans_of

FLEET = '[router]\nname = "edge-1"\n[[regions]]\nname = "us"\nbackends = [{name = "a", url = "http://10.0.0.1:8000"}]\n'


def test_a_journal_that_cannot_be_written_is_a_problem_of_the_file(tmp_path: Path) -> None:
    config = parse(f'[journal]\npath = "{tmp_path}/file/journal"\n{FLEET}', "t")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="journal"):
        telemetry_of(config, list, access=None, human=False)


async def test_spans_say_who_the_router_is_and_where_its_backends_are() -> None:
    config, fleet = parse(FLEET, "t"), Fleet(Params())
    fleet.apply([BackendSpec("us/a", RegionSpec("us"), url="http://10.0.0.1:8000", engine="vllm")], 0.0)
    telemetry = telemetry_of(config, list, access=None, human=False)
    exporter = exporter_of(telemetry, config, fleet, version="9")
    telemetry.tracing.apply(config.tracing)
    made = Record("id", 1.0, trace=telemetry.tracing.begin(None), attempts=[AttemptRecord("us/a", "us")])
    request, attempt = spans_of(made, exporter.gateway)
    assert request.attributes["meridian.router"] == "edge-1"
    assert (attempt.attributes["server.address"], attempt.attributes["server.port"]) == ("10.0.0.1", 8000)
    assert attempt.attributes["gen_ai.provider.name"] == "vllm"
