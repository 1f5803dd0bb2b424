"""Turns regions.toml into a Config, or refuses the whole file with all its problems at once."""

from __future__ import annotations

import datetime as dt
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from router.config import checks
from router.config.address import host_in
from router.config.model import (
    AlertsSection,
    AllSection,
    AuthSection,
    AutoscalingSection,
    Config,
    ContinuationSection,
    CorsSection,
    HedgeSection,
    JournalSection,
    JwtSection,
    LimitsSection,
    ModelAlias,
    ModelTarget,
    Plan,
    PlanOfClaim,
    PricesSection,
    ProbesSection,
    Region,
    ResponsesSection,
    RouterSection,
    Source,
    StoreSection,
    Tenant,
    TimeoutsSection,
    TokensSection,
    TracingSection,
    WakeSection,
)
from router.config.names import NAME, date_of, day_of, model_problem, name_problem, tenant_problem
from router.config.places import Path, locate
from router.config.plan_keys import PRICE_KEYS
from router.config.reader import Reader
from router.config.schema import BACKEND_KEYS, REGION_KEYS, SECTIONS, SHARED_KEYS
from router.config.setting import Section
from router.config.sources import SOURCE_KEYS
from router.core.prices import Price
from router.core.types import BackendSpec, RegionSpec
from router.errors import ConfigError

_FILE_BYTES = 4 * 1024 * 1024
#: Kubernetes takes about this long to announce everywhere that a pod is about to end.
LEAD_KUBERNETES_S = 5.0
_BY_NAME = {s.name: s for s in SECTIONS}
#: What the names of tables may be.
_NAMES = {"plans": name_problem, "tenants": tenant_problem, "models": model_problem}
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def load(
    path: str | os.PathLike[str], *, env: Mapping[str, str] | None = None, secrets: bool = True, start: bool = False
) -> Config:
    """Read and check a file. Raises ConfigError with all problems; also when the file cannot be read.

    ``env`` is where secrets are looked up (default: the environment). ``secrets=False`` does not ask for them,
    to check a file on a machine that does not have them. ``start``: see ``parse``.
    """
    source = os.fspath(path)
    try:
        with FilePath(path).open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(source, [f"{source}: cannot be read: {exc.strerror or exc}"]) from None
    if len(data) > _FILE_BYTES:
        raise ConfigError(source, [f"{source}: is over {_FILE_BYTES // 2**20} MiB"])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(source, [f"{source}:{line}: is not UTF-8"]) from None
    return parse(text, source, env=env, secrets=secrets, whole=True, start=start)


def parse(
    text: str,
    source: str,
    *,
    env: Mapping[str, str] | None = None,
    secrets: bool = True,
    whole: bool = False,
    start: bool = False,
) -> Config:
    """Check the text of a regions.toml. ``source`` names it in problems. Raises ConfigError with all problems.

    ``whole``: a router would run this text, so it must name a backend or say that there is none. ``start``: a router is
    about to run it, and a problem that makes some keys useless must not stop it from serving all others.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(source, [f"{source}: is nested too deeply"]) from None
    except ValueError as exc:
        raise ConfigError(source, [_syntax_problem(source, text, str(exc))]) from None
    reader = Reader(source, document, locate(text.replace("\r\n", "\n")))
    config = _build(reader, document, source, os.environ if env is None else env)
    checks.check(reader, document, config, (os.environ if env is None else env) if secrets else None)
    if not start:
        checks.check_residency(reader, config)
    if whole:
        checks.check_whole(reader, document, config)
    if reader.problems:
        raise ConfigError(source, reader.problems)
    return config


def _syntax_problem(source: str, text: str, message: str) -> str:
    match = _TOML_PLACE.search(message)
    line = match.group(1) if match else None
    if match and not line:
        line = str(text.rstrip("\n").count("\n") + 1)
    message = message[: match.start()] if match else message
    return f"{source}:{line}: syntax: {message}" if line else f"{source}: syntax: {message}"


def _build(reader: Reader, document: dict[str, Any], source: str, env: Mapping[str, str]) -> Config:
    reader.unknown_keys(document, [*_BY_NAME, "regions", "sources"], ())

    def values(name: str) -> dict[str, Any]:
        return reader.table(document[name], _BY_NAME[name].keys, (name,)) if name in document else {}

    router = values("router")
    router.setdefault("name", _host_name())
    regions = _regions(reader, document)
    return Config(
        source=source,
        router=RouterSection(**router),
        store=_store(reader, values("store"), env),
        auth=AuthSection(**values("auth")),
        jwt=_jwt(reader, values("jwt")),
        cors=CorsSection(**values("cors")),
        plans=_plans(reader, document),
        tenants={name: Tenant(name, **entry) for name, entry in _named(reader, document, _BY_NAME["tenants"]).items()},
        all=AllSection(**values("all")),
        models=_models(reader, document),
        alerts=AlertsSection(**values("alerts")),
        prices=PricesSection(**_tariff(reader, values("prices"), "default", ("prices", "default"))),
        timeouts=_timeouts(values("timeouts"), env),
        limits=LimitsSection(**values("limits")),
        continuation=ContinuationSection(**values("continuation")),
        hedge=HedgeSection(**values("hedge")),
        autoscaling=AutoscalingSection(**values("autoscaling")),
        responses=ResponsesSection(**values("responses")),
        tokens=TokensSection(**values("tokens")),
        journal=JournalSection(**values("journal")),
        tracing=TracingSection(**values("tracing")),
        probes=ProbesSection(**values("probes")),
        regions=regions,
        sources=_sources(reader, document, regions),
    )


def _store(reader: Reader, values: dict[str, Any], env: Mapping[str, str]) -> StoreSection:
    redis: str | None = values.get("redis")
    if redis is not None and redis.startswith("env:"):
        values["redis"] = env.get(redis[4:], "").strip() or redis
    return StoreSection(**values)


def _jwt(reader: Reader, values: dict[str, Any]) -> JwtSection:
    (rows,) = (key.inner for key in _BY_NAME["jwt"].keys if key.name == "plan_map")
    tables = [reader.table(table, rows, ("jwt", "plan_map", n)) for n, table in enumerate(values.pop("plan_map", ()))]
    return JwtSection(**values, plan_map=tuple(PlanOfClaim(**good) for good in tables if len(good) == len(rows)))


def _timeouts(values: dict[str, Any], env: Mapping[str, str]) -> TimeoutsSection:
    values.setdefault("lead", LEAD_KUBERNETES_S if env.get("KUBERNETES_SERVICE_HOST") else 0.0)
    return TimeoutsSection(**values)


def _named(reader: Reader, document: dict[str, Any], section: Section) -> dict[str, dict[str, Any]]:
    tables = document.get(section.name, {})
    if not isinstance(tables, dict):
        reader.problem((section.name,), f"must be tables, each written as [{section.name}.NAME]")
        return {}
    found = {}
    for name, value in tables.items():
        path = (section.name, name)
        problem = _NAMES[section.name](name)
        if problem is not None:
            reader.problem(path, f"the name {problem}")
        elif not isinstance(value, dict):
            reader.problem(path, f"unknown key; write tables, each as [{section.name}.NAME]")
        else:
            found[name] = reader.table(value, section.keys, path)
    return found


def _plans(reader: Reader, document: dict[str, Any]) -> dict[str, Plan]:
    plans = {name: Plan(name, **values) for name, values in _named(reader, document, _BY_NAME["plans"]).items()}
    return {"default": Plan("default", written=False)} | plans


def _models(reader: Reader, document: dict[str, Any]) -> dict[str, ModelAlias]:
    keys = {k.name: k for k in _BY_NAME["models"].keys}
    models = {}
    for name, values in _named(reader, document, _BY_NAME["models"]).items():
        targets = []
        for index, target in enumerate(values.pop("targets", ())):
            good = reader.table(target, keys["targets"].inner, ("models", name, "targets", index))
            if "model" in good:
                targets.append(ModelTarget(**good))
        values = _tariff(reader, values, "prices", ("models", name, "price_usd_per_mtok"))
        wake = WakeSection(**reader.table(values.pop("wake", {}), keys["wake"].inner, ("models", name, "wake")))
        models[name] = ModelAlias(name, targets=tuple(targets), wake=wake, **values)
    return models


def _tariff(reader: Reader, values: dict[str, Any], attr: str, path: Path) -> dict[str, Any]:
    """The values, with what is written about prices made into a tariff."""
    written = values.get(attr)
    if written is None:
        return values
    prices: list[Price] = []
    for index, table in enumerate(written if isinstance(written, list) else [written]):
        place = (*path, index) if isinstance(written, list) else path
        if isinstance(since := table.get("from"), dt.date) and not isinstance(since, dt.datetime):
            table = table | {"from": since.isoformat()}  # TOML has dates of its own
        good = reader.table(table, PRICE_KEYS, place)
        price = Price(**good | {"since_day": day_of(good["since_day"]) if "since_day" in good else 0})
        if any(price.since_day == other.since_day for other in prices):
            when = f"from {date_of(price.since_day)}" if price.since_day else "without a date"
            reader.problem(place, f"another price {when} stands before it")
        prices.append(price)
    return values | {attr: tuple(prices)}


def _regions(reader: Reader, document: dict[str, Any]) -> tuple[Region, ...]:
    tables = document.get("regions", [])
    if not isinstance(tables, list):
        reader.problem(("regions",), "must be written as [[regions]], with two brackets")
        return ()
    regions = []
    for index, table in enumerate(tables):
        values = reader.table(table, REGION_KEYS, ("regions", index))
        backends = values.pop("backends", [])
        shared = {key.name: values.pop(key.name) for key in SHARED_KEYS if key.name in values}
        spec = RegionSpec(**({"name": f"#{index + 1}"} | values))
        regions.append(Region(spec, _backends(reader, backends, spec, index, shared), tuple(shared.items())))
    return tuple(regions)


def _sources(reader: Reader, document: dict[str, Any], regions: tuple[Region, ...]) -> tuple[Source, ...]:
    tables = document.get("sources", [])
    if not isinstance(tables, list):
        reader.problem(("sources",), "must be written as [[sources]], with two brackets")
        return ()
    known = {region.spec.name: region for region in regions}
    sources = []
    for index, table in enumerate(tables):
        values = reader.table(table, SOURCE_KEYS, ("sources", index))
        if not {"name", "kind", "region"} <= values.keys():
            continue
        name = values.pop("region")
        region = known.get(name) or Region(RegionSpec(name))
        sources.append(Source(region=region.spec, **(inherited(region, values) | values)))
    return tuple(sources)


def inherited(region: Region, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a region gives to its backends and ``values`` leaves out: a certificate and its key go together."""
    own = ("tls_cert", "tls_key")
    return {k: v for k, v in region.shared if k not in own or not any(name in values for name in own)}


def _backends(
    reader: Reader, tables: list[Any], region: RegionSpec, index: int, shared: dict[str, str]
) -> tuple[BackendSpec, ...]:
    backends = []
    for position, table in enumerate(tables):
        values = reader.table(table, BACKEND_KEYS, ("regions", index, "backends", position))
        short = values.pop("name", f"#{position + 1}")
        url = values.pop("url", "").rstrip("/")
        values = _tariff(reader, values, "prices", ("regions", index, "backends", position, "price_usd_per_mtok"))
        given = inherited(Region(region, shared=tuple(shared.items())), values) | values
        if (page := given.get("gpu_metrics")) is not None:
            given["gpu_metrics"] = page.replace("{host}", host_in(url))
        backends.append(BackendSpec(name=f"{region.name}/{short}", region=region, url=url, **given))
    return tuple(backends)


def _host_name() -> str:
    name = socket.gethostname()
    return name if NAME.fullmatch(name) else RouterSection().name
