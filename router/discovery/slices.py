"""Reads EndpointSlices, Services and nodes of a cluster as sightings of backends. Pure.

Each address that is ready is a backend, under the name of its pod. One that terminates goes away in the source's
``leaves_in``; so does one whose node has a taint that announces its end. Annotations of the slice, else of its Service,
say what runs there:

    meridian/engine          one of the engines
    meridian/model           the model, or several with commas between them
    meridian/cost-usd-hour   US dollars per hour
    meridian/max-inflight    most requests in flight there
    meridian/leaves-in       seconds that a pod has from the word that it ends

and ``meridian/leaves-at`` of a node when it goes away: Unix seconds or RFC 3339.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from router.config import Source
from router.config.names import NAME, model_problem
from router.core.roll import Leaves, Sighting
from router.core.traits import ENGINES
from router.discovery.spot_words import wall_of

PREFIX = "meridian/"
#: Taints that announce the end of a node.
ENDING = frozenset(
    {
        "meridian/leaving",
        "aws-node-termination-handler/spot-itn",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/asg-lifecycle-termination",
        "cloud.google.com/impending-node-termination",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "node.kubernetes.io/out-of-service",
        "ToBeDeletedByClusterAutoscaler",
    }
)
_OF_SERVICE = "kubernetes.io/service-name"
_NAME_MAX = 63
_TEXT_MAX = 100


class Node(NamedTuple):
    """A node: why it goes away, if it does, and when (wall clock), if that is known."""

    ending: str | None
    leaves_at_s: float | None


class Told(NamedTuple):
    """``remarks``: what is wrong with some of it."""

    sightings: list[Sighting]
    remarks: list[str]


def node_of(thing: Mapping[str, Any]) -> Node:
    taints = (thing.get("spec") or {}).get("taints") or ()
    keys = [str(taint.get("key")) for taint in taints if isinstance(taint, dict)]
    ending = next((f"the taint {key} of its node" for key in keys if key in ENDING), None)
    at = _annotations(thing).get("leaves-at")
    leaves_at_s = None if at is None else wall_of(at)
    if leaves_at_s is not None:
        ending = ending or "an annotation of its node"
    return Node(ending, leaves_at_s)


def annotations_of(thing: Mapping[str, Any]) -> dict[str, str]:
    """The part of a Service that is kept."""
    return _annotations(thing)


def read_slices(
    source: Source,
    slices: Iterable[Mapping[str, Any]],
    services: Mapping[str, Mapping[str, str]],
    nodes: Mapping[str, Node],
    *,
    now_s: float,
    wall_s: float,
) -> Told:
    """``services`` and ``nodes`` by namespace and name, as the API names them; nodes have no namespace."""
    told = Told([], [])
    for slice_ in sorted(slices, key=_order):
        head = slice_.get("metadata") or {}
        service = str((head.get("labels") or {}).get(_OF_SERVICE, ""))
        said = {**services.get(f"{head.get('namespace', '')}/{service}", {}), **_annotations(slice_)}
        label = f"the EndpointSlice {head.get('name', '')}"
        like, wrong = _like(source, said)
        told.remarks.extend(f"{label}: {text}" for text in wrong)
        entries, port = slice_.get("endpoints") or (), _port(source, slice_.get("ports") or ())
        if not entries:
            continue
        if port is None:
            told.remarks.append(f"{label} has no port {source.port}".rstrip())
            continue
        for entry in entries:
            address = next((str(a) for a in entry.get("addresses") or ()), None)
            if address is not None:
                seen = _Seen(entry, address, port, service, nodes.get(f"/{entry.get('nodeName') or ''}"))
                told.sightings.append(_sighting(like, seen, now_s, wall_s))
    return Told(told.sightings, sorted(set(told.remarks)))


class _Seen(NamedTuple):
    """One address of a slice."""

    entry: Mapping[str, Any]
    address: str
    port: int
    service: str
    node: Node | None


def _sighting(like: Source, seen: _Seen, now_s: float, wall_s: float) -> Sighting:
    entry, conditions = seen.entry, seen.entry.get("conditions") or {}
    pod = str((entry.get("targetRef") or {}).get("name") or "")
    short = _short(like.prefix, pod or f"{seen.address.replace(':', '-')}-{seen.port}")
    spec = like.backend(short, seen.address, seen.port)
    leaves = None
    if conditions.get("terminating") is True:
        leaves = Leaves(now_s + like.leaves_in, "its pod is terminating")
    node = seen.node
    if node is not None and node.ending is not None:
        in_s = like.leaves_in if node.leaves_at_s is None else node.leaves_at_s - wall_s
        if leaves is None or now_s + in_s < leaves.until_s:
            leaves = Leaves(now_s + in_s, node.ending)
    facts = {
        "pod": pod,
        "service": seen.service,
        "node": str(entry.get("nodeName") or ""),
        "zone": str(entry.get("zone") or ""),
    }
    known = tuple((name, value[:_TEXT_MAX]) for name, value in facts.items() if value)
    return Sighting(spec, ready=conditions.get("ready") is not False, leaves=leaves, facts=known)


def _short(prefix: str, text: str) -> str:
    """A name within the region. A long one keeps its end, by which pods differ."""
    kept = text[-(_NAME_MAX - len(prefix)) :]
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in kept)
    return kept if prefix or NAME.fullmatch(kept) else kept.lstrip("._-") or "a"


def _port(source: Source, ports: Iterable[Mapping[str, Any]]) -> int | None:
    named = [(str(p.get("name") or ""), p.get("port")) for p in ports if p.get("protocol", "TCP") == "TCP"]
    for name, number in named:
        if isinstance(number, int) and source.port in ("", name, str(number)):
            return number
    return int(source.port) if not named and source.port.isdigit() else None


def _order(slice_: Mapping[str, Any]) -> tuple[str, str, str]:
    """A pod with two addresses is in a slice of each family: the first one holds."""
    head = slice_.get("metadata") or {}
    return str(slice_.get("addressType", "")), str(head.get("namespace", "")), str(head.get("name", ""))


def _like(source: Source, said: Mapping[str, str]) -> tuple[Source, list[str]]:
    """The source as the annotations say it is, and what of them is wrong and left out."""
    changes: dict[str, Any] = {}
    wrong: list[str] = []
    if (engine := said.get("engine")) is not None:
        if engine in ENGINES:
            changes["engine"] = engine
        else:
            wrong.append(f"there is no engine {_shown(engine)}; there are {', '.join(ENGINES)}")
    if (text := said.get("model", said.get("models"))) is not None:
        models = tuple(dict.fromkeys(model.strip() for model in text.split(",") if model.strip()))
        if problem := next((p for model in models if (p := model_problem(model))), None):
            wrong.append(f"the model {_shown(text)} {problem}")
        else:
            changes["models"] = models
    for key, name, least, most in (
        ("cost-usd-hour", "cost_usd_hour", 0.0, 1e6),
        ("max-inflight", "max_inflight", 1.0, 1e6),
        ("leaves-in", "leaves_in", 0.0, 86_400.0),
    ):
        if (text := said.get(key)) is None:
            continue
        value = _number(text)
        if value is None or not least <= value <= most:
            wrong.append(f"{PREFIX}{key} must be a number from {least:g} to {most:g}, not {_shown(text)}")
        else:
            changes[name] = int(value) if name == "max_inflight" else value
    return replace(source, **changes), wrong


def _annotations(thing: Mapping[str, Any]) -> dict[str, str]:
    """Those that are for us, without their prefix."""
    given = (thing.get("metadata") or {}).get("annotations") or {}
    return {key.removeprefix(PREFIX): str(value) for key, value in given.items() if key.startswith(PREFIX)}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…")
