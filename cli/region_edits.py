"""What ``router regions add | remove | set`` do to a tomlkit document: regions and backends by name, layout kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.items import AoT, InlineTable, Item, Table

from cli.errors import CliError, Exit, unknown
from router.config.schema import BACKEND_KEYS, REGION_KEYS
from router.config.setting import Setting


def split(name: str) -> tuple[str, str | None]:
    """``us-east`` or ``us-east/a`` as region and backend."""
    region, slash, backend = name.partition("/")
    return region, backend if slash else None


def add(document: Any, name: str, region_values: Mapping[str, Any], backend_values: Mapping[str, Any]) -> str:
    """Add a region, a backend, or both. ``us-east`` with backend values gets its first backend, ``a``.

    Returns the name of what was added. Raises CliError if it is there already.
    """
    region_name, backend_name = split(name)
    region = _find(document.get("regions", ()), region_name)
    if region is not None and backend_name is None:
        raise CliError(
            f"there is a region {region_name} already",
            code=Exit.USAGE,
            hint=f"Add a backend to it as {region_name}/NAME, or change it with `router regions set {region_name}`.",
        )
    if region is not None and region_values:
        raise CliError(
            f"there is a region {region_name} already",
            code=Exit.USAGE,
            hint=f"Change it with `router regions set {region_name} {next(iter(region_values))}=…`.",
        )
    if region is None:
        region = _append(document, "regions", {"name": region_name, **region_values}, after=document)
    if not backend_values:
        return region_name
    backend_name = backend_name or "a"
    if _find(region.get("backends", ()), backend_name) is not None:
        raise CliError(
            f"there is a backend {region_name}/{backend_name} already",
            code=Exit.USAGE,
            hint=f"Change it with `router regions set {region_name}/{backend_name} KEY=VALUE`.",
        )
    _append(region, "backends", {"name": backend_name, **backend_values}, after=document, indent="  ")
    return f"{region_name}/{backend_name}"


def remove(document: Any, name: str) -> None:
    """Remove a region with its backends, or one backend. Raises CliError if it is not there."""
    region_name, backend_name = split(name)
    region = _get_region(document, region_name)
    if backend_name is None:
        _drop(document, "regions", region)
    else:
        _drop(region, "backends", _get_backend(region, region_name, backend_name))


def change(document: Any, name: str, assignments: Sequence[str]) -> None:
    """Set keys of a region or backend: ``max_inflight=64``; ``key=`` removes it. Raises CliError."""
    region_name, backend_name = split(name)
    table = _get_region(document, region_name)
    keys = REGION_KEYS
    if backend_name is not None:
        table, keys = _get_backend(table, region_name, backend_name), BACKEND_KEYS
    for assignment in assignments:
        key_name, equals, text = assignment.partition("=")
        if not equals:
            raise CliError(f"{assignment!r} is not KEY=VALUE", code=Exit.USAGE)
        key = _key(keys, key_name)
        if text:
            table[key.name] = value(key, text)
        elif key.name in table:
            del table[key.name]


def region_values(typed: Mapping[str, str]) -> dict[str, Any]:
    """Keys of a region as they were typed, as their kinds of values."""
    keys = {key.name: key for key in REGION_KEYS}
    return {name: value(keys[name], text) for name, text in typed.items()}


def value(key: Setting, text: str) -> Any:
    """What was typed, as the kind of value the key takes. Lists are separated by commas."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        match key.kind:
            case "integer":
                return int(text.replace("_", ""))
            case "number":
                return float(text)
            case "strings":
                return parts
            case "numbers":
                return [float(part) for part in parts]
    except ValueError:
        raise CliError(f"{key.name} takes a number, not {text!r}", code=Exit.USAGE) from None
    return text


def _key(keys: Sequence[Setting], name: str) -> Setting:
    known = {key.name: key for key in keys if key.kind not in ("table", "tables")}
    if name in known:
        return known[name]
    raise unknown("key", name, known)


def _find(tables: Any, name: str) -> Any | None:
    if not isinstance(tables, Sequence):
        return None
    return next((t for t in tables if isinstance(t, Mapping) and t.get("name") == name), None)


def _get_region(document: Any, name: str) -> Any:
    tables = document.get("regions", ())
    found = _find(tables, name)
    if found is None:
        raise unknown("region", name, [str(t.get("name")) for t in tables if isinstance(t, Mapping)])
    return found


def _get_backend(region: Any, region_name: str, name: str) -> Any:
    tables = region.get("backends", ())
    found = _find(tables, name)
    if found is None:
        known = [f"{region_name}/{t.get('name')}" for t in tables if isinstance(t, Mapping)]
        raise unknown("backend", f"{region_name}/{name}", known)
    return found


def _append(parent: Any, key: str, values: Mapping[str, Any], *, after: Any, indent: str = "") -> Any:
    """Append a table to ``parent[key]``, laid out like its neighbours, a blank line before it."""
    tables = parent.get(key)
    if tables is None:
        parent[key] = [] if isinstance(parent, InlineTable) else tomlkit.aot()
        tables = parent[key]
    if not isinstance(tables, AoT):  # written as [{…}, {…}]
        tables.append(dict(values))
        return tables[-1]
    if len(tables):
        indent = re.sub(r".*\n", "", tables[-1].trivia.indent, flags=re.DOTALL)
    before = tables[-1].as_string() if len(tables) else tomlkit.dumps(after)
    spaced = before.endswith("\n\n") or not before.strip()
    table: Table = tomlkit.table()
    for name, content in values.items():
        table.add(name, content)
        content = table.value.item(name)
        if isinstance(content, Item):
            content.trivia.indent = indent
    table.trivia.indent = ("" if spaced else "\n") + indent
    if spaced and key == "backends":
        table.add(tomlkit.nl())  # the blank line that was there stands before the next region again
    tables.append(table)
    return parent[key][-1]


def _drop(parent: Any, key: str, table: Any) -> None:
    tables = parent[key]
    for index, candidate in enumerate(tables):
        if candidate is table or candidate.get("name") == table.get("name"):
            tables.pop(index)
            break
    if not len(tables):
        del parent[key]
