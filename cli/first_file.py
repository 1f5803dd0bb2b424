"""The first regions.toml for engines that run: it is filled in by asking them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cli import asking

if TYPE_CHECKING:
    from router.observe.survey import Surveyed

#: The region of an engine that is named without one.
REGION = "local"
_NAMED = re.compile(r"(?P<region>[A-Za-z0-9][A-Za-z0-9._-]{0,62})=(?P<url>.+)")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

_HEAD = """\
# regions.toml: where the engines are and who may use them. Every key: docs/config.md.
# Check it with `router config check`. Saving it reloads a running router; a file with a mistake is refused whole.

[router]
region  = {region}
listen  = "127.0.0.1:8080"       # clients; 0.0.0.0:8080 for every interface
admin   = "127.0.0.1:9090"       # operators: admin API, /metrics, /healthz, /readyz

[store]                          # what routers share: keys, quotas, drains
# redis = "redis://127.0.0.1:6379/0"   # absent: this process's memory, which ends with it

[auth]
mode = "open"                    # anybody on this machine; "keys" asks clients for a key of `router keys create`

[plans.default]                  # limits of a key; leave one out for no limit
requests_per_minute = 600
concurrent          = 64
"""


class Named(NamedTuple):
    """An engine as it was typed: ``us-east=http://10.0.0.11:8000``, or the address alone."""

    region: str
    url: str


def named(text: str, region: str | None) -> Named:
    found = _NAMED.fullmatch(text)
    if found is not None:
        return Named(found["region"], asking.clean(found["url"]))
    return Named(region or REGION, asking.clean(text))


def of_region(text: str) -> tuple[str, str]:
    """``us-east=us`` as its parts; a value for all regions has an empty first part."""
    region, _, value = text.rpartition("=")
    return region, value


def text(engines: Sequence[tuple[Named, Surveyed]], jurisdictions: Mapping[str, str]) -> str:
    """The whole file. ``jurisdictions``: of the regions where it is known."""
    regions = dict.fromkeys(engine.region for engine, _ in engines)
    parts = [_HEAD.format(region=json.dumps(next(iter(regions))))]
    for region in regions:
        parts.append(f"\n[[regions]]\nname         = {json.dumps(region)}\n")
        if region in jurisdictions:
            parts.append(f"jurisdiction = {json.dumps(jurisdictions[region])}\n")
        else:
            parts.append(
                '# jurisdiction = "eu"           # whose law the data is under; plans ask for it (residency)\n'
            )
        parts.append("# location   = [52.5, 13.4]      # latitude, longitude: for the map\n")
        inside = [(engine, found) for engine, found in engines if engine.region == region]
        parts += [
            _backend(name, engine, found) for name, (engine, found) in zip(_names(len(inside)), inside, strict=True)
        ]
    return "".join(parts)


def _backend(name: str, engine: Named, found: Surveyed) -> str:
    lines = ["\n  [[regions.backends]]", f"  name   = {json.dumps(name)}", f"  url    = {json.dumps(engine.url)}"]
    if found.engine is not None:
        lines.append(f"  engine = {json.dumps(found.engine)}")
    if found.models:
        lines.append(f"  models = {json.dumps(list(found.models))}   # as it says; without this line it is asked again")
    if found.problem is not None:
        lines.append(f"  # {time.strftime('%Y-%m-%d')}: {found.problem}")
    elif found.kv_tokens is not None:
        lines.append(f"  # KV cache: {found.kv_tokens:.0f} tokens; the router reads it from the engine's metrics")
    lines.append("  # max_inflight  = 256")
    lines.append("  # cost_usd_hour = 2.5")
    return "\n".join(lines) + "\n"


def _names(count: int) -> list[str]:
    """``a`` to ``z``, then ``b27``."""
    return [_LETTERS[n] if n < len(_LETTERS) else f"b{n + 1}" for n in range(count)]
