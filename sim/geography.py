"""Where the simulated regions are and how far apart: measured round-trip times between cities."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

_LOCATIONS = {
    "Dallas": (32.8, -96.8),
    "Toronto": (43.7, -79.4),
    "Washington DC": (38.9, -77.0),
    "Frankfurt": (50.1, 8.7),
    "London": (51.5, -0.1),
    "Madrid": (40.4, -3.7),
    "Osaka": (34.7, 135.5),
    "Sydney": (-33.9, 151.2),
    "Tokyo": (35.7, 139.7),
    "Sao Paulo": (-23.5, -46.6),
}


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """One region of a simulated world."""

    name: str
    city: str
    jurisdiction: str
    backends: int = 2

    @property
    def location(self) -> tuple[float, float]:
        """Latitude and longitude in degrees."""
        return _LOCATIONS[self.city]


DEFAULT_REGIONS = (
    RegionPlan("us-east", "Washington DC", "us"),
    RegionPlan("eu-central", "Frankfurt", "eu"),
    RegionPlan("ap-northeast", "Tokyo", "jp"),
)


@lru_cache(maxsize=1)
def rtt_ms() -> Mapping[tuple[str, str], float]:
    """Round trip from one city to another, data/region_rtt_ms.csv."""
    text = (files("sim") / "data" / "region_rtt_ms.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return MappingProxyType(
        {(row["from"], city): float(ms) for row in rows for city, ms in row.items() if city != "from"}
    )


def cities() -> tuple[str, ...]:
    return tuple(_LOCATIONS)


def city_of(place: str, regions: tuple[RegionPlan, ...] = DEFAULT_REGIONS) -> str:
    """The city of a region or the city itself. Raises ValueError for a place nobody knows."""
    for region in regions:
        if region.name == place:
            return region.city
    if place in _LOCATIONS:
        return place
    known = ", ".join([*(r.name for r in regions), *_LOCATIONS])
    raise ValueError(f"no place {place!r}: one of {known}")
