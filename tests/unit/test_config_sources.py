"""[[sources]] of regions.toml (router.config.sources): every problem with its place, and back to the same text."""

from __future__ import annotations

import pytest
import tomlkit

from router.config import Config, Source, dump, parse
from router.config.jsonschema import json_schema
from router.errors import ConfigError

HEAD = """
[[regions]]
name = "us-east"
jurisdiction = "us"
probation = "burn-in"
tls_ca = "region.pem"
"""
DNS = {"name": '"gpus"', "kind": '"dns"', "region": '"us-east"', "host": '"vllm.internal:8000"'}
PODS = {"name": '"pods"', "kind": '"kubernetes"', "region": '"us-east"', "selector": '"app=vllm"'}


def text(*tables: dict[str, str]) -> str:
    return HEAD + "".join("[[sources]]\n" + "".join(f"{k} = {v}\n" for k, v in t.items()) for t in tables)


def read(*tables: dict[str, str]) -> Config:
    return parse(text(*tables), "regions.toml", secrets=False, whole=True)


def problems(*tables: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(*tables)
    return [problem.partition(": ")[2] for problem in refused.value.problems]


def test_a_source_says_what_its_backends_are_like_and_the_region_the_rest() -> None:
    (source,) = read(
        DNS | {"engine": '"vllm"', "models": '["m"]', "prefix": '"v-"', "notice_url": '"http://{host}:9/n"'}
    ).sources
    spec = source.backend("x", "fd00::7", 8000)
    assert (spec.name, spec.url, spec.engine, spec.models) == ("us-east/v-x", "http://[fd00::7]:8000", "vllm", ("m",))
    assert (spec.region.jurisdiction, spec.probation, spec.tls_ca) == ("us", "burn-in", "region.pem")
    assert spec.notice_url == "http://[fd00::7]:9/n"


def test_a_port_is_a_number_or_a_name() -> None:
    assert [s.port for s in read(PODS | {"port": "8000"}, PODS | {"name": '"b"', "port": '"http"'}).sources] == [
        "8000",
        "http",
    ]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            DNS | {"region": '"us-eats"'},
            '[[sources]] "gpus": region: "us-eats" is none of [[regions]]; did you mean "us-east"?',
        ),
        (DNS | {"selector": '"a=b"'}, '[[sources]] "gpus": selector: is a key of kind = "kubernetes"'),
        (PODS | {"refresh": "5"}, '[[sources]] "pods": refresh: is a key of kind = "dns"'),
        (DNS | {"name": '"file"'}, '[[sources]] "file": name: is the name of a source that is always there'),
        (
            DNS | {"kind": '"consul"'},
            '[[sources]] "gpus": kind: must be one of "dns", "srv", "kubernetes", not "consul"',
        ),
        (DNS | {"host": '"vllm.internal"'}, '[[sources]] "gpus": host: must be HOST:PORT, e.g. "127.0.0.1:8080"'),
        (
            DNS | {"host": '"10.0.0.1:80"'},
            '[[sources]] "gpus": host: is an address, not a name: make it a backend of its region',
        ),
        (DNS | {"host": '"a.b:0"'}, '[[sources]] "gpus": host: port 0 is none'),
        (
            {k: v for k, v in PODS.items() if k != "selector"},
            '[[sources]] "pods": selector is missing: the labels of the Service whose pods are the backends',
        ),
        ({k: v for k, v in DNS.items() if k != "host"}, '[[sources]] "gpus": host is missing'),
        (PODS | {"api": '"10.0.0.1"'}, '[[sources]] "pods": api: must be an http:// or https:// address'),
        (PODS | {"port": "70000"}, '[[sources]] "pods": port: must be a number from 1 to 65535, or a name'),
        (DNS | {"hosts": '"x"'}, '[[sources]] "gpus": hosts: unknown key; did you mean "host"?'),
        (DNS | {"notice_url": '"{host}:80"'}, '[[sources]] "gpus": notice_url: must be an http:// or https:// address'),
    ],
)
def test_problems_have_their_place(table: dict[str, str], expected: str) -> None:
    assert problems(table)[0].startswith(expected.partition(";")[0])


def test_a_name_is_given_once() -> None:
    assert problems(DNS, DNS) == ['[[sources]] "gpus": name: another source has this name']


def test_a_file_with_sources_alone_is_whole_and_one_without_is_not() -> None:
    assert read(DNS).backends == ()
    with pytest.raises(ConfigError):
        parse(HEAD, "regions.toml", secrets=False, whole=True)


def test_what_is_shown_can_be_read_again() -> None:
    config = read(DNS | {"grace": "0", "leaves_in": "5.5"}, PODS | {"nodes": "true"})
    document = dump(config)

    def known(value: object) -> object:
        if isinstance(value, dict):
            return {k: known(v) for k, v in value.items() if v is not None}
        return [known(v) for v in value] if isinstance(value, list) else value

    again = parse(tomlkit.dumps(known(document)), "regions.toml", secrets=False)  # type: ignore[arg-type]
    assert again.sources == config.sources


def test_editors_know_the_tables() -> None:
    table = json_schema()["properties"]["sources"]["items"]
    assert table["required"] == ["name", "kind", "region"]
    assert table["properties"]["port"]["type"] == ["string", "integer"]
    assert table["properties"]["grace"]["default"] == Source("x", "dns", read(DNS).regions[0].spec).grace


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app in vllm", "unable to parse"),
        ("app=a=b", "unable to parse"),
        ("app in (vllm", "unable to parse"),
        (" , ", "selects every pod"),
    ],
)
def test_a_selector_that_kubernetes_would_refuse_or_that_selects_everything(selector: str, expected: str) -> None:
    (problem,) = problems(PODS | {"selector": f'"{selector}"'})
    assert expected in problem
    assert "selector" in problem
