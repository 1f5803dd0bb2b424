"""What is forgotten, and how: means that follow the latest samples, rates and sums that fade with time.

Reading alters nothing, as in linkerd's PeakEwma: ``add`` takes a sample, reading returns what is known.

Where a sample is taken for every request the same arithmetic is written out, without a call (ADR 14):
``learn/first_token`` (sums, residual, error), ``learn/service`` (sums, means of answers and prompts, rates),
``learn/recent``, ``learn/backlog``, ``PrefixIndex.trust``. ``tokens`` follows a median, and ``policy/peak_ewma`` rises
at once: neither is an EWMA.
"""

from __future__ import annotations

from math import exp


def kept(passed_s: float, memory_s: float) -> float:
    """The part of what was known ``passed_s`` ago that still counts. A clock that stands still forgets nothing."""
    return exp(min(0.0, -passed_s) / memory_s)


def kept_samples(samples: float, passed_s: float, memory_s: float, samples_max: float) -> float:
    """The same for ``samples`` of which no more than ``samples_max`` may be left, so that new ones have a say."""
    keep = kept(passed_s, memory_s)
    return samples_max / samples if samples * keep > samples_max else keep


class Ewma:
    """A mean in which each sample weighs the same part, and those before it the less the more came after them."""

    __slots__ = ("_weight", "value")

    def __init__(self, weight: float, value: float | None = None) -> None:
        self._weight = weight
        #: None before the first sample
        self.value = value

    def add(self, sample: float) -> float:
        """Take ``sample`` into the mean. Returns the mean."""
        value = self.value
        self.value = value = sample if value is None else value + self._weight * (sample - value)
        return value

    def fade(self, keep: float) -> float:
        """Time has passed: ``keep`` of the mean is left. Returns it."""
        self.value = value = (self.value or 0.0) * keep
        return value


class Rate:
    """Events per second. An event counts fully when it happens, and the less the longer ago it was."""

    __slots__ = ("_at_s", "_memory_s", "_per_s")

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._per_s = 0.0
        self._at_s = float("-inf")

    def add(self, events: float, now_s: float) -> None:
        """``events`` happened."""
        self._per_s = self.value(now_s) + events / self._memory_s
        self._at_s = max(self._at_s, now_s)

    def value(self, now_s: float) -> float:
        """Events per second by ``now_s``."""
        return self._per_s * kept(now_s - self._at_s, self._memory_s)
