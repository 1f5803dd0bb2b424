"""Checks the parsed TOML against the table of keys and gathers every problem with its place."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from router.config.places import Path, line_of
from router.config.setting import Setting
from router.core.suggest import did_you_mean

_KIND_NAMES = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "port": "a number or a name",
    "strings": "a list of strings",
    "numbers": "a list of numbers",
    "table": "a table",
    "tables": "a list of tables",
    "tables or table": "a table or a list of tables",
}


class Reader:
    """Reads one document. Nothing raises: a wrong value is noted in ``problems`` and left out of the result."""

    def __init__(self, source: str, document: Mapping[str, Any], places: dict[Path, int]) -> None:
        self._source = source
        self._document = document
        self._places = places
        self._problems: list[tuple[int, str]] = []

    @property
    def problems(self) -> list[str]:
        """In the order of the file."""
        return [text for _, text in sorted(self._problems, key=lambda p: p[0])]

    def problem(self, path: Path, text: str) -> None:
        line = line_of(self._places, path)
        where = f"{self._source}:{line}" if line else self._source
        label = self._label(path)
        self._problems.append((line or 0, f"{where}: {label}: {text}" if label else f"{where}: {text}"))

    def table(self, value: object, keys: Sequence[Setting], path: Path) -> dict[str, Any]:
        """The valid values of a table, under the names of the fields they fill."""
        if not isinstance(value, dict):
            self.problem(path, f"must be a table, not {_shown(value)}")
            return {}
        self.unknown_keys(value, [k.name for k in keys], path)
        values: dict[str, Any] = {}
        for key in keys:
            if key.name in value:
                if (good := self._value(value[key.name], key, (*path, key.name))) is not None:
                    values[key.attr or key.name] = good
            elif key.required:
                self.problem(path, f"{key.name} is missing")
        return values

    def unknown_keys(self, value: Iterable[str], known: Collection[str], path: Path) -> None:
        for name in value:
            if name not in known:
                self.problem((*path, name), f"unknown key{did_you_mean(name, known)}")

    def _value(self, value: Any, key: Setting, path: Path) -> Any:
        """The value as the dataclasses hold it, or None after a problem was noted."""
        if not _is_kind(value, key):
            shown = "" if key.secret else f", not {_shown(value)}"
            self.problem(path, f"must be {_KIND_NAMES[key.kind]}{shown}")
            return None
        if key.inner:
            return value
        if (text := _range_problem(value, key) or (key.problem(value) if key.problem else None)) is not None:
            self.problem(path, text)
            return None
        if key.kind == "number":
            return float(value)
        if key.kind == "port":
            return str(value)
        if key.kind == "numbers":
            return tuple(float(v) for v in value)
        return tuple(value) if key.kind == "strings" else value

    def _label(self, path: Path) -> str:
        """The path in words: ``[[regions]] "us-east" backends "a": url``."""
        if not path:
            return ""
        if path[0] in ("regions", "sources") and len(path) > 1:
            label, rest, node = f"[[{path[0]}]]", path[1:], self._document.get(str(path[0]))
        elif path[0] in ("plans", "tenants", "models") and len(path) > 1:
            label, rest, node = f"[{path[0]}.{_key_text(path[1])}]", path[2:], None
        elif len(path) > 1 or isinstance(self._document.get(str(path[0])), dict):
            label, rest, node = f"[{_key_text(path[0])}]", path[1:], None
        else:
            return _key_text(path[0])
        for position, part in enumerate(rest):
            node = _child(node, part)
            if isinstance(part, int):
                name = node.get("name") if isinstance(node, dict) else None
                label += f" {_shown(name)}" if isinstance(name, str) else f" #{part + 1}"
            else:
                item_before = position > 0 and isinstance(rest[position - 1], int)
                item_after = position + 1 < len(rest) and isinstance(rest[position + 1], int)
                label += f"{': ' if item_before and not item_after else ' '}{_key_text(part)}"
        return label


def _is_kind(value: Any, key: Setting) -> bool:
    match key.kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return _is_number(value)
        case "boolean":
            return isinstance(value, bool)
        case "port":
            return isinstance(value, (str, int)) and not isinstance(value, bool)
        case "strings":
            return isinstance(value, list) and all(isinstance(v, str) for v in value)
        case "numbers":
            return isinstance(value, list) and all(_is_number(v) for v in value)
        case "table":
            return isinstance(value, dict)
        case "tables":
            return isinstance(value, list) and all(isinstance(v, dict) for v in value)
        case "tables or table":
            return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(v, dict) for v in value))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _range_problem(value: Any, key: Setting) -> str | None:
    if key.choices and value not in key.choices:
        names = ", ".join(f'"{c}"' for c in key.choices)
        return f"must be one of {names}, not {_shown(value)}{did_you_mean(value, key.choices)}"
    if key.kind not in ("integer", "number"):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value}"
    if key.low is not None and value < key.low:
        return f"must be at least {key.low:g}, not {_shown(value)}"
    if key.above is not None and value <= key.above:
        return f"must be above {key.above:g}, not {_shown(value)}"
    if key.high is not None and value > key.high:
        return f"must be at most {key.high:g}, not {_shown(value)}"
    return None


def _child(node: Any, part: str | int) -> Any:
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return node.get(part) if isinstance(node, dict) else None


def _key_text(part: str | int) -> str:
    text = str(part)
    return text if text.isprintable() and len(text) <= 80 else json.dumps(text[:80])


def _shown(value: object) -> str:
    """A wrong value, short and without control characters."""
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
