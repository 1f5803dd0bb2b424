"""Tables as data: columns that fit, orders, filters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.top.sheets import (
    GAP,
    Cell,
    Column,
    Order,
    Row,
    Sheet,
    fit,
    matching,
    next_order,
    order_by,
    ordered,
    widths,
)

COLUMNS = (
    Column("name", text=True),
    Column("count", right=True, leaves=2, largest=True),
    Column("trend", trend=True, leaves=1),
    Column("why", text=True, leaves=3),
)


def row(name: str, count: float | None, *, alarm: int = 0, **about: str) -> Row:
    return Row(
        name, (Cell(f"[bold]{name}[/]", name), Cell(str(count), count), Cell(""), Cell("")), alarm, (), dict(about)
    )


def names(rows: list[Row]) -> str:
    return "".join(r.key for r in rows)


ROWS = [row("b", 2), row("a", None), row("d", 9, alarm=2), row("c", 5, alarm=1)]


def test_needing_attention_comes_first_unless_another_order_is_asked_for() -> None:
    assert names(ordered(ROWS, Order())) == "dcba"
    assert names(ordered(ROWS, Order(0))) == "abcd"
    assert names(ordered(ROWS, Order(1, falling=True))) == "dcba", "the unknown is last"
    assert names(ordered(ROWS, Order(1))) == "bcda", "here, too"


def test_orders_go_round() -> None:
    order, seen = Order(), []
    for _ in range(4):
        order = next_order(order, COLUMNS)
        seen.append((order.column, order.falling))
    assert seen == [(0, False), (1, True), (3, False), (None, False)], "never by a picture"


def test_a_click_on_a_heading_orders_and_the_next_one_turns_it() -> None:
    once = order_by(Order(), 1, COLUMNS)
    assert (once.column, once.falling) == (1, True), "the largest first"
    assert order_by(once, 1, COLUMNS) == Order(1, falling=False)
    assert order_by(once, 0, COLUMNS) == Order(0, falling=False)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", "xyz"),
        ("east", "xy"),
        ("east 429", "y"),
        ("-east", "z"),
        ("status:4xx", "y"),
        ("status:x2x", "y"),
        ("status:5", ""),
        ("region:EAST", "xy"),
        ("region:eu", "z"),
        ("nothing:x", ""),
        ("region:", ""),
    ],
)
def test_filters(words: str, found: str) -> None:
    rows = [
        row("x", 1, region="us-east", status="200"),
        row("y", 1, region="us-east", status="429"),
        row("z", 1, region="eu", status="502"),
    ]
    assert names(list(filter(matching(words), rows))) == found


def test_columns_leave_in_their_order_and_the_trend_takes_the_rest() -> None:
    sheet = Sheet(COLUMNS, [row("us-east", 12), row("eu", 4)])
    found = widths(sheet)
    assert found == [7, 6, 12, 0], "the why is empty"
    assert fit(COLUMNS, found, 100) == {0: 7, 1: 6, 2: 100 - 7 - 6 - 2 * GAP}
    assert fit(COLUMNS, found, 20) == {0: 7, 1: 6}
    assert fit(COLUMNS, found, 12) == {0: 7}
    assert fit(COLUMNS, found, 6) == {0: 6}, "text may be cut"


@given(st.lists(st.integers(0, 40), min_size=4, max_size=4), st.integers(1, 200))
def test_no_number_is_ever_narrower_than_it_is(given_widths: list[int], room: int) -> None:
    kept = fit(COLUMNS, given_widths, room)
    assert all(kept[i] >= given_widths[i] for i in kept if not COLUMNS[i].text)
    if len(kept) > 1:
        assert sum(kept.values()) + GAP * (len(kept) - 1) <= room
