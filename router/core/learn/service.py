"""How an engine serves what it has accepted: time between tokens, places in its batch, rates."""

from __future__ import annotations

from collections.abc import Iterable

from router.core.decay import kept, kept_samples
from router.core.learn.first_token import Line
from router.core.learn.least_squares import Sums
from router.core.params import Params

TokenTimes = tuple[float, float]

_PROMPT_WEIGHT = 0.1


class Service:
    """How an engine serves what it has accepted: decode time of an answer, places in its batch, rates.

    The places are learned: an engine that serves the same number in scrape after scrape while others wait has that many
    places for now, unless it was seen to serve more; and so has one whose KV cache is full. Waiting proves nothing:
    a request waits for the prefill of others, too. Until there is proof the places are unknown, and unknown means no
    predicted wait. Places are dropped when requests are served long before one could be free.

    Rates are exponentially forgotten counts: an event adds ``1 / rate_memory_s``, a tick takes off what has aged.
    """

    __slots__ = (
        "_full_scrapes",
        "_most_running",
        "_mpairs",
        "_n",
        "_outran",
        "_params",
        "_rated_s",
        "_requests",
        "_running",
        "_services",
        "_solved_s",
        "_sr",
        "_srr",
        "_sry",
        "_sy",
        "_tokens",
        "answer_tokens",
        "asked_mpairs_per_s",
        "asked_per_s",
        "asked_tokens_per_s",
        "expected_tokens",
        "itl_busy_s",
        "itl_s",
        "mean_mpairs",
        "mean_s",
        "mean_uncached_tokens",
        "output_tokens_per_s",
        "pace",
        "slots",
        "slots_at_s",
    )

    def __init__(
        self, params: Params, now_s: float, requests_total: int = 0, tokens_total: int = 0, mpairs_total: float = 0.0
    ) -> None:
        self._params = params
        #: mean time from first to last token
        self.mean_s = params.service_prior_s
        self._services = 1.0  # that the mean is of; the prior is one
        #: mean tokens of an answer: of those seen here, and of those seen anywhere
        self.answer_tokens = self.expected_tokens = params.answer_prior_tokens
        #: time between two tokens: alone, and what each other request in the batch adds
        self.itl_s, self.itl_busy_s = params.itl_prior_s, params.itl_busy_prior_s
        self._n = self._sr = self._srr = self._sy = self._sry = 0.0
        #: times what its answers take by the line that all have in common
        self.pace = 1.0
        self.slots = float("inf")
        self.slots_at_s = float("-inf")
        self._full_scrapes = 0  # in a row
        self._running = 0.0  # in the last of them
        self._most_running = 0.0  # ever
        self._outran = 0  # requests in a row that refute the places
        #: what we send there, requests and uncached prompt tokens
        self.asked_per_s = 0.0
        self.asked_tokens_per_s = 0.0
        self.asked_mpairs_per_s = 0.0
        #: EWMA of the uncached tokens of a request here, and of their pairs
        self.mean_uncached_tokens = self.mean_mpairs = 0.0
        #: what we saw delivered
        self.output_tokens_per_s = 0.0
        self._rated_s = self._solved_s = now_s
        self._requests = requests_total
        self._tokens = tokens_total
        self._mpairs = mpairs_total

    def answered(self, decode_s: float, output_tokens: int, requests: float = 0.0) -> None:
        """A whole answer came. ``requests``: others in the batch, on average."""
        params = self._params
        self.answer_tokens += params.answer_weight * (output_tokens - self.answer_tokens)
        if output_tokens > 1:
            # Long answers know the mean better, and weigh as many tokens as they have.
            weight = output_tokens / self.answer_tokens if output_tokens < self.answer_tokens else 1.0
            itl_s = decode_s / (output_tokens - 1)
            self._n += weight
            self._sr += weight * requests
            self._srr += weight * requests * requests
            self._sy += weight * itl_s
            self._sry += weight * requests * itl_s
        self.took(decode_s)
        self.output_tokens_per_s += output_tokens / params.rate_memory_s

    def took(self, decode_s: float) -> None:
        """An answer took so long from its first token to its last, as far as that is known."""
        params, services = self._params, self._services
        weight = params.service_weight
        if services * weight < 1.0:  # the first ones replace the prior quickly
            self._services = services + 1.0
            weight = 1.0 / self._services
        self.mean_s += weight * ((decode_s if decode_s > params.service_min_s else params.service_min_s) - self.mean_s)

    @property
    def sums(self) -> Sums:
        """Weighted sums over the answers, at pace 1: what a least-squares fit of the time between tokens needs."""
        return self._n, self._sr, self._srr, self._sy / self.pace, self._sry / self.pace

    def solve(self, common: TokenTimes, expected_tokens: float, now_s: float) -> None:
        """Bring ``pace`` up to date with the answers, and with it the time between tokens, a multiple of ``common``.

        ``expected_tokens``: of a mean answer, wherever it is from.
        """
        self.expected_tokens = expected_tokens
        params = self._params
        keep = kept_samples(self._n, now_s - self._solved_s, params.fit_memory_s, params.fit_samples_max)
        self._solved_s = now_s
        self._n, self._sr, self._srr = self._n * keep, self._sr * keep, self._srr * keep
        self._sy, self._sry = self._sy * keep, self._sry * keep
        itl_s, itl_busy_s = common
        expected_s = self._n * itl_s + self._sr * itl_busy_s
        if expected_s > 0.0:
            held_s = expected_s / self._n * params.pace_samples
            pace = (self._sy + held_s) / (expected_s + held_s)
            self.pace = min(max(pace, 1.0 / params.pace_max_factor), params.pace_max_factor)
        self.itl_s, self.itl_busy_s = itl_s * self.pace, itl_busy_s * self.pace

    def seen(self, running: float, waiting: float, kv_ratio: float | None, now_s: float) -> None:
        """A scrape told how many it serves, how many it lets wait, and how full its KV cache is."""
        params = self._params
        memory_full = kv_ratio is not None and kv_ratio >= params.kv_full_ratio
        self._most_running = max(self._most_running, running)
        if waiting < 1.0 or running < 1.0 or (running < self._most_running and not memory_full):
            self._full_scrapes = 0
        elif running == self._running or memory_full:
            self._full_scrapes += 1
        else:
            self._full_scrapes = 1
        self._running = running
        if self._full_scrapes >= params.slots_scrapes:
            self.slots = running
            self.slots_at_s = now_s
            self._outran = 0
        elif running > self.slots:
            self.slots = float("inf")

    def refute(self, came_s: float, requests: float) -> None:
        """A request that met ``requests`` others was served after ``came_s``.

        If they take all the places that we know of, it had to wait for one. When several in a row are served long
        before a place could be free, there are more places than that.
        """
        if requests < self.slots:
            return
        wait_s = (requests + 1.0 - self.slots) * self.place_s
        if came_s >= wait_s * self._params.slots_refuted_ratio:
            self._outran = 0
            return
        self._outran += 1
        if self._outran >= self._params.slots_refuted_times:
            self.slots = float("inf")
            self._full_scrapes = self._outran = 0
            self._most_running = max(self._most_running, requests + 1.0)

    def tick(self, now_s: float, requests_total: int, tokens_total: int, mpairs_total: float = 0.0) -> int:
        """Bring the rates up to date with the counts so far. Returns how many requests were new."""
        memory_s = self._params.rate_memory_s
        requests, tokens = requests_total - self._requests, tokens_total - self._tokens
        mpairs = mpairs_total - self._mpairs
        self._requests, self._tokens, self._mpairs = requests_total, tokens_total, mpairs_total
        keep = kept(now_s - self._rated_s, memory_s)
        self._rated_s = now_s
        self.asked_per_s = self.asked_per_s * keep + requests / memory_s
        self.asked_tokens_per_s = self.asked_tokens_per_s * keep + tokens / memory_s
        self.asked_mpairs_per_s = self.asked_mpairs_per_s * keep + mpairs / memory_s
        self.output_tokens_per_s *= keep
        if now_s - self.slots_at_s > self._params.slots_memory_s:
            self.slots = float("inf")
        return requests

    def computed(self, uncached_tokens: int, mpairs: float) -> None:
        """An answered request had brought these along."""
        self.mean_uncached_tokens += _PROMPT_WEIGHT * (uncached_tokens - self.mean_uncached_tokens)
        self.mean_mpairs += _PROMPT_WEIGHT * (mpairs - self.mean_mpairs)

    def demand(self, line: Line, others_inflight: float) -> tuple[float, float]:
        """(requests per second sent here, share of the time that their prefill takes).

        Little's law tells how often others send, from how many of theirs are here and how long an answer takes.
        """
        others_per_s = others_inflight / self.mean_s
        tokens_per_s = self.asked_tokens_per_s + others_per_s * self.mean_uncached_tokens
        mpairs_per_s = self.asked_mpairs_per_s + others_per_s * self.mean_mpairs
        work_per_s = tokens_per_s * line.token_s + mpairs_per_s * line.attention_s
        return self.asked_per_s + others_per_s, work_per_s

    @property
    def place_s(self) -> float:
        """Seconds until the next place is free, when all are taken."""
        return self.mean_s / self.slots


def common_tokens(services: Iterable[Service], params: Params) -> float:
    """Tokens of a mean answer of any of them: how long answers are says nothing about who gives them."""
    known = [(service.sums[0], service.answer_tokens) for service in services]
    total = sum(samples for samples, _ in known) + 1.0
    return (sum(samples * tokens for samples, tokens in known) + params.answer_prior_tokens) / total


def common_pace(services: Iterable[Service], params: Params) -> TokenTimes:
    """(time between two tokens of an answer alone, what each other request adds), by the answers of all of them."""
    sums = tuple(map(sum, zip(*(service.sums for service in services), strict=True)))
    prior = (params.itl_prior_s, params.itl_busy_prior_s)
    return fitted_pace(sums, prior, params) if sums else prior


def fitted_pace(sums: Sums, prior: TokenTimes, params: Params) -> TokenTimes:
    """Least squares over ``sums``, held to ``prior``; what ``solve_bounded`` finds, written out for two unknowns."""
    n, sr, srr, sy, sry = sums
    weight = params.itl_prior_samples
    weight_r = weight * params.itl_prior_spread_requests**2
    n, srr, sy, sry = n + weight, srr + weight_r, sy + weight * prior[0], sry + weight_r * prior[1]
    busy_s = (n * sry - sr * sy) / (n * srr - sr * sr)
    bounded_s = min(max(busy_s, 0.0), params.itl_busy_max_s)
    itl_s = (sy - sr * bounded_s) / n
    if 0.0 <= itl_s <= params.itl_max_s:
        return itl_s, bounded_s
    itl_s = min(max(itl_s, 0.0), params.itl_max_s)
    if bounded_s == busy_s:
        bounded_s = min(max((sry - sr * itl_s) / srr, 0.0), params.itl_busy_max_s)
    return itl_s, bounded_s
