"""The map: land where it is, marks where they belong."""

from __future__ import annotations

import pytest

from cli.worldmap import COLUMNS, LINES, Mark, cell, draw, land

PLACES = {
    "Kansas": (39.0, -98.0),
    "Mali": (17.0, -3.0),
    "Brazil": (-10.0, -52.0),
    "Siberia": (62.0, 100.0),
    "Australia": (-25.0, 133.0),
}
WATERS = {"Pacific": (0.0, -140.0), "Atlantic": (30.0, -40.0), "Indian Ocean": (-30.0, 80.0)}


def test_the_map_is_as_large_as_it_says() -> None:
    assert [len(line) for line in land()] == [COLUMNS] * LINES


@pytest.mark.parametrize("place", PLACES)
def test_land_is_land(place: str) -> None:
    column, line = cell(PLACES[place])
    assert land()[line][column] == "⣿"


@pytest.mark.parametrize("water", WATERS)
def test_water_is_empty(water: str) -> None:
    column, line = cell(WATERS[water])
    assert land()[line][column] == " "


def test_marks() -> None:
    drawn = draw([Mark((38.9, -77.0), "us-east", "green"), Mark((35.7, 139.7), "ap-northeast 164 ms", "red")])
    text = [line.plain for line in drawn]
    assert all(len(line) == COLUMNS for line in text)
    column, line = cell((38.9, -77.0))
    assert text[line][column] == "●"
    assert text[line][column + 2 :].startswith("us-east")
    assert "ap-northeast 164 ms" in text[cell((35.7, 139.7))[1]][: cell((35.7, 139.7))[0]], "left of it: no room"
    assert {span.style for span in drawn[line].spans} == {"green", "bold green", "red", "bold red"}


def test_the_ends_of_the_world_are_on_the_map() -> None:
    for location in ((90.0, 180.0), (-90.0, -180.0)):
        column, line = cell(location)
        assert 0 <= column < COLUMNS
        assert 0 <= line < LINES
    assert len(draw([Mark((90.0, 180.0), "x" * 200, "red")])[0].plain) == COLUMNS
