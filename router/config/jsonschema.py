"""regions.toml as JSON Schema (2020-12), for editors that complete and check TOML."""

from __future__ import annotations

from typing import Any

from router.config.names import MODEL, NAME
from router.config.schema import INNER_MODELS, REGION_KEYS, SECTIONS
from router.config.setting import Section, Setting, default
from router.config.sources import SOURCE_KEYS, SOURCES_DOC
from router.core.policy import POLICIES

_PATTERNS = {"plans": NAME, "models": MODEL}
_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}


def json_schema() -> dict[str, Any]:
    properties: dict[str, Any] = {section.name: _section(section) for section in SECTIONS}
    properties["router"]["properties"]["policy"]["enum"] = list(POLICIES)
    properties["regions"] = {
        "type": "array",
        "description": "Sites with their own network and failure domain.",
        "items": _table(REGION_KEYS, INNER_MODELS["regions"]),
    }
    properties["sources"] = {
        "type": "array",
        "description": SOURCES_DOC,
        "items": _table(SOURCE_KEYS, INNER_MODELS["sources"]),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "regions.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _section(section: Section) -> dict[str, Any]:
    table = _table(section.keys, section.model)
    if not section.named:
        return table | {"description": section.doc}
    names = r"[\s\S]{0,200}" if section.name == "tenants" else _PATTERNS[section.name].pattern
    # Not propertyNames: Helm says of these that they are wrong in a place that it picks at random.
    return {
        "type": "object",
        "description": section.doc,
        "patternProperties": {f"^{names}$": table},
        "additionalProperties": False,
    }


def _table(keys: tuple[Setting, ...], model: type) -> dict[str, Any]:
    table: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: _key(key, model) for key in keys},
    }
    if required := [key.name for key in keys if key.required]:
        table["required"] = required
    return table


def _key(key: Setting, model: type) -> dict[str, Any]:
    entry: dict[str, Any] = {"description": key.doc} | _type(key, model)
    if key.choices:
        entry["enum"] = list(key.choices)
    bounds = {"minimum": key.low, "exclusiveMinimum": key.above, "maximum": key.high}
    entry |= {word: bound for word, bound in bounds.items() if bound is not None}
    value = default(model, key)
    if value is not None and not key.inner:
        entry["default"] = list(value) if isinstance(value, tuple) else value
    return entry


def _type(key: Setting, model: type) -> dict[str, Any]:
    match key.kind:
        case "strings":
            return {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
        case "numbers":
            return {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
        case "table":
            return _table(key.inner, INNER_MODELS.get(key.name, model))
        case "port":
            return {"type": ["string", "integer"]}
        case "tables":
            return {"type": "array", "items": _table(key.inner, INNER_MODELS[key.name])}
        case "tables or table":
            table = _table(key.inner, INNER_MODELS[key.name])
            return {"anyOf": [table, {"type": "array", "items": table}]}
    return {"type": _TYPES[key.kind]}
