"""Which engine a page and a list of models are from, told by captures of real engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.traits import TRAITS
from router.observe.survey import UNTOLD, engine_of

DATA = Path(__file__).parents[1] / "data" / "engines"
ENGINES = ("vllm", "sglang", "llamacpp")


@pytest.mark.parametrize("engine", ENGINES)
def test_real_engines_are_told_by_either_page(engine: str) -> None:
    models = (DATA / engine / "models.json").read_bytes()
    page = (DATA / engine / "metrics_under_load.txt").read_bytes()
    assert engine_of(models, b"") == engine
    assert engine_of(b"", page) == engine
    assert engine_of(models, page) == engine


def test_other_engines() -> None:
    assert engine_of(b"", b"tgi_queue_size 0\n") == "tgi"
    assert engine_of(b'{"data": [{"id": "m", "owned_by": "meridian"}]}', b"") == "router"
    assert engine_of(b'{"data": [{"id": "m", "owned_by": "somebody"}]}', b"") == UNTOLD


@given(models=st.binary(max_size=200), page=st.binary(max_size=200))
def test_whatever_answers_is_judged_without_an_exception(models: bytes, page: bytes) -> None:
    assert engine_of(models, page) in {None, *TRAITS}


@pytest.mark.parametrize("models", [b"", b"[]", b'{"data": []}', b'{"data": [1]}', b'{"data": {"a": 1}}', b"<html>"])
def test_no_list_of_models_is_no_engine(models: bytes) -> None:
    assert engine_of(models, b"process_cpu_seconds_total 1\n") is None
