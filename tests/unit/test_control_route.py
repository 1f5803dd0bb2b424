"""The routes of the admin API as a table: no two are the same, and none hides another."""

from __future__ import annotations

import re

from router.control.routes import ROUTES


def test_no_two_routes_have_one_name_or_one_place() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_a_fixed_path_comes_before_the_parameter_that_would_match_it() -> None:
    """aiohttp takes the first path that matches."""
    for at, route in enumerate(ROUTES):
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", route.path))
        hidden = [r.path for r in ROUTES[at + 1 :] if r.path != route.path and pattern.fullmatch(r.path)]
        assert not hidden, f"{route.path} hides {hidden}"


def test_only_the_probes_of_balancers_and_the_empty_page_need_no_token() -> None:
    assert {route.path for route in ROUTES if route.open} == {"/", "/healthz", "/readyz"}
