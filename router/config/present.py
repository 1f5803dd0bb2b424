"""Shows a Config as a document without secrets, and the difference between two Configs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from router.config.model import Config
from router.config.names import date_of
from router.config.redis_url import without_password
from router.config.schema import BACKEND_KEYS, REGION_KEYS, SECTIONS
from router.config.setting import Section
from router.config.sources import SOURCE_KEYS, foreign_keys
from router.core.prices import Price
from router.words import plural

#: Settings that are read once, at start.
AT_START_ONLY = frozenset(
    {
        "router.name",
        "router.listen",
        "router.admin",
        "router.workers",
        "router.share_port",
        "router.tls_cert",
        "router.tls_key",
        "router.tls_client_ca",
        "store.redis",
        "store.snapshot",
        "store.wait",
        "auth.admin_token_env",
        "auth.operators",
        "autoscaling.listen",
        "autoscaling.tls_cert",
        "autoscaling.tls_key",
        "autoscaling.tls_client_ca",
        "autoscaling.keda",
        "continuation.breaks",
        "limits.connections",
        "journal.records",
        "journal.path",
        "journal.file_bytes",
        "journal.files",
        "journal.diary",
    }
)


#: ends the line of a change that a reload cannot make
_LATE = " (takes effect at the next start)"
#: the same of a change back
_AS_STARTED = " (as the router runs since its start)"


def dump(config: Config) -> dict[str, Any]:
    """The configuration in the shape of the file, defaults filled in. It holds no secrets: keys are
    references, and a password in the store's URL is replaced. Settings of a region for all its backends are shown at
    each of them."""
    document: dict[str, Any] = {}
    for section in SECTIONS:
        value = getattr(config, section.name)
        if section.named:
            document[section.name] = {name: _section(section, entry) for name, entry in value.items()}
        else:
            document[section.name] = _section(section, value)
    if config.store.redis is not None:
        document["store"]["redis"] = without_password(config.store.redis)
    if config.alerts.webhook is not None:
        document["alerts"]["webhook"] = without_query(config.alerts.webhook)
    document["regions"] = [
        {key.name: _plain(getattr(region.spec, key.name, None)) for key in REGION_KEYS if key.name != "backends"}
        | {
            "backends": [
                {key.name: _plain(getattr(backend, key.attr or key.name)) for key in BACKEND_KEYS}
                | {"name": backend.name.partition("/")[2]}
                for backend in region.backends
            ]
        }
        for region in config.regions
    ]
    document["sources"] = [
        {key.name: _told(getattr(source, key.name)) for key in SOURCE_KEYS if key.name not in foreign_keys(source.kind)}
        | {"region": source.region.name}
        for source in config.sources
    ]
    return document


#: of one router alone, which may well differ from router to router
_OWN = ("router", "journal", "tracing")


def without_query(url: str) -> str:
    """Some receivers want a token there."""
    place, mark, _ = url.partition("?")
    return place + mark + "***" * bool(mark)


def fingerprint(config: Config) -> str:
    """Twelve digits that are the same where routers of a fleet run the same configuration: without what is of a router
    alone, as its name and its files are."""
    if config.whole:
        return config.whole
    document = {name: value for name, value in dump(config).items() if name not in _OWN}
    document["auth"] = document["auth"] | {"operators": None, "admin_token_env": None}
    document["store"] = document["store"] | {"snapshot": None}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]


def diff(old: Config, new: Config, *, started: Config | None = None) -> list[str]:
    """One line for each change that a reload from ``old`` to ``new`` makes. ``started``: what the router started with,
    so that nothing is said to wait for the next start that goes back to it."""
    lines = list(_changes(_by_name(dump(old)), _by_name(dump(new)), ""))
    if old.store.redis != new.store.redis and not any(line.startswith("store.redis:") for line in lines):
        lines.append(f"store.redis: other credentials{_LATE}")
    if started is None:
        return lines
    late = {_place(line) for line in diff(started, new) if line.endswith(_LATE)}
    return [line if _place(line) in late else _settled(line) for line in lines]


def _place(line: str) -> str:
    return line.partition(": ")[0]


def _settled(line: str) -> str:
    """A change back to how the router started: there is nothing that waits any more."""
    return line.removesuffix(_LATE) + _AS_STARTED if line.endswith(_LATE) else line


def pending(started: Config, config: Config) -> list[str]:
    """What ``config`` says and a router that started with ``started`` does not do before its next start."""
    return [line.removesuffix(_LATE) for line in diff(started, config) if line.endswith(_LATE)]


def _section(section: Section, value: Any) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key in section.keys:
        if key.kind == "table":
            holder = getattr(value, key.name, value)  # a table of its own, or more fields of this one
            document[key.name] = {inner.name: _plain(getattr(holder, inner.attr or inner.name)) for inner in key.inner}
        elif key.kind == "tables":
            entries = getattr(value, key.name)
            document[key.name] = [{inner.name: getattr(e, inner.name) for inner in key.inner} for e in entries]
        else:
            document[key.name] = _plain(getattr(value, key.attr or key.name))
    return document


def _told(value: Any) -> Any:
    return None if value == "" else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        prices = [_price(part) for part in value if isinstance(part, Price)]
        return prices or list(value)
    return value


def _price(price: Price) -> dict[str, Any]:
    shown: dict[str, Any] = {"input": price.input, "output": price.output}
    return shown | {"from": date_of(price.since_day)} if price.since_day else shown


def _by_name(document: dict[str, Any]) -> dict[str, Any]:
    """Regions and backends as tables under their names, so that each is compared with its earlier self."""
    regions = {
        region["name"]: region | {"backends": {b["name"]: b for b in region["backends"]}}
        for region in document["regions"]
    }
    return document | {"regions": regions, "sources": {source["name"]: source for source in document["sources"]}}


def _changes(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
    for name in [*old, *(n for n in new if n not in old)]:
        place = f"{path}.{name}" if path else name
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _changes(before, after, place)
        elif name not in old:
            yield f"{place}: added{_summary(after)}"
        elif name not in new:
            yield f"{place}: removed"
        else:
            late = _LATE if place in AT_START_ONLY else ""
            yield f"{place}: {_written(before)} -> {_written(after)}{late}"


def _written(value: Any) -> str:
    """A value in words; the file has no null."""
    return "not set" if value is None else json.dumps(_set(value))


def _set(value: Any) -> Any:
    """Without what is not set."""
    if isinstance(value, dict):
        return {name: _set(inner) for name, inner in value.items() if inner is not None}
    return [_set(inner) for inner in value] if isinstance(value, list) else value


def _summary(value: Any) -> str:
    if not isinstance(value, dict):
        return f", {_written(value)}"
    if "url" in value:
        return f", {value['url']}"
    if "backends" in value:
        return f", {plural(len(value['backends']), 'backend')}"
    return ""
