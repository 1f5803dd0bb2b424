"""The configuration file: problems, warnings, who may read and write it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from cli.doctor.symptoms import FAIL, WARN, Symptom, good
from router.config import Config, load, parse, warnings
from router.config.address import split_address
from router.config.redis_url import has_password
from router.control.operators import file_problem
from router.errors import ConfigError
from router.words import plural

_AREA = "file"


def read(path: str, env: Mapping[str, str]) -> tuple[Config | None, list[Symptom]]:
    """The configuration as far as it can be read, and what is wrong with the file."""
    if not Path(path).exists():
        advice = "Write one with `router config init`, or name it with --config."
        return None, [Symptom(_AREA, path, FAIL, "there is no such file", advice)]
    try:
        config = load(path, env=env)
        operators = config.auth.operators
        if operators is not None and (problem := file_problem(operators)) is not None:
            raise ConfigError(path, [f"{path}: [auth] operators: {problem}"])
    except ConfigError as error:
        advice = "`router config check` lists all of it; a router that runs keeps the configuration it has."
        found = [Symptom(_AREA, path, FAIL, problem, advice) for problem in error.problems]
        return _anyhow(path), [*found, *_rights(path, None)]
    counts = f"valid: {plural(len(config.regions), 'region')}, {plural(len(config.backends), 'backend')}"
    told = [
        Symptom(_AREA, path, WARN, warning, "Change it, or leave it if it is meant.") for warning in warnings(config)
    ]
    return config, [good(_AREA, path, counts), *told, *_rights(path, config)]


def admin_url(config: Config) -> str:
    """Where the router of this file can be asked, from its own machine."""
    host, port = split_address(config.router.admin)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _anyhow(path: str) -> Config | None:
    """All that can be read without the secrets, which may be somebody else's: the rest can be checked with it."""
    try:
        return parse(Path(path).read_text("utf-8-sig"), path, secrets=False, start=True)
    except (ConfigError, OSError, ValueError):
        return None


def _rights(path: str, config: Config | None) -> Iterator[Symptom]:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        text = Path(path).read_text("utf-8-sig")
    except (OSError, ValueError):
        return
    shown = f"mode {mode:04o}"
    redis = config.store.redis if config is not None else None
    secret = redis is not None and redis != "embedded" and has_password(redis) and redis in text
    if mode & stat.S_IWOTH:
        yield Symptom(_AREA, path, FAIL, f"anybody on this machine can change it ({shown})", f"chmod o-w {path}")
    elif secret and mode & 0o044:
        advice = f"chmod 600 {path}, or write the URL as env:NAME."
        yield Symptom(_AREA, path, WARN, f"others can read the password in [store] redis ({shown})", advice)
    else:
        yield good(_AREA, path, shown)
