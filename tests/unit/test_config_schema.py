"""The table of keys fits the dataclasses that the file becomes."""

from __future__ import annotations

from dataclasses import fields

import pytest

from router.config.schema import BACKEND_KEYS, REGION_KEYS, SECTIONS, SHARED_KEYS
from router.config.setting import Section
from router.core.types import BackendSpec, RegionSpec


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_every_key_fills_a_field_of_its_section(section: Section) -> None:
    known = {field.name for field in fields(section.model)}
    leaves = [leaf for key in section.keys for leaf in (key.inner if key.kind == "table" else (key,))]
    assert {leaf.attr or leaf.name for leaf in leaves} <= known


def test_every_key_of_a_backend_fills_a_field() -> None:
    assert {key.attr or key.name for key in BACKEND_KEYS} <= {field.name for field in fields(BackendSpec)}


def test_a_region_has_the_shared_keys_of_its_backends_and_its_own_fields() -> None:
    names = {key.name for key in REGION_KEYS} - {"backends"} - {key.name for key in SHARED_KEYS}
    assert names == {field.name for field in fields(RegionSpec)}


def test_no_key_stands_twice_in_a_section() -> None:
    for section in SECTIONS:
        names = [key.name for key in section.keys]
        assert len(names) == len(set(names)), section.name
