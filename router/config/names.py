"""What names, hosts, origins and paths in the file may be. Each check says what is wrong with a text, or None."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Callable

#: Regions, backends and plans: they appear in headers, metric labels and URLs of the admin API.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MODEL = re.compile(r"[!-~]{1,200}")
_SCALE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}/(deployments|statefulsets|replicasets)/[a-z0-9][a-z0-9.-]{0,252}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH = dt.date(1970, 1, 1).toordinal()
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_JURISDICTION = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PORT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")


def name_problem(text: str) -> str | None:
    if NAME.fullmatch(text):
        return None
    return "may hold only letters, digits, dots, hyphens and underscores, at most 63, a letter or digit first"


def model_problem(text: str) -> str | None:
    return None if MODEL.fullmatch(text) else "must be 1 to 200 printable ASCII characters without spaces"


def tenant_problem(text: str) -> str | None:
    """Tenants are named by whoever makes keys."""
    return None if 0 < len(text) <= 200 and text.isprintable() else "must be 1 to 200 printable characters"


def env_problem(text: str) -> str | None:
    if _ENV.fullmatch(text):
        return None
    return "must be the name of an environment variable, not the secret itself"


def jurisdiction_problem(text: str) -> str | None:
    if _JURISDICTION.fullmatch(text):
        return None
    return "must be lower-case letters, digits and hyphens"


def origin_problem(text: str) -> str | None:
    if text == "*" or _ORIGIN.fullmatch(text):
        return None
    return 'must be "*", or scheme://host with a port if needed, without a path or a slash at its end'


def each(check: Callable[[str], str | None]) -> Callable[[list[str]], str | None]:
    def problem(values: list[str]) -> str | None:
        for value in values:
            if (text := check(value)) is not None:
                return f'"{value}" {text}' if value.isprintable() and len(value) <= 80 else text
        if len(set(values)) < len(values):
            return "names something twice"
        return None

    return problem


def date_problem(text: str) -> str | None:
    if _DATE.fullmatch(text):
        with contextlib.suppress(ValueError):
            if day_of(text) >= 0:
                return None
    return 'must be a date as in "2026-12-01"'


def day_of(date: str) -> int:
    """A date as the number of days since 1970-01-01."""
    return dt.date.fromisoformat(date).toordinal() - _EPOCH


def date_of(day: int) -> str:
    return dt.date.fromordinal(_EPOCH + day).isoformat()


def location_problem(values: list[float]) -> str | None:
    if len(values) != 2 or abs(values[0]) > 90 or abs(values[1]) > 180:
        return "must be [latitude, longitude] in degrees: -90 to 90, -180 to 180"
    return None


def file_problem(text: str) -> str | None:
    return None if text and text.isprintable() and not text.endswith("/") else "must be the path of a file"


def port_problem(text: str | int) -> str | None:
    """A port of a Service: its number or its name."""
    if _PORT.fullmatch(str(text)) and not (str(text).isdigit() and not 0 < int(text) <= 65535):
        return None
    return "must be a number from 1 to 65535, or a name"


def scale_problem(text: str) -> str | None:
    return None if _SCALE.fullmatch(text) else "must be NAMESPACE/deployments/NAME or NAMESPACE/statefulsets/NAME"


def host_problem(text: str) -> str | None:
    return None if _HOST.fullmatch(text) else "must be a host name"
