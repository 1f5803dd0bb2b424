"""Contexts: names for the routers that somebody operates, as kubectl has them for clusters.

They stand in ``$XDG_CONFIG_HOME/meridian/contexts.toml`` (``~/.config`` without that variable); a token stands in
a file of its own. ``chosen`` decides which router a command asks: flag, environment, current context, default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from cli.errors import CliError, Exit, unknown

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:9090"

_HEAD = "# Routers by name, for `router ctx`. Tokens are in files of their own.\n"
_KEYS = ("admin_url", "token_file")


class NamedRouter(NamedTuple):
    """A context."""

    name: str
    admin_url: str
    token_file: str | None = None


class Contexts:
    """All contexts of this user. ``path`` is None for a user without a home folder, who has none."""

    def __init__(
        self, path: Path | None, current: str | None = None, places: dict[str, NamedRouter] | None = None
    ) -> None:
        self.path = path
        self.current = current
        self.places = {} if places is None else places

    def get(self, name: str) -> NamedRouter:
        """Raises CliError for an unknown name."""
        if name in self.places:
            return self.places[name]
        hint = None if self.places else "`router ctx add NAME --admin-url URL` adds one."
        raise unknown("context", name, self.places, hint=hint)

    def save(self) -> None:
        assert self.path is not None
        lines = [_HEAD]
        if self.current is not None:
            lines.append(f"current = {_quoted(self.current)}\n")
        for place in self.places.values():
            lines.append(f"\n[contexts.{_quoted(place.name)}]\nadmin_url = {_quoted(place.admin_url)}\n")
            if place.token_file is not None:
                lines.append(f"token_file = {_quoted(place.token_file)}\n")
        from cli import private_files

        private_files.write(self.path, "".join(lines))


class Chosen(NamedTuple):
    """The router that a command asks. ``why`` is where the address is from, ``token_why`` where the token is from."""

    url: str
    token: str | None
    why: str
    token_why: str | None = None
    context: str | None = None


def chosen(
    env: Mapping[str, str], *, url: str | None = None, token: str | None = None, context: str | None = None
) -> Chosen:
    """``url``, ``token`` and ``context`` are flags. A context's token goes to the context's address only.

    Raises CliError for an unknown context, and for a file that cannot be used.
    """
    given, given_why = (token, "--admin-token") if token else (env.get("ROUTER_ADMIN_TOKEN"), "ROUTER_ADMIN_TOKEN")
    told = given_why if given else None
    if url:
        return Chosen(url, given or None, "--admin-url", told)
    if context:
        place = load(env).get(context)
        if place.token_file is not None and not token:
            return _with_file(place, "--context")
        return Chosen(place.admin_url, given or None, "--context", told, place.name)
    if env.get("ROUTER_ADMIN_URL"):
        return Chosen(env["ROUTER_ADMIN_URL"], given or None, "ROUTER_ADMIN_URL", told)
    contexts = load(env)
    name, why = env.get("ROUTER_CONTEXT"), "ROUTER_CONTEXT"
    if not name:
        name, why = contexts.current, "current context"
    if not name:
        return Chosen(DEFAULT_URL, given or None, "default", told)
    place = contexts.get(name)
    if place.token_file is not None and not given:
        return _with_file(place, why)
    return Chosen(place.admin_url, given or None, why, told, place.name)


def _with_file(place: NamedRouter, why: str) -> Chosen:
    from pathlib import Path

    from cli import private_files

    assert place.token_file is not None
    token = private_files.read_secret(Path(place.token_file).expanduser())
    return Chosen(place.admin_url, token, why, place.token_file, place.name)


def folder(env: Mapping[str, str]) -> Path | None:
    """Where the settings of this user are. A relative XDG_CONFIG_HOME counts as none, as its specification says."""
    from pathlib import Path

    if (base := env.get("XDG_CONFIG_HOME", "")).startswith("/"):
        return Path(base) / "meridian"
    return Path(env["HOME"]) / ".config" / "meridian" if env.get("HOME") else None


def load(env: Mapping[str, str]) -> Contexts:
    """Raises CliError for a file that cannot be read."""
    base = folder(env)
    if base is None:
        return Contexts(None)
    path = base / "contexts.toml"
    if not path.exists():
        return Contexts(path)
    import tomllib

    try:
        document = tomllib.loads(path.read_text("utf-8"))
        return _checked(path, document)
    except FileNotFoundError:
        return Contexts(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CliError(f"{path}: {reason}", code=Exit.USAGE, hint="Mend the file, or remove it.") from error


def url_problem(url: str) -> str | None:
    """Why this cannot be the address of a router, and what was meant; None if it can."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if good:
        return None
    if "://" not in url and url_problem(f"http://{url}") is None:
        return f'the address "{url}" has no scheme: write "http://{url}"'
    return f'invalid address "{url}" (use http://HOST:PORT)'


def _checked(path: Path, document: dict[str, Any]) -> Contexts:
    """Raises ValueError with the first problem."""
    if unknown := document.keys() - {"current", "contexts"}:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}: it has current and tables [contexts.NAME]")
    current, tables = document.get("current"), document.get("contexts", {})
    if not isinstance(tables, dict) or not isinstance(current, str | None):
        raise ValueError("it has current, a name, and tables [contexts.NAME]")
    places = {}
    for name, table in tables.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise ValueError(f"[contexts.{name}] has admin_url and token_file, which are strings")
        if unknown := table.keys() - set(_KEYS):
            raise ValueError(f"[contexts.{name}]: unknown key {sorted(unknown)[0]!r}: there are {', '.join(_KEYS)}")
        if (problem := url_problem(table.get("admin_url", ""))) is not None:
            raise ValueError(f"[contexts.{name}] admin_url: {problem}")
        places[name] = NamedRouter(name, table["admin_url"], table.get("token_file"))
    return Contexts(path, current, places)


def _quoted(text: str) -> str:
    """JSON writes strings as TOML reads them, without surrogates and the control character that TOML alone forbids."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
