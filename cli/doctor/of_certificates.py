"""When certificates end: those in files, and those that engines show."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from cli import asking, units
from cli.doctor import expiry
from cli.doctor.symptoms import FAIL, WARN, Symptom, good
from router.config import Config
from router.core.types import BackendSpec
from router.errors import ConfigError
from router.wire.tls import tls_of

_AREA = "certificates"
_SOON_S = 14 * 86_400.0


def look(config: Config, now_s: float | None = None) -> list[Symptom]:
    now_s = time.time() if now_s is None else now_s
    symptoms = []
    for path in _files(config):
        try:
            symptoms.append(_judged(path, expiry.ends_s(path), now_s))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            symptoms.append(Symptom(_AREA, path, FAIL, why.lower(), "Put the certificate there."))
    return [*symptoms, *_of_engines(config, now_s)]


def _files(config: Config) -> list[str]:
    told = [config.router.tls_cert, config.router.tls_client_ca, config.autoscaling.tls_cert]
    told += [config.autoscaling.tls_client_ca, config.jwt.tls_ca]
    for backend in config.backends:
        told += [backend.tls_cert, backend.tls_ca]
    for source in config.sources:
        told += [source.tls_cert, source.tls_ca]
    return list(dict.fromkeys(path for path in told if path is not None))


def _of_engines(config: Config, now_s: float) -> Iterator[Symptom]:
    """One that is wrong already is told of as a backend that cannot be reached."""
    for spec in config.backends:
        with contextlib.suppress(OSError, ConfigError, ValueError):
            if (ends_s := _shown_by(spec)) is not None:
                yield _judged(spec.name, ends_s, now_s)


def _shown_by(spec: BackendSpec) -> float | None:
    context, parts = tls_of(spec), urlsplit(spec.url)
    if context is None:
        return None
    address = (parts.hostname or "", parts.port or 443)
    name = spec.tls_server_name or parts.hostname
    with (
        socket.create_connection(address, timeout=asking.TIMEOUT_S) as raw,
        context.wrap_socket(raw, server_hostname=name) as secured,
    ):
        told = (secured.getpeercert() or {}).get("notAfter")
    return float(ssl.cert_time_to_seconds(told)) if isinstance(told, str) else None


def _judged(what: str, ends_s: float, now_s: float) -> Symptom:
    left_s = ends_s - now_s
    day = time.strftime("%Y-%m-%d", time.gmtime(ends_s))
    advice = "Renew it; a router reads its own files again when they change."
    if left_s <= 0:
        return Symptom(_AREA, what, FAIL, f"it ended on {day}", advice)
    if left_s < _SOON_S:
        return Symptom(_AREA, what, WARN, f"it ends on {day}, in {units.seconds(left_s)}", advice)
    return good(_AREA, what, f"good until {day}")
