"""Label selectors as Kubernetes writes them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.selectors import SelectorError, label_value, parse

LABELS = {"region": "us-east", "model": "meta/llama 3"}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("", True),
        ("region=us-east", True),
        ("region==us-east", True),
        ("region!=us-east", False),
        ("region=eu", False),
        ("zone=eu", False),
        ("zone!=eu", True),
        ("model=meta/llama 3", True),
        ("model=meta_llama_3", True),
        ("model!=meta_llama_3", False),
        ("region in (eu, us-east)", True),
        ("region notin (eu, us-east)", False),
        ("region notin (eu)", True),
        ("zone in (eu)", False),
        ("zone notin (eu)", True),
        ("region", True),
        ("!region", False),
        ("zone", False),
        ("!zone", True),
        ("region=us-east,model=meta_llama_3", True),
        ("region=us-east, model in (x)", False),
        ("region in (us-east),!zone,model", True),
    ],
)
def test_what_fits(selector: str, fits: bool) -> None:
    assert parse(selector)(LABELS) is fits


@pytest.mark.parametrize(
    "selector", ["=x", "region in", "region in (a", "region=(a)", "region us", "a=b=c", "(", "a&b"]
)
def test_what_is_no_selector(selector: str) -> None:
    with pytest.raises(SelectorError):
        parse(selector)


@given(st.text(max_size=100))
def test_a_label_can_hold_it(text: str) -> None:
    value = label_value(text)
    assert re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", value)
    assert len(value) <= 63


@given(st.text(max_size=60))
def test_parsing_ends_with_an_answer_or_its_own_error(text: str) -> None:
    try:
        assert parse(text)(LABELS) in (True, False)
    except SelectorError:
        pass
