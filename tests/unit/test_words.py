"""One is one, and everything else is several."""

from __future__ import annotations

import pytest

from router.words import plural


@pytest.mark.parametrize(
    ("n", "words"), [(0, "0 routers"), (1, "1 router"), (2, "2 routers"), (1234567, "1,234,567 routers")]
)
def test_a_number_of_things(n: int, words: str) -> None:
    assert plural(n, "router") == words
