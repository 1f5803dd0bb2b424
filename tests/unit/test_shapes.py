"""The shapes of whole answers."""

from __future__ import annotations

from router.core.traits import TRAITS


def test_only_exact_and_useful_ones_are_used_unasked() -> None:
    by_default = [engine for engine, row in TRAITS.items() if row.assembled is not None and row.assembled.by_default]
    assert by_default == ["llamacpp"]
