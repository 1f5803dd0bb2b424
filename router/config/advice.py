"""Warnings: settings that are allowed but probably not meant. Check, start and reload print them.

A setting that permits something nobody asked for, or that can never work, is a problem: see ``checks``.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from router import clock
from router.config.address import is_loopback
from router.config.checks import secret
from router.config.model import Config, Limited, Region
from router.config.price_list import price_list
from router.config.redis_url import PATH_OPTIONS, has_password, parse_redis_url, redis_problem
from router.core.limits import KINDS
from router.core.prices import DayPrices, Tariff
from router.core.suggest import did_you_mean

_TOKEN_LENGTH = 16
#: A part of a path that names the version of an API, as in /v1beta/openai and /api/paas/v4.
_VERSION = re.compile(r"v\d+([a-z]+\d*)?")


def warnings(config: Config) -> list[str]:
    """One line for each setting that is allowed but probably not meant."""
    return [text for part in _PARTS for text in part(config)]


def _general(config: Config) -> Iterator[str]:
    if not config.backends and not config.sources:
        yield "no backends: every request will be answered 404 or 503"
    if "*" in config.cors.origins and config.auth.mode == "open":
        yield (
            '[cors] origins: with [auth] mode = "open", "*" lets every web page that somebody visits use the backends '
            "through that person's browser; name the origins"
        )
    if config.store.redis is not None and has_password(config.store.redis):
        yield '[store] redis: holds a password; "env:NAME" takes the whole URL from an environment variable'
    jwks = urlsplit(config.jwt.jwks or "")
    if jwks.scheme == "http" and not is_loopback(jwks.hostname or ""):
        yield "[jwt] jwks: over http:// whoever is on the way can be the issuer; use https://"
    elif config.jwt.jwks is not None and not jwks.scheme and not os.access(config.jwt.jwks, os.R_OK):
        yield f"[jwt] jwks: {config.jwt.jwks} cannot be read: until it can, no JWT can be checked"
    yield from _redis_files(config)
    if (token_env := config.auth.admin_token_env) and 0 < len(secret(token_env) or "") < _TOKEN_LENGTH:
        yield f"[auth] admin_token_env: the token has fewer than {_TOKEN_LENGTH} characters"


def _plans(config: Config) -> Iterator[str]:
    plans = config.plans
    if len(plans) > 1 and not plans["default"].written:
        yield "[plans.default] is missing: keys that name no plan, and open mode, have no limits and no residency"
    if config.auth.mode == "open" and any(not plan.unlimited for name, plan in plans.items() if name != "default"):
        yield '[auth] mode = "open": clients without a key have the plan default; no other plan applies to them'
    jurisdictions = {r.spec.jurisdiction for r in _peopled(config) if r.spec.jurisdiction}
    for plan in plans.values():
        if missing := [j for j in plan.residency if j not in jurisdictions]:
            hint = did_you_mean(missing[0], jurisdictions)
            text = f'no region with a backend has the jurisdiction "{missing[0]}"{hint}'
            yield f"[plans.{plan.name}] residency: {text}"
    served = _served(config)
    for plan in plans.values():
        known = (served or set()) | config.models.keys()
        for model in plan.models if served is not None else ():
            if model not in known:
                yield f'[plans.{plan.name}] models: no backend serves "{model}"{did_you_mean(model, known)}'


def alarms(config: Config) -> list[str]:
    """Errors that do not stop a router from starting: keys whose requests are all refused. Check refuses most."""
    served = {r.spec.jurisdiction for r in _peopled(config)}
    return [
        f"every request of a key of the plan {plan.name} is refused (503 residency_unsatisfiable): no region with a "
        f"backend has a jurisdiction of its residency, {', '.join(plan.residency)}"
        for plan in config.plans.values()
        if plan.residency and served.isdisjoint(plan.residency)
    ]


def _backends(config: Config) -> Iterator[str]:
    seen: dict[str, str] = {}
    for backend in config.backends:
        other = seen.setdefault(backend.url, backend.name)
        if other != backend.name:
            yield f"{backend.name} has the same url as {other}: its load will be counted twice"
        if backend.max_inflight < config.router.workers:
            yield f"{backend.name}: max_inflight is below [router] workers, each of which sends at least one request"
        parts = urlsplit(backend.url)
        if any(_VERSION.fullmatch(piece) for piece in parts.path.lower().split("/")):
            asked = f"{parts.path}/v1/chat/completions"
            yield f"{backend.name}: /v1 is added to its url, so that it is asked for {asked}: is that a path it has?"
        if backend.key_env is not None and parts.scheme == "http" and _is_public(parts.hostname or ""):
            yield f"{backend.name}: key_env sends its key over http://, readable on the way"
        if config.router.policy == "cheapest" and not backend.cost_usd_hour:
            yield f"{backend.name}: has no cost_usd_hour, so the policy cheapest takes it for free"


def _models(config: Config) -> Iterator[str]:
    served = _served(config)
    if served is None:
        return
    for alias in config.models.values():
        for model in [t.model for t in alias.targets] or [alias.name]:
            if served and model not in served:
                yield f'[models.{alias.name}]: no backend serves "{model}"{did_you_mean(model, served)}'
        for key, models in (("fallbacks", alias.fallbacks), ("degrade", alias.degrade)):
            for model in models:
                if model not in served and (key == "degrade" or model not in config.models):
                    yield f'[models.{alias.name}] {key}: no backend serves "{model}"{did_you_mean(model, served)}'
        if alias.degrade and not any(plan.degrade for plan in config.plans.values()):
            yield f"[models.{alias.name}] degrade: no plan has degrade = true, so nobody gets a smaller variant"


def _prices(config: Config) -> Iterator[str]:
    """Warn of models without a price: they charge nothing to a budget."""
    for place, tariff in _tariffs(config):
        for price in tariff:
            if price.input > 0 and not price.output:
                yield f"{place} has no price for output tokens: they are free"
    money = [kind for kind in KINDS if kind.money]
    every: list[tuple[str, Limited]] = [("[all]", config.all)]
    for name, tables in (("plans", config.plans), ("tenants", config.tenants), ("models", config.models)):
        every += [(f"[{name}.{entry.name}]", entry) for entry in tables.values()]
    limited = next((f"{p} {k.key}" for p, entry in every for k in money if getattr(entry, k.key) is not None), None)
    if limited is None:
        return
    prices = price_list(config)
    if prices.empty:
        yield f"{limited}: no model has a price_usd_per_mtok: nothing will be charged to it"
    elif free := sorted(_unpriced(config, prices.on(clock.wall_s()))):
        more = f" and {len(free) - 3} more" if len(free) > 3 else ""
        names = ", ".join(free[:3])
        yield f"{limited}: these models charge nothing to it, having no price today: {names}{more}"


def _tariffs(config: Config) -> Iterator[tuple[str, Tariff]]:
    yield "[prices] default", config.prices.default
    for alias in config.models.values():
        yield f"[models.{alias.name}] price_usd_per_mtok", alias.prices
    for backend in config.backends:
        yield f"{backend.name}: price_usd_per_mtok", backend.prices


def _unpriced(config: Config, prices: DayPrices) -> set[str]:
    """Models that some backend may answer for nothing. Those behind an alias count, the alias itself does not."""
    free: set[str] = set()
    for model in _served(config) or set():
        serving = [b.name for b in config.backends if model in b.models]
        if any(prices.of(model, model, backend) is None for backend in serving):
            free.add(model)
    for alias in config.models.values():
        for model in [t.model for t in alias.targets] or [alias.name]:
            if prices.of_model(alias.name, model) is None and any(
                not b.prices for b in config.backends if not b.models or model in b.models
            ):
                free.add(model)
    return free


_PARTS: tuple[Callable[[Config], Iterator[str]], ...] = (_general, _plans, _backends, _models, _prices)


def _served(config: Config) -> set[str] | None:
    """Every model that is served; None: backends must be asked first."""
    named = [*(backend.models for backend in config.backends), *(source.models for source in config.sources)]
    return {model for models in named for model in models} if all(named) else None


def _peopled(config: Config) -> list[Region]:
    """The regions that have backends, or where some may be found."""
    sourced = {source.region.name for source in config.sources}
    return [region for region in config.regions if region.backends or region.spec.name in sourced]


def _is_public(host: str) -> bool:
    if is_loopback(host):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".svc", ".lan"))


def _redis_files(config: Config) -> Iterator[str]:
    redis = config.store.redis
    if redis is None or redis == "embedded" or redis_problem(redis):
        return
    url = parse_redis_url(redis)
    for prefix, options in (("", url.options), ("sentinel_", url.sentinel_options)):
        for name in sorted(PATH_OPTIONS & options.keys()):
            if (not prefix or options[name] != url.options.get(name)) and not os.access(options[name], os.R_OK):
                yield f"[store] redis: {prefix}{name} names a file that cannot be read"
