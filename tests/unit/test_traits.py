"""The rows of engines: each complete, and nothing in them that leads nowhere."""

from __future__ import annotations

import pytest

from router.core.params import Params
from router.core.traits import ENGINES, IDLE_LIMIT_S, TRAITS, Traits


@pytest.mark.parametrize("traits", TRAITS.values(), ids=ENGINES)
def test_a_row_is_complete(traits: Traits) -> None:
    assert traits.title
    assert traits.probe_path.startswith("/")
    if traits.load is not None:
        assert traits.load.path.startswith("/")
        assert traits.load.running, "requests that run are the least that a page is read for"
        assert traits.load.waiting
        assert "" not in traits.load.names


def test_titles_tell_engines_apart() -> None:
    assert len({traits.title for traits in TRAITS.values()}) == len(ENGINES)


def test_idle_connections_are_closed_before_engines_close_them() -> None:
    assert IDLE_LIMIT_S < 4.8
    assert Params().warm_s == IDLE_LIMIT_S
