"""Aliases of models: where a request may go, and the one place in its body that changes."""

from __future__ import annotations

import random
from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import ModelAlias, ModelTarget
from router.gateway.aliases import Aliases, edited, model_spans
from router.gateway.members import MalformedError

ALIASES = Aliases(
    {
        "chat": ModelAlias("chat", (ModelTarget("new", 1.0), ModelTarget("old", 3.0)), ("spare", "old")),
        "big": ModelAlias("big", (), ("small",)),
    }
)


def test_a_name_without_an_alias_stands_for_itself() -> None:
    assert ALIASES.route("llama", random.Random(1)) == ("llama",)
    assert ALIASES.may_be("llama", "llama")
    assert not ALIASES.may_be("llama", "new")


def test_targets_are_drawn_by_weight_and_fallbacks_follow() -> None:
    rng = random.Random(1)
    routes = Counter(ALIASES.route("chat", rng) for _ in range(4000))
    assert routes.keys() == {("new", "spare", "old"), ("old", "spare")}, "a fallback that was drawn comes once"
    assert 0.22 < routes["new", "spare", "old"] / 4000 < 0.28


def test_an_alias_without_targets_is_a_model_with_fallbacks() -> None:
    assert ALIASES.route("big", random.Random(1)) == ("big", "small")


@pytest.mark.parametrize(
    ("model", "served", "possible"),
    [
        ("chat", "new", True),
        ("chat", "spare", True),
        ("chat", "chat", False),
        ("big", "big", True),
        ("big", "new", False),
    ],
)
def test_which_model_may_have_answered(model: str, served: str, possible: bool) -> None:
    assert ALIASES.may_be(model, served) is possible


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "a", '"']), inner, max_size=3)
    ),
    max_leaves=6,
)


def with_model(body: bytes) -> bytes:
    return b"".join(edited(body, [(begin, end, b'"new"') for begin, end in model_spans(body)]))


@given(st.text(max_size=8), st.dictionaries(st.sampled_from(["messages", "x", 'mo"del']), _JSON, max_size=4))
def test_only_the_top_model_changes(model: str, others: dict[str, object]) -> None:
    for document in ({"model": model} | others, others | {"model": model}):
        assert orjson.loads(with_model(orjson.dumps(document))) == document | {"model": "new"}


def test_every_other_byte_stays() -> None:
    body = b' {"a" : "\\"model\\": \\"x\\"",\t"mod\\u0065l" :"old", "n": 1.0e2 }\n'
    assert with_model(body) == body.replace(b'"old"', b'"new"')


def test_a_body_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(MalformedError):
        with_model(b'["model", "x"]')
