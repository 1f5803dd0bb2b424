"""Sources of backends: the keys of ``[[sources]]``, and their checks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from router.config.address import api_problem, listen_problem, notice_problem, split_address
from router.config.model import Config, Source
from router.config.names import file_problem, host_problem, name_problem, port_problem
from router.config.reader import Reader
from router.config.schema import BACKEND_KEYS, SHARED_KEYS
from router.config.selectors import SelectorError
from router.config.selectors import parse as parse_selector
from router.config.setting import Setting
from router.core.suggest import did_you_mean

SOURCES_DOC = (
    "Where backends are found that no table names: the addresses of a DNS name, or the pods of a Kubernetes Service. "
    "Each is one backend of the region. See [Backends that come and go](runbook.md#backends-that-come-and-go)."
)

_OF_BACKENDS = frozenset({"engine", "models", "max_inflight", "cost_usd_hour", "key_env"})

SOURCE_KEYS: tuple[Setting, ...] = (
    Setting("name", "string", "Name of the source.", problem=name_problem, required=True),
    Setting(
        "kind",
        "string",
        "`dns`: all addresses of a name; `srv`: all its SRV records; `kubernetes`: the EndpointSlices of a selector.",
        choices=("dns", "srv", "kubernetes"),
        required=True,
    ),
    Setting("region", "string", "Of its backends: one of `[[regions]]`.", problem=name_problem, required=True),
    Setting("host", "string", "dns: HOST:PORT. srv: the name, such as `_http._tcp.llm.internal`."),
    Setting(
        "nameserver",
        "string",
        "dns, srv: HOST:PORT of the server to ask. Default: those of /etc/resolv.conf.",
        problem=listen_problem,
    ),
    Setting(
        "refresh",
        "number",
        "dns, srv: seconds between two look-ups at most; a shorter time to live of the records holds.",
        low=1.0,
        high=3600.0,
    ),
    Setting("selector", "string", "kubernetes: labels of the EndpointSlices, which are those of their Service."),
    Setting("namespace", "string", "kubernetes: default its own.", problem=name_problem),
    Setting("port", "port", "kubernetes: name or number of the port. Default: the first one.", problem=port_problem),
    Setting("api", "string", "kubernetes: address of the API. Default: its own cluster's.", problem=api_problem),
    Setting("token_file", "string", "kubernetes: default the service account's; read again.", problem=file_problem),
    Setting("ca_file", "string", "kubernetes: authorities of the API. Default likewise.", problem=file_problem),
    Setting(
        "nodes",
        "boolean",
        "kubernetes: watch the nodes, too, for taints and annotations that announce the end of a machine.",
    ),
    Setting("scheme", "string", "How its backends are called.", choices=("http", "https")),
    Setting("prefix", "string", "Put before the names of its backends.", problem=name_problem),
    Setting(
        "grace",
        "number",
        "Seconds for which a source that suddenly names nobody who is ready is not believed.",
        low=0.0,
        high=86_400.0,
    ),
    Setting(
        "leaves_in",
        "number",
        "Seconds that a backend has from the word that it ends, or from when it is named no more. On Kubernetes: the "
        "pod's terminationGracePeriodSeconds.",
        low=0.0,
        high=86_400.0,
    ),
    *(key for key in BACKEND_KEYS if key.name in _OF_BACKENDS),
    Setting(
        "notice_url",
        "string",
        "As that of a backend; `{host}` stands for the backend's address.",
        problem=notice_problem,
    ),
    *SHARED_KEYS,
)

_NAMES = frozenset({"host", "nameserver", "refresh"})
_CLUSTER = frozenset({"selector", "namespace", "port", "api", "token_file", "ca_file", "nodes"})
#: The keys of each kind that the others do not have.
KEYS = {"dns": _NAMES, "srv": _NAMES, "kubernetes": _CLUSTER}
#: Sources that are always there: the file itself, and backends that register themselves.
_TAKEN = frozenset({"file", "registered"})
_SELECTOR = re.compile(r"[A-Za-z0-9._/=!,() -]{1,1000}")


def _selector_problem(text: str) -> str | None:
    """Also one that selects everything: then pods of others would get prompts."""
    try:
        parse_selector(text)
    except SelectorError as error:
        return f'must be a label selector such as "app=llm": {error}'
    return None if text.strip(" ,") else "selects every pod of the namespace: name the labels of the Service"


def foreign_keys(kind: str) -> frozenset[str]:
    """The keys that only sources of other kinds have."""
    return (_NAMES | _CLUSTER) - KEYS[kind]


def check_sources(reader: Reader, document: Mapping[str, Any], config: Config) -> None:
    """Note every problem of ``[[sources]]``."""
    tables = document.get("sources")
    if not isinstance(tables, list) or len(tables) != len(config.sources):
        return  # the reader has noted why
    regions = [region.spec.name for region in config.regions]
    seen: set[str] = set()
    for index, (source, table) in enumerate(zip(config.sources, tables, strict=True)):
        path = ("sources", index)
        if source.name in seen:
            reader.problem((*path, "name"), "another source has this name")
        if source.name in _TAKEN:
            reader.problem((*path, "name"), "is the name of a source that is always there")
        seen.add(source.name)
        if source.region.name not in regions:
            hint = did_you_mean(source.region.name, regions)
            reader.problem((*path, "region"), f'"{source.region.name}" is none of [[regions]]{hint}')
        for key in sorted(foreign_keys(source.kind)):
            if key in table:
                owner = next(kind for kind, keys in KEYS.items() if key in keys)
                reader.problem((*path, key), f'is a key of kind = "{owner}"')
        _check_kind(reader, path, source, table)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_kind(reader: Reader, path: tuple[str, int], source: Source, table: Mapping[str, Any]) -> None:
    if source.kind == "kubernetes":
        if "selector" not in table:
            reader.problem(path, "selector is missing: the labels of the Service whose pods are the backends")
        elif not _SELECTOR.fullmatch(source.selector):
            reader.problem((*path, "selector"), 'must be a label selector such as "app=llm"')
        elif (problem := _selector_problem(source.selector)) is not None:
            reader.problem((*path, "selector"), problem)
        return
    if "host" not in table:
        reader.problem(path, "host is missing")
        return
    host = source.host
    if source.kind == "dns":
        try:
            host, port = split_address(source.host)
        except ValueError as error:
            reader.problem((*path, "host"), str(error))
            return
        if port == 0:
            reader.problem((*path, "host"), "port 0 is none")
        if _is_address(host):
            reader.problem((*path, "host"), "is an address, not a name: make it a backend of its region")
            return
    if problem := host_problem(host.removesuffix(".")):
        reader.problem((*path, "host"), problem)
