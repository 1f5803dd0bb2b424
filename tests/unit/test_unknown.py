"""A name that nothing has is an error that says what there is."""

from __future__ import annotations

from router.control.unknown import NAMED_MAX, unknown


def test_it_says_what_was_meant_and_what_there_is() -> None:
    error = unknown("router", "egde-1", ["edge-2", "edge-1", "edge-1"])
    assert error.detail == 'There is no router "egde-1", did you mean "edge-1"? There are: edge-1, edge-2.'
    assert (error.code, error.param) == ("invalid_request", "router")


def test_many_names_are_counted() -> None:
    detail = unknown("backend", "x", map(str, range(NAMED_MAX + 3)), word="backend or region").detail
    assert detail.startswith('There is no backend or region "x". There are: 0,')
    assert detail.endswith("and 3 more.")


def test_nothing_is_none() -> None:
    assert unknown("key", "x", ()).detail == 'There is no key "x". There are none.'
