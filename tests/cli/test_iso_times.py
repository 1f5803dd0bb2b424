"""Every JSON that a command prints: its moments are in ISO 8601, and what the admin API tells is all there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from typer.main import get_command

from cli.app import build
from cli.docs import commands
from cli.iso_times import with_iso_times
from tests.support.cli import ROOT, router
from tests.support.site import Site, serving

TRACE = ROOT / "tests/data/traces/mooncake_synthetic_sample.jsonl"
#: command -> what is typed after it
LINES = {
    "chat": "hi --max-tokens 2",
    "explain": "last",
    "replay": f"{TRACE} --limit 20 --policy ttft",
    "bench": "-n 2 --max-tokens 2",
    "traffic show": "last",
    "regions show": "us-east",
    "regions drain": "us-east/a --for 10m",
    "regions resume": "us-east/a",
    "regions notice": "eu-central/a --in 5m",
    "regions probe": "us-east",
    "keys create": "new --expires 30d",
    "keys show": "tests",
    "keys set": "tests --expires 30d",
    "keys rotate": "tests",
    "keys revoke": "new --force",
    "quota show": "tests",
    "quota reset": "tests --minute",
    "config rollback": "--list",
    "chaos start": "us-east/b --slow 2",
}
#: command -> who looks at its JSON
ELSEWHERE = {
    "traffic tail": "one document on each line, as traffic list has them",
    "regions burn-in": "test_burn_in; it takes a while",
    "operators add": "without a file of operators it refuses: test_operators",
    "operators remove": "likewise",
    "config apply": "test_config_apply",
    "plan": "test_plan",
}
#: paths of numbers whose names sound like moments -> why they are none
NO_MOMENTS = {
    "regions probe .probes[].load.at_s": "the router's own clock, as docs/api.md says",
    "traffic stats .since_s": "how far was looked back",
    "config rollback .data[].back": "how many steps",
    "config schema .properties.limits.properties.body_bytes.maximum": "bytes",
    "config schema .properties.limits.properties.body_bytes_per_s.maximum": "bytes a second",
}
_SOUNDS_LIKE = re.compile(r"(?:^|_)(?:at|since|ts|time|until|when|created|expires|arrival|loaded)(?:_s)?$")

JSON_COMMANDS = [
    name.removeprefix("router ")
    for name, command in commands(get_command(build()), "router")
    if any("--json" in p.opts for p in command.params)
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site")) as site:
        site("chat", "hi", "--max-tokens", "2")
        yield site


@pytest.mark.parametrize("command", [name for name in JSON_COMMANDS if name not in ELSEWHERE])
def test_moments_are_in_iso_8601(site: Site, command: str) -> None:
    done = router(*command.split(), *LINES.get(command, "").split(), "--json", cwd=site.folder, env=site.env)
    document = json.loads(done.out)
    found = list(_fields(document, f"{command} "))
    assert not [path for path, _, problem in found if problem and path not in NO_MOMENTS]


def _fields(value: Any, path: str) -> Iterator[tuple[str, Any, bool]]:
    """Each field that is a moment or sounds like one; whether it is a number without an ISO time."""
    if isinstance(value, list):
        for each in value:
            yield from _fields(each, f"{path}[]")
    elif isinstance(value, dict):
        for name, each in value.items():
            here = f"{path}.{name}"
            if isinstance(each, int | float) and (_SOUNDS_LIKE.search(name) or 1e9 < each < 4e9):
                yield here, each, not _has_iso(value, name)
            yield from _fields(each, here)


def _has_iso(document: dict[str, Any], name: str) -> bool:
    text = document.get(name.removesuffix("_s"))
    return isinstance(text, str) and abs(datetime.fromisoformat(text).timestamp() - document[name]) <= 1.0


def test_every_command_with_json_is_looked_at() -> None:
    assert not (LINES.keys() | ELSEWHERE.keys()) - set(JSON_COMMANDS)
    assert len(JSON_COMMANDS) > 45


def test_nothing_is_taken_away_and_what_is_there_stays() -> None:
    told = {
        "at_s": 1_796_053_616.25,
        "since_s": 60.0,
        "a": [{"until_s": 1_796_053_616, "until": "soon"}],
        "n": 2_000_000_000,
    }
    assert with_iso_times(told) == told | {"at": "2026-11-30T15:46:56.250Z"}
    assert list(with_iso_times(told))[:2] == ["at_s", "at"]
    assert list(_fields({"x_at": 1_796_053_616, "at_s": None}, "")) == [(".x_at", 1_796_053_616, True)]
