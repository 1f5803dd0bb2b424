"""Engines asked without a router, real ones of the simulator among them."""

from __future__ import annotations

import pytest

from cli import asking
from cli.errors import CliError
from router.observe.survey import Surveyed
from sim.fleet import SimFleet
from sim.geography import DEFAULT_REGIONS


def test_an_engine_tells_what_it_is() -> None:
    with SimFleet(DEFAULT_REGIONS[:1], rtt_ms={"us-east": 0}) as fleet:
        backend = fleet.backends[0]
        found, nobody = asking.survey(
            [asking.spec_of("us/a", backend.url), asking.spec_of("us/b", "http://127.0.0.1:1")]
        )
    assert (found.problem, found.engine, found.models) == (None, "vllm", ("llama-3.1-8b",))
    assert found.kv_tokens is not None
    assert found.tells_load
    assert found.date.endswith("GMT")
    words = asking.words(found)
    assert words.startswith("vLLM · llama-3.1-8b · ")
    assert "KV cache of" in words
    assert nobody.problem is not None
    assert "refused" in nobody.problem


def test_words_for_little_and_for_many() -> None:
    assert asking.words(Surveyed()) == "unknown engine"
    many = Surveyed(engine="vllm", models=tuple("abcdefg"))
    assert asking.words(many) == "vLLM · a, b, c, d, e and 2 more"


@pytest.mark.parametrize("url", ["nowhere", "ftp://h", "http://user:secret@h", "http://h:0"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(CliError):
        asking.spec_of("us/a", url)


def test_an_address_that_was_copied_with_its_version() -> None:
    assert asking.spec_of("us/a", "http://h:8000/v1/").url == "http://h:8000"
