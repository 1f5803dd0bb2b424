"""Parses the URL of ``[store] redis``. A part or option that is not understood is refused.

Four forms: one server, a unix socket, sentinels, a cluster. Problems never repeat the URL, which may hold a password.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from router.core.suggest import did_you_mean

REDIS_PORT = 6379
SENTINEL_PORT = 26379
PRIMARY = "mymaster"
SECRET_OPTIONS = frozenset({"password", "sentinel_password", "ssl_password"})
#: Options that name a file or a folder.
PATH_OPTIONS = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})

_FORMS = {
    "redis": "server",
    "rediss": "server",
    "unix": "socket",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_SENTINEL = "sentinel_"
#: Options that redis-py would take from a URL, but that the router sets itself.
_OURS = frozenset(
    {
        "socket_timeout",
        "socket_connect_timeout",
        "socket_read_size",
        "timeout",
        "retry",
        "retry_on_timeout",
        "retry_on_error",
        "max_connections",
        "health_check_interval",
        "protocol",
        "legacy_responses",
        "decode_responses",
        "encoding",
        "encoding_errors",
    }
)
#: redis-py has no such option for the nodes of a cluster.
_NOT_IN_CLUSTERS = frozenset({"ssl_ca_path", "ssl_password"})


class RedisUrl(NamedTuple):
    """Where the store is. The options are keyword arguments of redis-py's clients."""

    form: str  # server | socket | sentinel | cluster
    hosts: tuple[tuple[str, int], ...]  # of the servers, sentinels or nodes
    path: str  # of the socket
    primary: str  # the name that sentinels know it by
    options: dict[str, Any]
    sentinel_options: dict[str, Any]

    def __repr__(self) -> str:
        return f"<RedisUrl {self.form}>"


def parse_redis_url(text: str) -> RedisUrl:
    """Raises ValueError with what is wrong."""
    if any(c <= " " or c == "\x7f" for c in text):
        raise ValueError("holds a space or a control character")
    parts = _split(text)
    form = _FORMS[parts.scheme]
    tls = parts.scheme.startswith("rediss")
    hosts, options = _hosts(parts, form), _credentials(parts)
    sentinel_options: dict[str, Any] = {}
    for name, value in _query(parts):
        mine = name.removeprefix(_SENTINEL) if form == "sentinel" else name
        (options if mine == name else sentinel_options)[mine] = _option(name, mine, value, form, tls=tls)
    path, primary = _place(parts, form, options)
    if form in ("server", "sentinel", "cluster") and tls:
        options["ssl"] = True
    private = {"username", "password", "db"}
    if form == "sentinel":
        inherited = {name: value for name, value in options.items() if name not in private}
        sentinel_options = inherited | sentinel_options
    return RedisUrl(form, hosts, path, primary, options, sentinel_options)


def redis_problem(text: str) -> str | None:
    """What is wrong with ``[store] redis``. The answer never repeats the value."""
    if text == "embedded":
        return None
    try:
        parse_redis_url(text)
    except ValueError as exc:
        return str(exc)
    return None


def has_password(url: str) -> bool:
    return without_password(url) != url


def without_password(url: str) -> str:
    """The URL for people: every password in it replaced by ``***``."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return "***"
    before, mark, query = url.partition("?")
    if password:
        scheme, _, rest = before.partition("://")
        before = f"{scheme}://{parts.username or ''}:***@{rest.rpartition('@')[2]}"
    pairs = [pair.partition("=") for pair in query.split("&")]
    shown = (f"{name}=***" if name in SECRET_OPTIONS and value else name + eq + value for name, eq, value in pairs)
    return before + mark + "&".join(shown)


def _split(text: str) -> SplitResult:
    hint = "; special characters of a password must be percent-encoded, e.g. # as %23"
    try:
        parts = urlsplit(text)
        if _FORMS.get(parts.scheme) == "server":
            _ = parts.port
    except ValueError:
        raise ValueError(f"is not a URL (is the port a number from 0 to 65535?){hint}") from None
    if parts.scheme not in _FORMS:
        raise ValueError(
            'must be "embedded" or a URL that begins with redis://, rediss://, redis+sentinel:// or redis+cluster://'
        )
    if "#" in text:
        raise ValueError(f'holds a "#"{hint}')
    return parts


def _hosts(parts: SplitResult, form: str) -> tuple[tuple[str, int], ...]:
    netloc = parts.netloc.rpartition("@")[2]
    if form == "socket":
        if netloc:
            raise ValueError("must begin with unix:/// and the whole path of a socket")
        return ()
    if not netloc:
        raise ValueError("has no host")
    default = SENTINEL_PORT if form == "sentinel" else REDIS_PORT
    hosts = tuple(_host(each, default) for each in netloc.split(","))
    if form == "server" and len(hosts) > 1:
        raise ValueError("names several hosts: write redis+sentinel:// or redis+cluster://")
    return hosts


def _host(text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets, e.g. [::1]:6379")
    if not host:
        raise ValueError("has no host")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ValueError("the port must be a number from 1 to 65535")
    return host, int(port)


def _credentials(parts: SplitResult) -> dict[str, Any]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    found = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in found.items() if value}


def _query(parts: SplitResult) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in seen:
            raise ValueError(f'has the option "{_shown(name)}" twice')
        seen.add(name)
        yield name, value


def _option(name: str, mine: str, value: str, form: str, *, tls: bool) -> Any:
    """The value of one option. ``mine`` is its name without ``sentinel_``."""
    if mine in _OURS:
        raise ValueError(f'has the option "{mine}", which the router sets itself: leave it out')
    known = _known(form)
    if name not in known:
        raise ValueError(f'has an unknown option "{_shown(name)}"{did_you_mean(name, known)}')
    if mine.startswith("ssl_") and not tls:
        raise ValueError(f'has the option "{name}", which needs TLS: write rediss instead of redis')
    if form == "cluster" and mine in _NOT_IN_CLUSTERS:
        raise ValueError(f'has the option "{name}", which a cluster cannot have')
    try:
        return _OPTIONS[mine](value)
    except ValueError as exc:
        raise ValueError(f'its option "{name}" must be {exc}') from None


def _known(form: str) -> list[str]:
    names = list(_OPTIONS)
    return [*names, *(_SENTINEL + name for name in names if name != "db")] if form == "sentinel" else names


def _shown(name: str) -> str:
    """The name of an unknown option, for a message: it may be part of a password."""
    return name[:32] if name.isidentifier() else "…"


def _place(parts: SplitResult, form: str, options: dict[str, Any]) -> tuple[str, str]:
    """The path of a socket and the name of the primary; the number of the database goes to the options."""
    if form == "socket":
        if not parts.path.strip("/"):
            raise ValueError("has no path to a socket")
        return unquote(parts.path), ""
    primary, db = "", parts.path.removeprefix("/")
    if form == "sentinel":
        primary, _, db = db.partition("/")
    db = db.removesuffix("/")
    if db:
        if not (db.isascii() and db.isdigit()):
            raise ValueError("the path must be the number of a database")
        if options.setdefault("db", int(db)) != int(db):
            raise ValueError("names two databases")
    if form == "cluster" and options.pop("db", 0):
        raise ValueError("names a database, but a cluster has only one: leave it out")
    return "", (unquote(primary) or PRIMARY) if form == "sentinel" else ""


def _text(value: str) -> str:
    if not value:
        raise ValueError("a text that is not empty")
    return value


def _bool(value: str) -> bool:
    word = value.lower()
    if word not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError("true or false")
    return word in ("true", "yes", "1")


def _db(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError("the number of a database")
    return int(value)


def _verify(value: str) -> str:
    if value not in ("none", "optional", "required"):
        raise ValueError("none, optional or required")
    return value


def _tls_version(value: str) -> ssl.TLSVersion:
    versions = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
    versions |= {str(int(version)): version for version in versions.values()}
    if value not in versions:
        raise ValueError("TLSv1.2 or TLSv1.3")
    return versions[value]


_OPTIONS: dict[str, Callable[[str], Any]] = {
    "username": _text,
    "password": _text,
    "db": _db,
    "client_name": _text,
    "socket_keepalive": _bool,
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _verify,
    "ssl_check_hostname": _bool,
    "ssl_min_version": _tls_version,
    "ssl_ciphers": _text,
}
