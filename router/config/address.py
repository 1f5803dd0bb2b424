"""Addresses and URLs as an operator may write them. Each check returns what is wrong, or None."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
#: If a URL ends like this, it is one route of an engine and not the engine.
_ROUTES = ("/completions", "/responses", "/messages", "/embeddings", "/v1/models", "/metrics", "/health")
#: A cloud's metadata service by name; its address is link-local.
_METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata", "instance-data", "metadata.azure.internal"})
_METADATA_V6 = ipaddress.ip_address("fd00:ec2::254")
_METADATA_V4 = ipaddress.ip_address("100.100.100.200")


def split_address(text: str) -> tuple[str, int]:
    """``127.0.0.1:8080``, ``[::1]:8080`` or ``localhost:8080`` as host and port. Raises ValueError with the reason."""
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError('must be HOST:PORT, e.g. "127.0.0.1:8080"')
    if not host:
        raise ValueError(f'has no host: write "127.0.0.1:{port_text}", or "0.0.0.0:{port_text}" for every interface')
    if not port_text.isascii() or not port_text.isdigit() or int(port_text[:6]) > 65535:
        raise ValueError("the port must be a number from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_v6(host):
            raise ValueError(f'"{host}" is not an IPv6 address')
    elif ":" in host:
        raise ValueError('an IPv6 address needs brackets: "[::1]:8080"')
    elif not _HOST.fullmatch(host):
        raise ValueError("the host may hold only letters, digits, dots and hyphens")
    return host, int(port_text)


def is_loopback(host: str) -> bool:
    """Only this machine can reach ``host``. A name other than localhost counts as reachable from others."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen_problem(text: str) -> str | None:
    try:
        split_address(text)
    except ValueError as exc:
        return str(exc)
    return None


def same_port(a: str, b: str) -> bool:
    """Two listeners at these addresses would collide. Port 0 never collides."""
    (host_a, port_a), (host_b, port_b) = split_address(a), split_address(b)
    everywhere = {"0.0.0.0", "::"}
    return port_a == port_b != 0 and (host_a == host_b or bool({host_a, host_b} & everywhere))


def calls(url: str, address: str) -> bool:
    """The URL leads to a listener at ``address`` on this machine. Port 0 is not known yet, so no URL leads to it."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host, own_port = split_address(address)
    except ValueError:
        return False
    if not parts.hostname or port != own_port:
        return False
    everywhere = host in ("0.0.0.0", "::")
    return parts.hostname == host or (is_loopback(parts.hostname) and (everywhere or is_loopback(host)))


def url_problem(text: str, advice: str = "put the key in an environment variable and name it in key_env") -> str | None:
    """What is wrong with a backend's URL. The answer never repeats the URL: it may hold a password. ``advice``: where
    that belongs."""
    if any(c <= " " or c == "\x7f" for c in text):
        return "holds a space or a control character"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is not a URL (is the port a number from 0 to 65535?)"
    if parts.scheme not in ("http", "https"):
        hint = f': write "http://{text}"' if "://" not in text and "@" not in text else ""
        return f"must begin with http:// or https://{hint}"
    if parts.username is not None or parts.password is not None:
        return f"must not hold credentials: {advice}"
    if not parts.hostname:
        return "has no host"
    if port == 0:
        return "port 0 is none"
    return _host_problem(parts.hostname) or _path_problem(parts)


def api_problem(text: str) -> str | None:
    """The fault of a Kubernetes API's address, or None."""
    if (problem := _plain_problem(text)) is not None:
        return problem
    parts = urlsplit(text)
    return "must not hold a query or a fragment" if parts.query or parts.fragment else None


def host_in(url: str) -> str:
    """The host of a URL as another URL may have it: IPv6 in brackets. Empty when it is not a URL."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return f"[{host}]" if ":" in host else host


def collector_problem(text: str) -> str | None:
    """The fault of the address of a collector of traces, or None."""
    problem = api_problem(text)
    return f"{problem}: put them into headers_env" if problem == "must not hold credentials" else problem


def notice_problem(text: str) -> str | None:
    """The fault of an address that is asked for notices, or None. A machine's own metadata service may be asked."""
    return _plain_problem(text.replace("{host}", "host"))


def _plain_problem(text: str) -> str | None:
    if any(c <= " " or c == "\x7f" for c in text):
        return "holds a space or a control character"
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        return "must be an http:// or https:// address"
    return "must not hold credentials" if parts.username is not None or parts.password is not None else None


def _path_problem(parts: SplitResult) -> str | None:
    if parts.query or parts.fragment or "?" in parts.geturl() or "#" in parts.geturl():
        return "must not hold a query or a fragment"
    path = parts.path.lower().rstrip("/")
    if path.endswith("/v1"):
        return "ends in /v1: leave that off, the path of each request is added to it"
    if ending := next((e for e in _ROUTES if path.endswith(e)), None):
        return f"ends in {ending}: leave that off, the path of each request is added to it"
    return None


def _host_problem(host: str) -> str | None:
    address = _address(host)
    if address is None:
        if host.lower().rstrip(".") in _METADATA_HOSTS:
            return "is a cloud's metadata service"
        return None if _HOST.fullmatch(host) else "the host may hold only letters, digits, dots and hyphens"
    if address.is_link_local or address in (_METADATA_V4, _METADATA_V6):
        return "is a link-local or metadata address"
    if address.is_multicast or address.is_unspecified:
        return "is not an address that can be called"
    return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The host as an address, also in the short, octal and hexadecimal spellings that the resolver accepts."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def webhook_problem(text: str) -> str | None:
    """The fault of an address that is called to wake engines, if it has one. A secret in it would be shown."""
    advice = "put a token in an environment variable and name it in token_env"
    problem = url_problem(text.partition("?")[0].partition("#")[0], advice)
    if problem is not None and not problem.startswith("ends in"):
        return problem
    return "must not hold a query or a fragment: name a token with token_env" if "?" in text or "#" in text else None


def alert_problem(text: str) -> str | None:
    """The fault of an address that alerts are sent to, or None. It may have a query: some receivers want a token
    there."""
    problem = url_problem(text.partition("?")[0], "a token of the receiver may stand in the query")
    if problem is not None and not problem.startswith("ends in"):
        return problem
    return "must not hold a fragment" if "#" in text else None


def _is_v6(host: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address)
    except ValueError:
        return False
