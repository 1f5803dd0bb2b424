"""Asks one backend how far away it is, whether it is well, and which models it serves.

A probe says little about an engine (a 200 of ``/health`` comes from the front end also while the engine is dead); what
it says for certain is distance, and that nobody listens. Whether the engine makes progress, real requests tell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from router.complaint import Complaint
from router.core.fleet import Fleet
from router.core.traits import TRAITS
from router.core.types import BackendSpec
from router.observe.client import AskFailedError, EngineClient, Failure, ProbeAnswer

_log = logging.getLogger("router.observe")

MODELS_PATH = "/v1/models"
_MODELS_INTERVAL_S = 30.0
#: A backend that does not say which models it serves is asked again after this time, then after twice as long ...
_MODELS_AGAIN_S = 1.0
_MODELS_MAX = 1000
_MODEL_LENGTH_MAX = 200
_BODY_BYTES_MAX = 1024 * 1024
#: A refused connection is looked at again this soon, until the fleet's N of M has seen enough of it.
_REFUSED_AGAIN_S = 0.1
_REFUSED_TIMES = 3


@dataclass(slots=True)
class ProbeResult:
    """What one probe found."""

    ok: bool
    rtt_s: float | None = None
    status: int | None = None
    error: str | None = None
    failure: Failure | None = None


class Prober:
    """Probes one backend.

    ``refused`` is called when nobody listens at its address any more, ``answers`` with the models when it has come
    within reach or serves others than before.
    """

    def __init__(
        self,
        spec: BackendSpec,
        key: str | None,
        fleet: Fleet,
        client: EngineClient,
        *,
        timeout_s: float,
        now_s: Callable[[], float],
        refused: Callable[[str], None] | None = None,
        answers: Callable[[tuple[str, ...]], None] | None = None,
    ) -> None:
        self._spec = spec
        self._key = key
        self._fleet = fleet
        self._client = client
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._refused = refused
        self._answers = answers
        self._refused_in_row = 0
        self._models_due_s = float("-inf")
        self._models_again_s = _MODELS_AGAIN_S
        self._complaint = Complaint()
        self._models_complaint = Complaint()
        self.last: ProbeResult | None = None
        self.models: tuple[str, ...] = spec.models

    async def probe(self, *, ask_models: bool = False) -> ProbeResult:
        """Ask once and tell the fleet. ``ask_models``: ask for the models as well, whether due or not."""
        path = TRAITS[self._spec.engine].probe_path
        was_ok, knew = self.last is not None and self.last.ok, self.models
        answer: ProbeAnswer | None = None
        try:
            answer = await self._get(path)
            if answer.fresh:
                # Whatever stands in between may add its own handshake to the first answer.
                answer = await self._get(path)
            verdict = _verdict(answer)
        except AskFailedError as exc:
            verdict = ProbeResult(ok=False, error=str(exc), failure=exc.failure)
        self._tell(verdict)
        if verdict.ok and not self._spec.models and (ask_models or self._now_s() >= self._models_due_s):
            await self._ask_models(answer if path == MODELS_PATH else None)
        if verdict.ok and self._answers is not None and not (was_ok and self.models == knew):
            self._answers(self.models)
        return verdict

    def pause_s(self, interval_s: float) -> float:
        """How long to wait until the next probe: shorter while a refusal is being confirmed."""
        if 0 < self._refused_in_row < _REFUSED_TIMES:
            return min(interval_s, _REFUSED_AGAIN_S)
        return interval_s

    async def _get(self, path: str) -> ProbeAnswer:
        return await self._client.ask(
            self._spec, path, key=self._key, timeout_s=self._timeout_s, bytes_max=_BODY_BYTES_MAX
        )

    def _tell(self, verdict: ProbeResult) -> None:
        name, now_s = self._spec.name, self._now_s()
        was_ok = self.last is None or self.last.ok
        self.last = verdict
        if verdict.failure is not Failure.OWN:  # a shortage of ours says nothing about the backend
            self._fleet.observe_rtt(name, verdict.rtt_s, now_s)
            self._fleet.observe_health(name, verdict.ok, now_s)
        if verdict.ok:
            if not was_ok:
                self._models_due_s = float("-inf")
            if self._complaint.settled():
                _log.info("backend %s answers its probe again", name)
        elif self._complaint.worth_a_line(str(verdict.error), now_s):
            _log.warning("backend %s fails its probe: %s", name, verdict.error)
        if verdict.failure is not Failure.REFUSED:
            self._refused_in_row = 0
            return
        self._refused_in_row += 1
        if self._refused_in_row == _REFUSED_TIMES and self._refused is not None:
            self._refused(name)

    async def _ask_models(self, answer: ProbeAnswer | None) -> None:
        """Learn which models are served. When the backend does not say, what was known stays, and it is asked again
        ever more rarely."""
        models: tuple[str, ...] = ()
        try:
            if answer is None:
                answer = await self._get(MODELS_PATH)
            models = model_names(answer.body) if answer.status == 200 else ()
            why = f"lists no models (status {answer.status})"
        except AskFailedError as exc:
            why = f"does not list its models: {exc}"
        now_s = self._now_s()
        if not models:
            self._models_due_s = now_s + self._models_again_s
            self._models_again_s = min(2.0 * self._models_again_s, _MODELS_INTERVAL_S)
            if self._models_complaint.worth_a_line(why, now_s):
                _log.warning("backend %s %s", self._spec.name, why)
            return
        self._models_due_s, self._models_again_s = now_s + _MODELS_INTERVAL_S, _MODELS_AGAIN_S
        if self._models_complaint.settled():
            _log.info("backend %s lists its models: %s", self._spec.name, ", ".join(models[:20]))
        self.models = models
        self._fleet.observe_models(self._spec.name, models, now_s)


def model_names(body: bytes) -> tuple[str, ...]:
    """The ids of an OpenAI list of models, without what could be no model's name; empty when it is no such list."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ()
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return ()
    names = [entry.get("id") for entry in data[:_MODELS_MAX] if isinstance(entry, dict)]
    good = [n for n in names if isinstance(n, str) and 0 < len(n) <= _MODEL_LENGTH_MAX and n.isprintable()]
    return tuple(dict.fromkeys(good))


def _verdict(answer: ProbeAnswer) -> ProbeResult:
    """A front end that answers at all is alive; it is not well when it says so, or when it refuses our key."""
    status = answer.status
    error = None
    if status in (401, 403):
        error = f"status {status}: the backend refuses the key of key_env"
    elif 300 <= status < 400:
        error = f"status {status}: the url is redirected elsewhere"
    elif status >= 500:
        error = f"status {status}"
    return ProbeResult(ok=error is None, rtt_s=answer.rtt_s, status=status, error=error)
