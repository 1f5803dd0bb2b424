"""The default of a key is the default of the field that it fills."""

from __future__ import annotations

from router.config.model import StoreSection
from router.config.setting import Setting, default


def test_a_default_is_the_one_of_the_field() -> None:
    assert default(StoreSection, Setting("on_down", "string", "")) == StoreSection().on_down
    assert default(StoreSection, Setting("other_name", "string", "", attr="on_down")) == StoreSection().on_down


def test_a_computed_default_is_not_told() -> None:
    assert default(StoreSection, Setting("on_down", "string", "", computed=True)) is None


def test_a_key_without_a_field_has_no_default() -> None:
    assert default(StoreSection, Setting("nope", "string", "")) is None
