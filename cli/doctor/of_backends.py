"""The engines of the file: whether each answers, is what the file says, and what its clock shows."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping

from cli import asking
from cli.doctor.symptoms import FAIL, WARN, Symptom, clock, good
from router.config import Config
from router.core.traits import TRAITS
from router.core.types import BackendSpec
from router.observe.survey import UNTOLD, Surveyed

_AREA = "backends"


def look(config: Config, env: Mapping[str, str]) -> list[Symptom]:
    symptoms: list[Symptom] = []
    if config.backends:
        now_s = time.time()
        for spec, found in zip(config.backends, asking.survey(config.backends, env), strict=True):
            symptoms += _lines(spec, found, now_s)
    for source in config.sources:
        text = f"its backends are known to a running router: `router regions sources {source.name}`"
        symptoms.append(good(_AREA, source.name, text))
    return symptoms


def _lines(spec: BackendSpec, found: Surveyed, now_s: float) -> Iterator[Symptom]:
    if found.problem is not None:
        advice = f"Is the engine up, and {asking.host_of(spec.url)} its address? `router regions probe {spec.name}`"
        yield Symptom(_AREA, spec.name, FAIL, found.problem, advice)
        return
    yield good(_AREA, spec.name, asking.words(found))
    if found.engine not in (UNTOLD, spec.engine):
        text = f"it is {found.engine}, and the file says {spec.engine}"
        yield Symptom(_AREA, spec.name, WARN, text, f"router regions set {spec.name} engine={found.engine}")
    if missing := [model for model in spec.models if model not in found.models]:
        advice = f"router regions set {spec.name} models={','.join(found.models)}"
        yield Symptom(_AREA, spec.name, FAIL, f"it does not serve {', '.join(missing)}", advice)
    if found.engine == spec.engine and TRAITS[spec.engine].load is not None and not found.tells_load:
        text = "it does not tell its load: only what this router sends there is counted"
        yield Symptom(_AREA, spec.name, WARN, text, "Start the engine with its metrics on.")
    if (skew_s := _skew_s(found.date, now_s)) is not None and abs(skew_s) >= _SKEW_S:
        advice = "Set its clock (NTP): its log and its metrics have other times than the router's."
        yield clock(spec.name, skew_s, warn_s=_SKEW_S, fail_s=3600.0, advice=advice)


#: HTTP writes whole seconds, and the answers took some time.
_SKEW_S = 2 * asking.TIMEOUT_S


def _skew_s(date: str, now_s: float) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - now_s
    except (TypeError, ValueError):
        return None
