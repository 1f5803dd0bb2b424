"""Checks across keys: names that must be unique or exist, secrets that must be set, settings that clash.

An unknown name is refused here if it would permit something or could never work. Settings that are allowed but probably
not meant are in ``advice``.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from router.config.address import calls, is_loopback, listen_problem, same_port, split_address
from router.config.certificates import authorities_problem, chain_problem
from router.config.model import Config, ModelAlias
from router.config.model_keys import SCALED_KEYS
from router.config.reader import Reader
from router.config.redis_url import redis_problem
from router.config.sources import check_sources
from router.core.policy import POLICIES
from router.core.suggest import did_you_mean

#: How secrets begin that are base64, by Standard Webhooks.
_BASE64_PREFIX = "whsec_"


def secret(name: str, env: Mapping[str, str] | None = None) -> str | None:
    """The secret in the environment variable ``name``, without surrounding white space; None when unset or empty."""
    return (os.environ if env is None else env).get(name, "").strip() or None


def check(reader: Reader, document: Mapping[str, Any], config: Config, env: Mapping[str, str] | None) -> None:
    """Note every problem between keys. ``env=None``: secrets are not looked up."""
    _check_router(reader, config)
    _check_open(reader, config)
    _check_names(reader, config)
    check_sources(reader, document, config)
    _check_models(reader, config)
    _check_jwt(reader, config)
    _check_urls(reader, config)
    _check_sizes(reader, config)
    _check_files(reader, config)
    if env is not None:
        _check_jwt_here(reader, config)
        _check_secrets(reader, document, config, env)
        _check_tls_files(reader, document, config)


def check_whole(reader: Reader, document: Mapping[str, Any], config: Config) -> None:
    """A file that was cut off can be valid TOML: a file without backends must say that this is meant."""
    regions = document.get("regions")
    if config.backends or config.sources or reader.problems or regions == []:
        return
    if isinstance(regions, list) and any(isinstance(r, dict) and r.get("backends") == [] for r in regions):
        return
    what = "names no backend" if document else "is empty"
    reader.problem((), f"{what}, so nobody can be served. Is it cut off? `regions = []` says that none is meant")


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
    if router.tls_client_ca is not None and router.tls_cert is None:
        reader.problem(("router", "tls_client_ca"), "needs tls_cert and tls_key beside it")
    told = config.autoscaling
    if told.listen is not None and (told.tls_cert is None or told.tls_key is None):
        reader.problem(("autoscaling", "listen"), "needs tls_cert and tls_key: Kubernetes asks over TLS only")
    if told.keda is not None and find_spec("grpc") is None:
        reader.problem(("autoscaling", "keda"), "needs grpcio: pip install 'meridian-router[keda]'")
    addresses_good = listen_problem(router.listen) is None and listen_problem(router.admin) is None
    if addresses_good and same_port(router.listen, router.admin):
        reader.problem(("router", "admin"), f'has the same port as listen, "{router.listen}"')


def exposed(config: Config) -> list[str]:
    """Who could come in that should not, where the router really listens. A line for each problem."""
    return [f"[{section}] {key}: {problem}" for (section, key), problem in _openings(config)]


def _check_open(reader: Reader, config: Config) -> None:
    for place, problem in _openings(config):
        reader.problem(place, problem)


def _openings(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    listen, admin = config.router.listen, config.router.admin
    if config.auth.mode == "open" and not config.auth.allow_open and not is_loopback(split_address(listen)[0]):
        problem = (
            f'"open" would let anybody who reaches {listen} use the backends: set mode = "keys", listen on 127.0.0.1, '
            "or say allow_open = true"
        )
        yield ("auth", "mode"), problem
    guarded = config.auth.admin_token_env is not None or config.auth.operators is not None
    if not is_loopback(split_address(admin)[0]) and not guarded:
        problem = (
            f"other machines can reach {admin}: set [auth] admin_token_env to the name of an environment variable "
            "that holds a token, or [auth] operators to a file of tokens, or use 127.0.0.1"
        )
        yield ("router", "admin"), problem


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
        if alias.name in alias.degrade:
            reader.problem((*path, "degrade"), "a model cannot be its own smaller variant")
        if alias.degrade and alias.target_ttft_s is None:
            reader.problem((*path, "degrade"), "needs target_ttft_s: the first token that is too late")
        if alias.wake.url is not None and alias.wake.scale is not None:
            reader.problem((*path, "wake"), "has both url and scale: one of them starts backends")
        if alias.most is not None and alias.most < alias.least:
            reader.problem((*path, "max"), f"is less than min, {alias.least}")
        if targets and alias.name not in targets:
            usual = ModelAlias(alias.name)
            for key, attr in SCALED_KEYS.items():
                if getattr(alias, attr) != getattr(usual, attr):
                    reader.problem((*path, key), f"backends serve {targets[0]}, not this alias: write it there")


def _check_jwt(reader: Reader, config: Config) -> None:
    """A JWT that anybody's issuer made, or that was meant for somebody else, must never be good here."""
    section = config.jwt
    if section.jwks is None:
        return
    for name in ("issuer", "audience", "algorithms"):
        if not getattr(section, name):
            reader.problem(("jwt", "jwks"), f"needs {name} beside it")
    if section.plan_map and section.plan_claim is None:
        reader.problem(("jwt", "plan_map"), "needs plan_claim beside it")
    named = [(("jwt", "plan_map", n, "plan"), row.plan) for n, row in enumerate(section.plan_map)]
    for path, plan in [*named, (("jwt", "default_plan"), section.default_plan)]:
        if plan not in config.plans:
            reader.problem(path, f'there is no plan "{plan}"{did_you_mean(plan, config.plans)}')


def _check_jwt_here(reader: Reader, config: Config) -> None:
    section = config.jwt
    if section.jwks is not None and find_spec("jwt") is None:
        reader.problem(("jwt", "jwks"), "needs the extra jwt: pip install 'meridian-router[jwt]'")
    if section.tls_ca is not None and (problem := authorities_problem(section.tls_ca)):
        reader.problem(("jwt", "tls_ca"), problem)


def check_residency(reader: Reader, config: Config) -> None:
    """A plan that no region can serve refuses every request of its keys; only some unknown names are a warning.

    A start does without this check: a router that comes back must serve everybody else (``advice`` names the plan).
    """
    jurisdictions = {r.spec.jurisdiction for r in config.regions if r.spec.jurisdiction}
    if not config.regions:
        return
    for plan in config.plans.values():
        if plan.residency and jurisdictions.isdisjoint(plan.residency):
            name = plan.residency[0]
            hint = did_you_mean(name, jurisdictions)
            reader.problem(("plans", plan.name, "residency"), f'no region has the jurisdiction "{name}"{hint}')


def _check_urls(reader: Reader, config: Config) -> None:
    """Refuse a router that is its own backend: it would call itself endlessly."""
    for index, region in enumerate(config.regions):
        for position, backend in enumerate(region.backends):
            for name in ("listen", "admin"):
                if calls(backend.url, getattr(config.router, name)):
                    path = ("regions", index, "backends", position, "url")
                    reader.problem(path, f"is this router's own address, [router] {name}")


def _check_sizes(reader: Reader, config: Config) -> None:
    limits = config.limits
    if limits.body_bytes > limits.buffered_bytes:
        text = f"is above buffered_bytes, {limits.buffered_bytes}: a body of that size would never be accepted"
        reader.problem(("limits", "body_bytes"), text)


def _check_files(reader: Reader, config: Config) -> None:
    """Refuse a file that the router writes whose path is that of another file."""
    others = {"this file": config.source, "tls_cert": config.router.tls_cert, "tls_key": config.router.tls_key}
    written = {
        ("journal", "path"): config.journal.path,
        ("journal", "diary"): config.journal.diary,
        ("store", "snapshot"): config.store.snapshot,
        ("auth", "operators"): config.auth.operators,
    }
    for place, path in written.items():
        for name, other in others.items():
            if path is not None and other is not None and os.path.realpath(path) == os.path.realpath(other):
                reader.problem(place, f"is the path of {name}")


def _check_secrets(reader: Reader, document: Mapping[str, Any], config: Config, env: Mapping[str, str]) -> None:
    alerts = config.alerts
    if alerts.webhook is not None and alerts.secret_env is None:
        reader.problem(("alerts", "webhook"), "needs secret_env beside it: receivers check the signature")
    if alerts.secret_env is not None and (problem := _signing_problem(alerts.secret_env, env)):
        reader.problem(("alerts", "secret_env"), problem)
    if (name := config.auth.admin_token_env) is not None and (problem := _secret_problem(name, env)):
        reader.problem(("auth", "admin_token_env"), problem)
    if (name := config.tracing.headers_env) is not None and (problem := _secret_problem(name, env)):
        reader.problem(("tracing", "headers_env"), problem)
    store = document.get("store")
    redis = store.get("redis") if isinstance(store, dict) else None
    if isinstance(redis, str) and redis.startswith("env:") and config.store.redis is not None:
        from_env = secret(redis[4:], env)
        if problem := _secret_problem(redis[4:], env) or _redis_value_problem(from_env or ""):
            reader.problem(("store", "redis"), problem)
    for model in config.models.values():
        if (name := model.wake.token_env) is not None and (problem := _secret_problem(name, env)):
            reader.problem(("models", model.name, "wake", "token_env"), problem)
    for index, region in enumerate(config.regions):
        for position, backend in enumerate(region.backends):
            if backend.key_env is not None and (problem := _secret_problem(backend.key_env, env)):
                reader.problem(("regions", index, "backends", position, "key_env"), problem)
    for index, source in enumerate(config.sources):
        if source.key_env is not None and (problem := _secret_problem(source.key_env, env)):
            reader.problem(("sources", index, "key_env"), problem)


def _check_tls_files(reader: Reader, document: Mapping[str, Any], config: Config) -> None:
    """Check each table that names files once; the files of a region are for all its backends."""
    tables: list[tuple[tuple[str | int, ...], Any]] = [
        (("router",), document.get("router")),
        (("autoscaling",), document.get("autoscaling")),
        (("tracing",), document.get("tracing")),
    ]
    for index, region in enumerate(config.regions):
        table = document["regions"][index]
        tables.append((("regions", index), table))
        for position, backend in enumerate(table["backends"] if region.backends else ()):
            tables.append((("regions", index, "backends", position), backend))
    tables += [(("sources", index), table) for index, table in enumerate(document.get("sources", ()))]
    for path, table in tables:
        if isinstance(table, dict):
            _check_tls_table(reader, path, {k: v for k, v in table.items() if isinstance(v, str)})


def _check_tls_table(reader: Reader, path: tuple[str | int, ...], table: Mapping[str, str]) -> None:
    cert, key = table.get("tls_cert"), table.get("tls_key")
    if cert and key:
        if problem := chain_problem(cert, key):
            reader.problem((*path, "tls_cert"), problem)
    elif (cert or key) and path != ("router",):
        reader.problem(
            (*path, "tls_cert" if cert else "tls_key"), f"needs {'tls_key' if cert else 'tls_cert'} beside it"
        )
    for name in ("tls_ca", "tls_client_ca"):
        if (ca := table.get(name)) and (problem := authorities_problem(ca)):
            reader.problem((*path, name), problem)


def _secret_problem(name: str, env: Mapping[str, str]) -> str | None:
    value = secret(name, env)
    if value is None:
        return f"the environment variable {name} is {'empty' if name in env else 'not set'}"
    if not value.isascii() or not value.isprintable():
        return f"the environment variable {name} holds characters that no HTTP header may hold"
    return None


def signing_key(text: str) -> bytes | None:
    """The key that a secret of a webhook is: one that begins with whsec_ is base64, as libraries for receivers expect;
    others are taken as they are. None: it is not base64, or empty."""
    if not text.startswith(_BASE64_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_BASE64_PREFIX), validate=True) or None
    except ValueError:
        return None


def _signing_problem(name: str, env: Mapping[str, str]) -> str | None:
    if problem := _secret_problem(name, env):
        return problem
    if signing_key(secret(name, env) or "") is None:
        return f"the environment variable {name} holds no base64 after {_BASE64_PREFIX}"
    return None


def _redis_value_problem(value: str) -> str | None:
    problem = redis_problem(value)
    return f"what the environment variable holds {problem}" if problem else None
