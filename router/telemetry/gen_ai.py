"""The metrics of OpenTelemetry's conventions for generative AI, beside ours: the same requests under the names that
other model servers and gateways have.

https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-metrics.md
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from router.telemetry.kinds import RequestKind
from router.telemetry.labels import OTHER
from router.telemetry.operations import operation_of

if TYPE_CHECKING:
    from router.telemetry.counters import Histogram

#: Buckets of the conventions: of whole answers, first tokens, the time of one token, and tokens.
WHOLE_S = tuple(0.01 * 2**n for n in range(14))
FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(float(4**n) for n in range(14))
#: Who the conventions take for the provider: the router stands for its engines.
PROVIDER = "meridian"
TOKEN_TYPES = ("input", "output")
_CELLS_MAX = 5000
_duration_s, _prompt_tokens, _output_tokens = map(attrgetter, ("duration_s", "prompt_tokens", "output_tokens"))


@dataclass(slots=True)
class _Cell:
    """The histograms of one kind of request."""

    duration: Histogram
    ttft: Histogram
    per_token: Histogram
    input: Histogram
    output: Histogram


class GenAi:
    """``histogram`` makes or finds a histogram, by its name and labels."""

    def __init__(self, histogram: Callable[[str, tuple[str, ...]], Histogram]) -> None:
        self._histogram = histogram
        self._cells: dict[tuple[str, str, str, str], _Cell] = {}

    def fold(self, kind: RequestKind, asked: str, served: str, itls_s: list[float]) -> Histogram | None:
        """Count finished requests of one kind; ``asked`` and ``served`` are labels of models. Returns the histogram of
        their first tokens, if they have any. Requests that could not even be read have no model, and are left out."""
        if not asked:
            return None
        ok = kind.cause == "ok"
        key = (operation_of(kind.path), asked, served, "" if ok else kind.error or kind.cause)
        cell = self._cells.get(key) or self._new(key)
        cell.duration.note(list(map(_duration_s, kind.records)))
        if not ok:
            return None
        cell.input.note(list(map(_prompt_tokens, kind.records)))
        cell.output.note(list(map(_output_tokens, kind.records)))
        cell.per_token.note(itls_s)
        cell.ttft.note(kind.ttfts_s)
        return cell.ttft

    def _new(self, key: tuple[str, str, str, str]) -> _Cell:
        if len(self._cells) >= _CELLS_MAX:
            key = (key[0], OTHER, OTHER, key[3])
            if (cell := self._cells.get(key)) is not None:
                return cell
        operation, asked, served, error = key
        what, find = (operation, PROVIDER, asked, served), self._histogram
        cell = self._cells[key] = _Cell(
            find("gen_ai_server_request_duration_seconds", (*what, error)),
            find("gen_ai_server_time_to_first_token_seconds", what),
            find("gen_ai_server_time_per_output_token_seconds", what),
            *(find("gen_ai_client_token_usage", (*what, kind)) for kind in TOKEN_TYPES),
        )
        return cell
