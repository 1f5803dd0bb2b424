"""Numbers as people read them. ``None`` is unknown and shown as a dash, never as zero."""

from __future__ import annotations

import math
import time

from router.words import plural

__all__ = ["plural"]

UNKNOWN = "–"


def seconds(value: float | None) -> str:
    """A duration: ``0.4 ms``, ``84 ms``, ``1.24 s``, ``3m 12s``, ``2h 05m``, ``4d 3h``."""
    if value is None:
        return UNKNOWN
    if value < 0:
        return f"-{seconds(-value)}"
    if value < 0.9995:
        ms = value * 1000
        return "0 ms" if ms == 0 else f"{ms:.1f} ms" if ms < 9.95 else f"{ms:.0f} ms"
    if value < 59.5:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def age(value: float | None) -> str:
    """How long ago, coarsely: ``now``, ``4 s``, ``3m 12s``."""
    if value is None:
        return UNKNOWN
    if value < 0.95:
        return "now"
    return f"{value:.0f} s" if value < 59.5 else seconds(value)


def ago(value: float | None) -> str:
    """The same in a sentence: ``just now``, ``4 s ago``; empty when unknown."""
    if value is None:
        return ""
    return "just now" if value < 0.95 else f"{age(value)} ago"


def count(value: float | None) -> str:
    """A number of things: ``12``, ``4,096``, ``1.3M``."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 1e9:
        return f"{value / 1e9:.1f}G"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.1f}M"
    return f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Things per second: ``0.04``, ``0.4``, ``12``, ``1.2k``."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 9_950:
        return f"{value / 1000:.0f}k"
    if abs(value) >= 995:
        return f"{value / 1000:.1f}k"
    if value == 0 or abs(value) >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 0.095 else f"{value:.2f}"


def ratio(value: float | None) -> str:
    """A share of one as per cent: ``0 %``, ``0.3 %``, ``42 %``."""
    if value is None:
        return UNKNOWN
    percent = value * 100
    return f"{percent:.1f} %" if 0 < percent < 0.95 else f"{percent:.0f} %"


def usd(value: float | None) -> str:
    """Dollars: ``$12.50``, and of less than ten cents the first two digits: ``$0.0012``."""
    if value is None:
        return UNKNOWN
    if not 0 < abs(value) < 0.0995:
        return f"${value:,.2f}"
    digits = min(9, 1 - math.floor(math.log10(abs(value))))
    whole, _, cents = f"${value:.{digits}f}".partition(".")
    return f"{whole}.{cents.rstrip('0'):0<2}"


def clock(wall_s: float | None, *, now_s: float | None = None) -> str:
    """A moment in local time: the time of day, with the date when it is not today."""
    if wall_s is None:
        return UNKNOWN
    then = time.localtime(wall_s)
    today = time.localtime(now_s)
    if (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday):
        return time.strftime("%H:%M:%S", then)
    return time.strftime("%Y-%m-%d %H:%M", then)
