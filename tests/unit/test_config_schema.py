"""The table of keys fits the dataclasses that the file becomes."""

from __future__ import annotations

from dataclasses import fields

import orjson
import pytest

from router.config import parse
from router.config.schema import BACKEND_KEYS, INNER_MODELS, REGION_KEYS, SECTIONS, SHARED_KEYS
from router.config.setting import Section, default
from router.core.types import BackendSpec, RegionSpec


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_every_key_fills_a_field_of_its_section(section: Section) -> None:
    inner = [INNER_MODELS[key.name] for key in section.keys if key.kind == "table" and key.name in INNER_MODELS]
    known = {field.name for model in (section.model, *inner) for field in fields(model)}
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


@pytest.mark.parametrize("section", [s for s in SECTIONS if not s.named], ids=lambda section: section.name)
def test_every_number_and_switch_of_the_file_reaches_the_configuration(section: Section) -> None:
    for key in section.keys:
        given = default(section.model, key)
        if key.kind not in ("integer", "number", "boolean") or given is None or key.name == "workers":
            continue
        wanted = (
            not given if key.kind == "boolean" else given + 1 if key.high is None or given < key.high else given - 1
        )
        written = orjson.dumps(wanted).decode()
        config = parse(f"{MINIMAL}\n[{section.name}]\n{key.name} = {written}\n", "regions.toml", env={})
        assert getattr(getattr(config, section.name), key.attr or key.name) == wanted, key.name


MINIMAL = """
[[regions]]
name = "a"
[[regions.backends]]
name = "a"
url = "http://127.0.0.1:1"
"""
