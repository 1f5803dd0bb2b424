"""How long first tokens take at a backend, learned from those that really came.

The model of one backend and one model name, for a request that meets ``tokens`` (uncached prompt tokens ahead of it and
its own), their ``mpairs`` (millions of pairs with the tokens before them, which is what attention computes) and
``requests`` (already in the engine):

    ttft_s = rtt + overhead_s + tokens * token_s + mpairs * attention_s + requests * busy_s + residual_s

``overhead_s``, ``token_s``, ``busy_s`` and ``attention_s`` come from one least-squares fit over the exponentially
forgotten samples of all backends of the model, held to a first guess (ridge), times the ``pace`` of the backend: how
long its samples took by that line. One number of its own is what a backend's samples can place: four of its own gave
equal engines slopes ten times apart, and requests moved from one to the other for nothing.
``residual_s`` is an EWMA of what the fit does not explain; it follows a sudden change within a few samples and fades
without them. Only requests that waited for themselves more than for others teach the fit; the others teach ``Backlog``.
The time between the tokens of an answer is learned in the same way, see ``service``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from router.core.decay import kept_samples
from router.core.learn.least_squares import Sums, solve_bounded
from router.core.params import Params

_TIMES = 10  # from there on the sums are multiples of times


class Line(NamedTuple):
    """The fitted coefficients: for anything, per uncached token, per request in the batch, per million pairs."""

    overhead_s: float
    token_s: float
    busy_s: float
    attention_s: float = 0.0

    def predict_s(self, tokens: float, requests: float, mpairs: float = 0.0) -> float:
        return self.overhead_s + tokens * self.token_s + requests * self.busy_s + mpairs * self.attention_s

    def times(self, factor: float) -> Line:
        overhead_s, token_s, busy_s, attention_s = self
        return Line(overhead_s * factor, token_s * factor, busy_s * factor, attention_s * factor)


def prior_line(params: Params) -> Line:
    return Line(
        params.overhead_prior_s,
        1.0 / params.prefill_prior_tokens_per_s,
        params.interference_prior_s,
        params.attention_prior_s,
    )


class TtftFit:
    """Learns a ``Line`` and its residual from first tokens.

    ``add`` is called per request and costs a dozen additions; ``solve`` is called now and then and costs a small linear
    system.
    """

    __slots__ = (
        "_n",
        "_params",
        "_solved_s",
        "_sr",
        "_srr",
        "_sry",
        "_sx",
        "_sxr",
        "_sxx",
        "_sxy",
        "_sxz",
        "_sy",
        "_sz",
        "_szr",
        "_szy",
        "_szz",
        "at_s",
        "common",
        "error_s",
        "line",
        "pace",
        "residual_s",
    )

    def __init__(self, params: Params, line: Line, now_s: float) -> None:
        self._params = params
        self._solved_s = now_s
        self._n = self._sx = self._sr = self._sy = 0.0
        self._sxx = self._sxr = self._srr = self._sxy = self._sry = 0.0
        self._sz = self._szz = self._sxz = self._szr = self._szy = 0.0
        #: what the backends of the model have in common
        self.common = line
        #: times what its samples take by that line
        self.pace = 1.0
        #: the line at that pace
        self.line = line
        self.residual_s = 0.0
        #: EWMA of |seen - predicted| of the whole ttft, for operators
        self.error_s = 0.0
        #: time of the last sample
        self.at_s = float("-inf")

    @property
    def params(self) -> Params:
        return self._params

    @property
    def samples(self) -> float:
        """Samples that are not forgotten yet."""
        return self._n

    @property
    def typical(self) -> tuple[float, float, float]:
        """(tokens, requests, mpairs) of the mean sample."""
        return (self._sx / self._n, self._sr / self._n, self._sz / self._n) if self._n else (0.0, 0.0, 0.0)

    def add(
        self, tokens: float, requests: float, net_s: float, error_s: float, now_s: float, *, mpairs: float = 0.0
    ) -> None:
        """A first token came ``net_s`` after its request, the network taken off; ``error_s`` later than predicted."""
        overhead_s, token_s, busy_s, attention_s = self.line
        fitted_s = overhead_s + tokens * token_s + requests * busy_s + mpairs * attention_s
        params = self._params
        most_s = fitted_s * params.outlier_factor + params.outlier_slack_s
        net_s = most_s if net_s > most_s else net_s if net_s > 0.0 else 0.0
        self.residual_s += params.residual_weight * (net_s - fitted_s - self.residual_s)
        weight = 1.0 if net_s <= fitted_s else params.late_sample_weight
        x, r, z = weight * tokens, weight * requests, weight * mpairs
        self._n += weight
        self._sx += x
        self._sr += r
        self._sy += weight * net_s
        self._sxx += x * tokens
        self._sxr += x * requests
        self._srr += r * requests
        self._sxy += x * net_s
        self._sry += r * net_s
        self._sz += z
        self._szz += z * mpairs
        self._sxz += z * tokens
        self._szr += z * requests
        self._szy += z * net_s
        self.at_s = now_s
        self.error_s += params.error_weight * (abs(error_s) - self.error_s)

    def note(self, error_s: float, now_s: float) -> None:
        """A first token came that teaches nothing about the engine alone."""
        self.at_s = now_s
        self.error_s += self._params.error_weight * (abs(error_s) - self.error_s)

    def drift(self, error_s: float, now_s: float) -> None:
        """A sample that cannot place the line, only say how far off it was: a timeout."""
        params = self._params
        bounded_s = max(-params.outlier_slack_s, min(error_s, params.outlier_slack_s))
        self.residual_s += params.residual_weight * bounded_s
        self.at_s = now_s
        self.error_s += params.error_weight * (abs(error_s) - self.error_s)

    def fade(self, keep: float) -> None:
        """Time has passed: ``keep`` of the residual is left."""
        self.residual_s *= keep

    def pardon(self) -> None:
        """The residual is of a time before an absence."""
        self.residual_s = 0.0

    def begin_anew(self) -> None:
        """Forget what was learned of this backend alone."""
        self._forget(0.0)
        self.residual_s, self.pace, self.line = 0.0, 1.0, self.common

    def solve(self, common: Line, now_s: float) -> None:
        """Bring ``pace`` up to date with the samples, and with it ``line``, the multiple of ``common``."""
        params = self._params
        self.common = common
        if self._n:
            self._forget(kept_samples(self._n, now_s - self._solved_s, params.fit_memory_s, params.fit_samples_max))
        self._solved_s = now_s
        if not self._n:
            self.pace, self.line = 1.0, common
            return
        typical_s = common.predict_s(*self.typical)
        held_s = typical_s * params.pace_samples
        pace = (self._sy + held_s) / (self._n * typical_s + held_s) if typical_s > 0.0 else 1.0
        self.pace = min(max(pace, 1.0 / params.pace_max_factor), params.pace_max_factor)
        line = common.times(self.pace)
        if residual_s := self.residual_s:
            # The residual must not hold a second time what the line has just learned.
            learned_s = typical_s * self.pace - self.line.predict_s(*self.typical)
            self.residual_s -= min(max(learned_s, min(residual_s, 0.0)), max(residual_s, 0.0))
        self.line = line

    @property
    def sums(self) -> Sums:
        """Weighted sums over the samples: what a least-squares fit needs of them."""
        return (
            *(self._n, self._sx, self._sr, self._sz),
            *(self._sxx, self._sxr, self._sxz, self._srr, self._szr, self._szz),
            *(self._sy, self._sxy, self._sry, self._szy),
        )

    def _forget(self, keep: float) -> None:
        self._n *= keep
        self._sx *= keep
        self._sr *= keep
        self._sy *= keep
        self._sxx *= keep
        self._sxr *= keep
        self._srr *= keep
        self._sxy *= keep
        self._sry *= keep
        self._sz *= keep
        self._szz *= keep
        self._sxz *= keep
        self._szr *= keep
        self._szy *= keep


def common_line(fits: Iterable[TtftFit], prior: Line, params: Params) -> Line:
    """The line that the backends of a model have in common: one fit over all samples, each at its backend's pace."""
    sums = tuple(map(sum, zip(*(_at_pace_one(fit) for fit in fits), strict=True)))
    return fitted_line(sums, prior, params) if sums else prior


def _at_pace_one(fit: TtftFit) -> Sums:
    sums = fit.sums
    return (*sums[:_TIMES], *(time_s / fit.pace for time_s in sums[_TIMES:]))


def fitted_line(sums: Sums, prior: Line, params: Params) -> Line:
    """Least squares over ``sums``, held to ``prior`` as if by some samples on it (ridge)."""
    samples = params.prior_samples
    n, sx, sr, sz, sxx, sxr, sxz, srr, szr, szz, sy, sxy, sry, szy = sums
    prior_x = samples * params.prior_spread_tokens**2
    prior_r = samples * params.prior_spread_requests**2
    prior_z = samples * params.prior_spread_mpairs**2
    return Line(
        *solve_bounded(
            (
                (n + samples, sx, sr, sz),
                (sx, sxx + prior_x, sxr, sxz),
                (sr, sxr, srr + prior_r, szr),
                (sz, sxz, szr, szz + prior_z),
            ),
            (
                sy + samples * prior.overhead_s,
                sxy + prior_x * prior.token_s,
                sry + prior_r * prior.busy_s,
                szy + prior_z * prior.attention_s,
            ),
            (
                (0.0, params.overhead_max_s),
                (1.0 / params.prefill_max_tokens_per_s, 1.0 / params.prefill_min_tokens_per_s),
                (0.0, params.interference_max_s),
                (0.0, params.attention_max_s),
            ),
        )
    )
