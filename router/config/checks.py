"""What no key can know alone: names that must be unique or exist, secrets that must be there, settings that clash."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from router.config.address import has_password, is_loopback, listen_problem, redis_problem, same_port, split_address
from router.config.model import Config
from router.config.reader import Reader, did_you_mean
from router.core.policy import POLICIES

_TOKEN_LENGTH = 16
#: A path such as /v1beta/openai or /api/paas/v4: an API that is not below /v1.
_VERSIONED = re.compile(r"://[^/]*/(?:.*/)?v[0-9]+(?:alpha|beta)?[0-9]*(?:/|\Z)")


def secret(name: str, env: Mapping[str, str] | None = None) -> str | None:
    """The secret in the environment variable ``name``, without surrounding white space; None when unset or empty."""
    return (os.environ if env is None else env).get(name, "").strip() or None


def check(reader: Reader, document: Mapping[str, Any], config: Config, env: Mapping[str, str] | None) -> None:
    """Note every problem between keys. ``env=None``: secrets are not looked up."""
    _check_router(reader, config)
    _check_open(reader, config)
    _check_names(reader, config)
    _check_models(reader, config)
    if env is not None:
        _check_secrets(reader, document, config, env)


def warnings(config: Config) -> list[str]:
    """What is allowed and yet probably not meant."""
    return list(_warnings(config))


def _check_router(reader: Reader, config: Config) -> None:
    router = config.router
    if router.policy not in POLICIES:
        known = ", ".join(POLICIES)
        reader.problem(
            ("router", "policy"),
            f'there is no policy "{router.policy[:40]}"{did_you_mean(router.policy, POLICIES)} There are: {known}',
        )
    regions = [r.spec.name for r in config.regions]
    if router.region is not None and regions and router.region not in regions:
        reader.problem(
            ("router", "region"), f'"{router.region}" is none of [[regions]]{did_you_mean(router.region, regions)}'
        )
    if router.workers > 1 and config.store.redis is None:
        reader.problem(
            ("router", "workers"),
            'more than one worker needs a shared store: set [store] redis, e.g. to a redis:// URL or to "embedded"',
        )
    if (router.tls_cert is None) is not (router.tls_key is None):
        name, other = ("tls_cert", "tls_key") if router.tls_key is None else ("tls_key", "tls_cert")
        reader.problem(("router", name), f"needs {other} beside it")
    addresses_good = listen_problem(router.listen) is None and listen_problem(router.admin) is None
    if addresses_good and same_port(router.listen, router.admin):
        reader.problem(("router", "admin"), f'has the same port as listen, "{router.listen}"')


def _check_open(reader: Reader, config: Config) -> None:
    listen, admin = config.router.listen, config.router.admin
    if config.auth.mode == "open" and not config.auth.allow_open and not is_loopback(split_address(listen)[0]):
        reader.problem(
            ("auth", "mode"),
            f'"open" would let anybody who reaches {listen} use the backends: set mode = "keys", listen on 127.0.0.1, '
            "or say allow_open = true",
        )
    if not is_loopback(split_address(admin)[0]) and config.auth.admin_token_env is None:
        reader.problem(
            ("router", "admin"),
            f"other machines can reach {admin}: set [auth] admin_token_env to the name of an environment variable "
            "that holds a token, or use 127.0.0.1",
        )


def _check_names(reader: Reader, config: Config) -> None:
    seen_regions: dict[str, int] = {}
    for index, region in enumerate(config.regions):
        if region.spec.name in seen_regions:
            reader.problem(("regions", index, "name"), "another region has this name")
        seen_regions[region.spec.name] = index
        seen: set[str] = set()
        for position, backend in enumerate(region.backends):
            if backend.name in seen:
                reader.problem(
                    ("regions", index, "backends", position, "name"), "another backend of the region has this name"
                )
            seen.add(backend.name)


def _check_models(reader: Reader, config: Config) -> None:
    served = {m: b.name for b in config.backends for m in b.models}
    for alias in config.models.values():
        path = ("models", alias.name)
        targets = [t.model for t in alias.targets]
        if len(set(targets)) < len(targets):
            reader.problem((*path, "targets"), "names a model twice")
        if targets and not sum(t.weight for t in alias.targets) > 0:
            reader.problem((*path, "targets"), "at least one weight must be above 0")
        if targets and alias.name in served and alias.name not in targets:
            reader.problem(
                path,
                f"hides the model of the same name that {served[alias.name]} serves: make it one of the targets, or "
                "choose another name",
            )
        for index, target in enumerate(targets):
            other = config.models.get(target)
            if target != alias.name and other is not None and other.targets:
                reader.problem(
                    (*path, "targets", index, "model"), f'"{target}" is an alias itself; name the models behind it'
                )
        if alias.name in alias.fallbacks:
            reader.problem((*path, "fallbacks"), "a model cannot be its own fallback")


def _check_secrets(reader: Reader, document: Mapping[str, Any], config: Config, env: Mapping[str, str]) -> None:
    if (name := config.auth.admin_token_env) is not None and (problem := _secret_problem(name, env)):
        reader.problem(("auth", "admin_token_env"), problem)
    store = document.get("store")
    redis = store.get("redis") if isinstance(store, dict) else None
    if isinstance(redis, str) and redis.startswith("env:") and config.store.redis is not None:
        from_env = secret(redis[4:], env)
        if problem := _secret_problem(redis[4:], env) or _redis_value_problem(from_env or ""):
            reader.problem(("store", "redis"), problem)
    for index, region in enumerate(config.regions):
        for position, backend in enumerate(region.backends):
            if backend.key_env is not None and (problem := _secret_problem(backend.key_env, env)):
                reader.problem(("regions", index, "backends", position, "key_env"), problem)


def _secret_problem(name: str, env: Mapping[str, str]) -> str | None:
    value = secret(name, env)
    if value is None:
        return f"the environment variable {name} is {'empty' if name in env else 'not set'}"
    if not value.isascii() or not value.isprintable():
        return f"the environment variable {name} holds characters that no HTTP header may hold"
    return None


def _redis_value_problem(value: str) -> str | None:
    problem = redis_problem(value)
    return f"what the environment variable holds {problem}" if problem else None


def _warnings(config: Config) -> Iterator[str]:
    if not config.backends:
        yield "no backends: every request will be answered 404 or 503"
    if "*" in config.cors.origins and config.auth.mode == "open":
        yield (
            '[cors] origins: with [auth] mode = "open", "*" lets every web page that somebody visits use the backends '
            "through that person's browser; name the origins"
        )
    if config.store.redis is not None and has_password(config.store.redis):
        yield '[store] redis: holds a password; "env:NAME" takes the whole URL from an environment variable'
    if (token_env := config.auth.admin_token_env) and 0 < len(secret(token_env) or "") < _TOKEN_LENGTH:
        yield f"[auth] admin_token_env: the token has fewer than {_TOKEN_LENGTH} characters"
    for backend in config.backends:
        if _VERSIONED.search(backend.url):
            yield f"{backend.name}: url ends below a version, and the router adds /v1 to it"
        if backend.max_inflight < config.router.workers:
            yield f"{backend.name}: max_inflight is below [router] workers, each of which sends at least one request"
    yield from _same_url(config)
    jurisdictions = {r.spec.jurisdiction for r in config.regions if r.spec.jurisdiction}
    for plan in config.plans.values():
        if missing := [j for j in plan.residency if j not in jurisdictions]:
            hint = did_you_mean(missing[0], jurisdictions)
            yield f'[plans.{plan.name}] residency: no region has the jurisdiction "{missing[0]}"{hint}'
    if all(b.models for b in config.backends):
        served = {m for b in config.backends for m in b.models}
        yield from _unserved(config, served)
    if any(p.budget_usd_month is not None for p in config.plans.values()) and not any(
        m.price_input_usd_per_mtok or m.price_output_usd_per_mtok for m in config.models.values()
    ):
        yield "a plan has budget_usd_month but no model has a price_usd_per_mtok: nothing will be charged to it"


def _same_url(config: Config) -> Iterator[str]:
    seen: dict[str, str] = {}
    for backend in config.backends:
        other = seen.setdefault(backend.url, backend.name)
        if other != backend.name:
            yield f"{backend.name} has the same url as {other}: its load will be counted twice"


def _unserved(config: Config, served: Iterable[str]) -> Iterator[str]:
    known = set(served)
    for alias in config.models.values():
        for model in [t.model for t in alias.targets] or [alias.name]:
            if known and model not in known:
                yield f'[models.{alias.name}]: no backend serves "{model}"{did_you_mean(model, known)}'
        for model in alias.fallbacks:
            if model not in known and model not in config.models:
                yield f'[models.{alias.name}] fallbacks: no backend serves "{model}"{did_you_mean(model, known)}'
