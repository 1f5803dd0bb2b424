"""Small linear systems, solved within bounds."""

from __future__ import annotations

import pytest

from router.core.learn.least_squares import solve_bounded


class TestSolve:
    def test_an_unbounded_system(self) -> None:
        free = (-1e9, 1e9)
        solution = solve_bounded(((4.0, 1.0, 0.0), (1.0, 3.0, 1.0), (0.0, 1.0, 2.0)), (1.0, 2.0, 3.0), (free,) * 3)
        a, b, c = solution
        assert (4 * a + b, a + 3 * b + c, b + 2 * c) == pytest.approx((1.0, 2.0, 3.0))

    def test_a_bound_is_kept_and_the_others_make_the_best_of_it(self) -> None:
        bounds = ((0.0, 10.0), (0.0, 10.0), (0.0, 10.0))
        a, b, c = solve_bounded(((2.0, 0.0, 0.0), (0.0, 2.0, 1.0), (0.0, 1.0, 2.0)), (4.0, 6.0, -5.0), bounds)
        assert (a, b, c) == pytest.approx((2.0, 3.0, 0.0))
