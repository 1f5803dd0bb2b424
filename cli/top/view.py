"""The answers so far. A router that is gone leaves the last answers, which grow old, and gaps in the charts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from cli.top.polling import Reading

Json = dict[str, Any]
History = deque[float | None]

#: Values that charts keep.
_KEPT = 300
#: Older than this many looks, figures count as stale.
_STALE_LOOKS = 3.0
_STALE_S = 3.0


def _history() -> History:
    return deque(maxlen=_KEPT)


@dataclass(slots=True)
class View:
    """``interval_s``: from one look to the next. Times are of a clock that never goes back."""

    interval_s: float = 1.0
    parts: dict[str, Any] = field(default_factory=dict)
    trouble: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    at_s: float | None = None  # of the last good look
    wall_s: float | None = None  # the same on the wall's clock
    requests_per_s: History = field(default_factory=_history)
    tokens_per_s: History = field(default_factory=_history)
    ttft_s: History = field(default_factory=_history)
    inflight: History = field(default_factory=_history)
    #: region -> median first token, look by look
    ttft_of: dict[str, History] = field(default_factory=dict)

    def take(self, reading: Reading, now_s: float, wall_s: float) -> None:
        """Add what one look has brought."""
        self.trouble = reading.trouble
        self.refused = reading.refused
        if reading.trouble is None:
            self.parts |= reading.parts
            self.at_s, self.wall_s = now_s, wall_s
        self._remember(reading)

    def _remember(self, reading: Reading) -> None:
        good = reading.trouble is None
        traffic = reading.parts["status"]["traffic"] if good and "status" in reading.parts else {}
        self.requests_per_s.append(traffic.get("requests_per_s"))
        self.tokens_per_s.append(traffic.get("output_tokens_per_s"))
        self.ttft_s.append(traffic.get("ttft_s_p50"))
        self.inflight.append(traffic.get("inflight"))
        by_region = self.stats_by("region") if good and "stats" in reading.parts else {}
        for name in {r["name"] for r in self.regions}:
            history = self.ttft_of.setdefault(name, _history())
            history.append(by_region[name]["ttft_s"]["p50"] if name in by_region else None)

    def age_s(self, now_s: float) -> float:
        return 0.0 if self.at_s is None else max(0.0, now_s - self.at_s)

    def is_stale(self, now_s: float) -> bool:
        """The figures are not of now: the router does not answer, or not in time."""
        late_s = self.interval_s + max(_STALE_S, _STALE_LOOKS * self.interval_s)
        return self.trouble is not None or self.age_s(now_s) > late_s

    # the parts as lists; empty where nothing was read yet

    @property
    def status(self) -> Json | None:
        found: Json | None = self.parts.get("status")
        return found

    @property
    def regions(self) -> list[Json]:
        return self.listed("regions")

    @property
    def backends(self) -> list[Json]:
        return [backend for region in self.regions for backend in region["backends"]]

    def listed(self, part: str) -> list[Json]:
        found: list[Json] = (self.parts.get(part) or {}).get("data") or []
        return found

    def stats_by(self, group: str) -> dict[str, Json]:
        """Requests of the last seconds by region, model, tenant or cause."""
        entries = (self.parts.get("stats") or {}).get(f"by_{group}") or ()
        return {entry["name"]: entry for entry in entries if entry["name"] is not None}

    def used_by(self, part: str, group: str) -> dict[str, Json]:
        """Rows of usage by the name they are about."""
        return {row[group]: row for row in self.listed(part) if row.get(group) is not None}
