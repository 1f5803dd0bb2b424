"""Bounds the values of labels: a model that neither a backend nor the configuration names is ``other``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

OTHER = "other"
_MODELS_MAX = 500


class Labels:
    """Knows the models that exist. An unknown one makes it ask ``models`` again, at most once a second."""

    def __init__(self, models: Callable[[], Iterable[str]], now_s: Callable[[], float]) -> None:
        self._models = models
        self._now_s = now_s
        #: names that are their own labels
        self.known: frozenset[str] = frozenset()
        self._asked_s = float("-inf")

    def model(self, name: str | None) -> str:
        """The label for a model's name; an empty string when the request named none."""
        if name is None:
            return ""
        if name in self.known:
            return name
        now_s = self._now_s()
        if now_s - self._asked_s >= 1.0:
            self._asked_s = now_s
            self.known = frozenset(sorted(self._models())[:_MODELS_MAX])
        return name if name in self.known else OTHER
