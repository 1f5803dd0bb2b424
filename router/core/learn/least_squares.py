"""Small linear systems: the sums of a least-squares fit, solved within bounds."""

from __future__ import annotations

from collections.abc import Sequence

Sums = tuple[float, ...]


def solve_bounded(
    matrix: Sequence[Sequence[float]], right: Sequence[float], bounds: Sequence[tuple[float, float]]
) -> tuple[float, ...]:
    """Solve a small symmetric positive definite system, each unknown kept inside its bounds.

    An unknown that leaves its bounds is pinned to the one it crossed, the last unknown first, and the others are solved
    again. That is not always the constrained optimum, but always feasible, and there are no more steps than unknowns.
    """
    pinned: dict[int, float] = {}
    while True:
        free = [i for i in range(len(right)) if i not in pinned]
        solution = _eliminate(
            [[matrix[i][j] for j in free] for i in free],
            [right[i] - sum(matrix[i][j] * value for j, value in pinned.items()) for i in free],
        )
        for i, value in zip(reversed(free), reversed(solution), strict=True):
            low, high = bounds[i]
            if not low <= value <= high:
                pinned[i] = low if value < low else high
                break
        else:
            values = {**pinned, **dict(zip(free, solution, strict=True))}
            return tuple(values[i] for i in range(len(right)))


def _eliminate(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss without pivoting: the matrix is positive definite. Both arguments are consumed."""
    size = len(right)
    for k in range(size):
        for i in range(k + 1, size):
            factor = matrix[i][k] / matrix[k][k]
            for j in range(k, size):
                matrix[i][j] -= factor * matrix[k][j]
            right[i] -= factor * right[k]
    for k in reversed(range(size)):
        right[k] = (right[k] - sum(matrix[k][j] * right[j] for j in range(k + 1, size))) / matrix[k][k]
    return right
