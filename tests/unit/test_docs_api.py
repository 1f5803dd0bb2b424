"""docs/api.md names every header that a request may ask with, and every one that an answer tells with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from router.gateway import attempt, envelope, lifecycle, paths, responses

DOCUMENT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
PACKAGE = Path(responses.__file__).parent


def table(heading: str) -> set[str]:
    """The names in the first column of the table below a heading."""
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_ask() -> None:
    asked = {name.decode() for name in envelope._ASKS} | {"x-request-id", "traceparent", "tracestate"}
    assert table("What a request may ask of the router") == asked


@pytest.mark.parametrize("module", [attempt, lifecycle, responses])
def test_every_answer_header(module: object) -> None:
    source = Path(str(module.__file__)).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    told = set(re.findall(r"(x-[a-z-]+|server-timing|retry-after(?:-ms)?): ", source))
    known = table("What an answer tells")
    missing = {name for name in told if not any(name.startswith(k.rstrip("…")) for k in known)}
    assert told
    assert not missing


@pytest.mark.parametrize("path", re.findall(r"`(?:POST )?(/[a-z0-9/_]+)`", DOCUMENT.partition("## What a request")[0]))
def test_every_path_takes_posts_or_is_answered_here(path: str) -> None:
    spelled = paths.path_of(path.encode())
    assert spelled == b"/v1" or paths.own(spelled) or paths.takes_posts(spelled)


def test_every_own_path_is_named() -> None:
    named = set(re.findall(r"`(?:GET )?(/[^` ]*)`", DOCUMENT.partition("## What a request")[0]))
    assert {path.decode() for path in paths.OWN} <= named
