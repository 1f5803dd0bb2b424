"""The tables of docs/config.md."""

from __future__ import annotations

import json
from typing import Any

from router.config.schema import INNER_MODELS, REGION_KEYS, SECTIONS
from router.config.setting import Setting, default
from router.config.sources import SOURCE_KEYS, SOURCES_DOC

_KINDS = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "port": "number or name",
    "strings": "list of strings",
    "numbers": "list of numbers",
    "table": "table",
    "tables": "list of tables",
    "tables or table": "table, or list of tables",
}


def reference() -> str:
    """Every key with its kind, bounds, default and meaning, as Markdown."""
    parts = []
    for section in SECTIONS:
        title = f"[{section.name}.NAME]" if section.named else f"[{section.name}]"
        parts.append(_part(title, section.doc, section.keys, section.model))
    parts.append(
        _part("[[regions]]", "Sites with their own network and failure domain.", REGION_KEYS, INNER_MODELS["regions"])
    )
    parts.append(_part("[[sources]]", SOURCES_DOC, SOURCE_KEYS, INNER_MODELS["sources"]))
    return "\n\n".join(parts)


def _part(title: str, doc: str, keys: tuple[Setting, ...], model: type) -> str:
    lines = [f"### `{title}`", "", doc, "", "| key | kind | default | meaning |", "|---|---|---|---|"]
    inner = []
    for key in keys:
        lines.append(f"| `{key.name}` | {_kind(key)} | {_default(key, model)} | {key.doc} |")
        if key.inner:
            inner.append(_part(f"{title} {key.name}", key.doc, key.inner, INNER_MODELS.get(key.name, model)))
    return "\n\n".join(["\n".join(lines), *inner])


def _kind(key: Setting) -> str:
    if key.choices:
        return ", ".join(f"`{choice}`" for choice in key.choices)
    bounds = [
        f"{word} {int(bound) if bound == int(bound) else bound:,}"
        for word, bound in (("from", key.low), ("above", key.above), ("to", key.high))
        if bound is not None
    ]
    return " ".join([_KINDS[key.kind] + ("," if bounds else ""), *bounds])


def _default(key: Setting, model: type) -> str:
    if key.required:
        return "required"
    value: Any = default(model, key)
    if value is None or value == () or key.inner:
        return ""
    return f"`{json.dumps(value)}`"
