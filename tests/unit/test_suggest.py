"""Suggestions for misspelt names."""

from __future__ import annotations

import pytest

from router.core.suggest import did_you_mean


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("polcy", ', did you mean "policy"?'),
        ("policies", ', did you mean "policy"?'),
        ("xyz", ""),
        ("", ""),
        ("policy" + "y" * 100_000, ""),
    ],
)
def test_the_closest_name_is_suggested(name: str, suggestion: str) -> None:
    assert did_you_mean(name, ["listen", "policy", "region"]) == suggestion


def test_nothing_is_suggested_where_nothing_is_known() -> None:
    assert did_you_mean("a", []) == ""
