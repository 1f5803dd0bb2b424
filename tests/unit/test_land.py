"""The map shows land where there is land."""

from __future__ import annotations

import pytest

from router import land

PLACES = [
    ((48.9, 2.4), True),  # Paris
    ((39.0, -100.0), True),  # Kansas
    ((-25.0, 135.0), True),  # Australia
    ((0.0, 25.0), True),  # Congo
    ((35.0, -40.0), False),  # the Atlantic
    ((0.0, -140.0), False),  # the Pacific
    ((-20.0, 80.0), False),  # the Indian Ocean
]


@pytest.mark.parametrize(("place", "is_land"), PLACES)
def test_land_and_sea(place: tuple[float, float], is_land: bool) -> None:
    latitude, longitude = place
    x = int((longitude + 180.0) / 360.0 * land.COLUMNS)
    y = int((land.NORTH - latitude) / (land.NORTH - land.SOUTH) * land.LINES)
    at = y * land.COLUMNS + x
    assert bool(land.bits()[at // 8] >> (7 - at % 8) & 1) is is_land
