"""regions.toml as it should be: what is loaded, shown, compared and described."""

from __future__ import annotations

import json
import tomllib
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import (
    EXAMPLE,
    Config,
    diff,
    dump,
    is_loopback,
    json_schema,
    load,
    parse,
    secret,
    split_address,
    warnings,
)
from router.config.places import line_of, locate
from router.config.present import AT_START_ONLY
from router.config.reference import reference
from router.config.sources import SOURCE_KEYS
from router.core.prices import Price
from router.core.types import BackendSpec, RegionSpec
from router.errors import ConfigError

FULL = """
[router]
name    = "edge-us-1"
region  = "us-east"
listen  = "0.0.0.0:8080"
admin   = "[::1]:9090"
workers = 4
policy  = "prefix"
policy_header = true
chaos = true

[store]
redis   = "redis://:hunter2@127.0.0.1:6379/0"
on_down = "deny"

[auth]
mode = "open"
allow_open = true
admin_token_env = "ADMIN"

[plans.default]
requests_per_minute = 600
tokens_per_minute   = 200_000
concurrent          = 64
budget_usd_month    = 500.0
priority            = "interactive"
residency           = ["us"]

[models.chat]
targets   = [{ model = "llama-3.1-8b", weight = 95 }, { model = "llama-3.1-8b-fp8", weight = 5 }]
fallbacks = ["llama-3.2-3b"]
price_usd_per_mtok = { input = 0.05, output = 0.15 }

[tenants."Acme Corp"]
output_tokens_per_minute = 5000

[all]
budget_usd_day = 12.5

[prices]
default = [{ input = 1, output = 2 }, { from = "2026-12-01", input = 3, output = 4 }]

[timeouts]
connect = 2
drain = 0

[[regions]]
name = "us-east"
location = [38.9, -77]
jurisdiction = "us"
  [[regions.backends]]
  name   = "a"
  url    = "http://10.0.0.11:8000/"
  engine = "vllm"
  models = ["llama-3.1-8b", "meta-llama/Llama-3.2-3B"]
  max_inflight = 128
  cost_usd_hour = 2.5
  key_env = "US_EAST_A_KEY"
"""
ENV = {"ADMIN": "a-long-enough-token", "US_EAST_A_KEY": " backend-key\n"}


def full() -> Config:
    return parse(FULL, "regions.toml", env=ENV)


def test_every_value_arrives() -> None:
    config = full()
    region = RegionSpec("us-east", jurisdiction="us", location=(38.9, -77.0))
    assert config.backends == (
        BackendSpec(
            "us-east/a",
            region,
            "http://10.0.0.11:8000",
            engine="vllm",
            models=("llama-3.1-8b", "meta-llama/Llama-3.2-3B"),
            max_inflight=128,
            cost_usd_hour=2.5,
            key_env="US_EAST_A_KEY",
        ),
    )
    assert (config.router.name, config.router.workers, config.router.policy) == ("edge-us-1", 4, "prefix")
    assert config.router.policy_header is True
    assert config.router.chaos is True
    assert config.plans["default"].tokens_per_minute == 200_000
    assert config.plans["default"].residency == ("us",)
    chat = config.models["chat"]
    assert [(t.model, t.weight) for t in chat.targets] == [("llama-3.1-8b", 95.0), ("llama-3.1-8b-fp8", 5.0)]
    assert chat.prices == (Price(0.05, 0.15),)
    assert config.prices.default == (Price(1, 2), Price(3, 4, 20_788))
    assert config.tenants["Acme Corp"].output_tokens_per_minute == 5000
    assert config.all.budget_usd_day == 12.5
    assert (config.timeouts.connect, config.timeouts.drain, config.timeouts.first_token) == (2.0, 0.0, 60.0)


def test_an_empty_file_is_all_defaults() -> None:
    config = parse("", "regions.toml", env={})
    for field in fields(Config):
        if field.name not in ("source", "router"):
            assert getattr(config, field.name) == getattr(Config(), field.name), field.name
    assert config.router.name, "the host's name"
    assert warnings(config) == ["no backends: every request will be answered 404 or 503"]


def test_the_plan_default_is_always_there() -> None:
    assert set(parse("[plans.gold]\nconcurrent = 1\n", "x", env={}).plans) == {"default", "gold"}


def test_the_example_is_good_without_any_environment() -> None:
    config = parse(EXAMPLE, "regions.toml", env={})
    assert [b.name for b in config.backends] == ["us-east/a", "eu-west/a"]
    assert warnings(config) == []


def test_the_commented_lines_of_the_example_are_good_too() -> None:
    lines = []
    for line in EXAMPLE.splitlines():
        head, mark, rest = line.partition("# ")
        lines.append(head + rest if mark and not head.strip() and ("=" in rest or rest.startswith("[")) else line)
    env = {"ROUTER_ADMIN_TOKEN": "x" * 20, "US_EAST_A_KEY": "k"}
    config = parse("\n".join(lines), "regions.toml", env=env)
    assert config.models["chat"].fallbacks == ("llama-3.2-3b",)
    assert config.backends[0].key_env == "US_EAST_A_KEY"


def test_dump_holds_everything_but_secrets_and_loads_again() -> None:
    config = full()
    document = dump(config)
    assert "hunter2" not in json.dumps(document)
    assert document["store"]["redis"] == "redis://:***@127.0.0.1:6379/0"
    assert document["regions"][0]["backends"][0]["key_env"] == "US_EAST_A_KEY"
    again = parse(_toml(document), "regions.toml", env=ENV)
    assert dump(again) == document
    assert again.backends == config.backends


def test_the_password_of_the_store_is_in_no_text() -> None:
    config = full()
    assert config.store.redis == "redis://:hunter2@127.0.0.1:6379/0"
    other = parse(FULL.replace("hunter2", "hunter3"), "x", env=ENV)
    for text in (repr(config), str(config), *diff(config, other), *warnings(config)):
        assert "hunter" not in text
    assert diff(config, other) == ["store.redis: other credentials (takes effect at the next start)"]


def test_the_store_may_come_from_the_environment() -> None:
    config = parse('[store]\nredis = "env:REDIS_URL"', "x", env={"REDIS_URL": " rediss://u:p@h:1/2\n"})
    assert config.store.redis == "rediss://u:p@h:1/2"


@pytest.mark.parametrize(
    "url",
    ["embedded", "redis://h", "rediss://h:6380/1", "redis+sentinel://a:1,b:2/main", "redis+cluster://a:1,b:2"],
)
def test_every_kind_of_store_is_accepted(url: str) -> None:
    assert parse(f'[store]\nredis = "{url}"', "x", env={}).store.redis == url


def test_diff_names_what_changes_and_what_has_to_wait() -> None:
    old = full()
    text = FULL.replace('policy  = "prefix"', 'policy  = "ttft"').replace('"0.0.0.0:8080"', '"0.0.0.0:8081"')
    text = text.replace("max_inflight = 128", "max_inflight = 64").replace("[plans.default]", "[plans.gold]")
    text += '[[regions]]\nname = "eu-west"\n'
    assert diff(old, parse(text, "regions.toml", env=ENV)) == [
        'router.listen: "0.0.0.0:8080" -> "0.0.0.0:8081" (takes effect at the next start)',
        'router.policy: "prefix" -> "ttft"',
        "plans.default.requests_per_minute: 600 -> not set",
        "plans.default.tokens_per_minute: 200000 -> not set",
        "plans.default.concurrent: 64 -> not set",
        "plans.default.budget_usd_month: 500.0 -> not set",
        'plans.default.priority: "interactive" -> "standard"',
        'plans.default.residency: ["us"] -> []',
        "plans.gold: added",
        "regions.us-east.backends.a.max_inflight: 128 -> 64",
        "regions.eu-west: added, 0 backends",
    ]
    assert diff(old, full()) == []


def test_moving_regions_around_changes_nothing() -> None:
    a, b = '[[regions]]\nname = "a"\n', '[[regions]]\nname = "b"\n'
    assert diff(parse(a + b, "x", env={}), parse(b + a, "x", env={})) == []


def test_warnings_name_what_is_probably_not_meant() -> None:
    text = """
[plans.default]
residency = ["us", "uk"]
budget_usd_month = 1.0
[models.chat]
targets = [{ model = "lama-3" }]
fallbacks = ["nothing"]
[[regions]]
name = "a"
jurisdiction = "us"
backends = [
  { name = "x", url = "http://h", models = ["llama-3"] },
  { name = "y", url = "http://h", models = ["llama-3"] },
]
"""
    found = "\n".join(warnings(parse(text, "x", env={})))
    for part in ('jurisdiction "uk"', 'serves "lama-3", did you mean "llama-3"?', 'serves "nothing"'):
        assert part in found
    for part in ("a/y has the same url as a/x", "budget_usd_month"):
        assert part in found


def test_every_origin_in_open_mode_is_warned_of() -> None:
    for origins, mode, count in (('["*"]', "open", 1), ('["*"]', "keys", 0), ('["https://a.example"]', "open", 0)):
        found = warnings(parse(f'[auth]\nmode = "{mode}"\n[cors]\norigins = {origins}', "x", env={}))
        assert len([w for w in found if "every web page" in w]) == count


def test_a_short_admin_token_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[auth]\nadmin_token_env = 'T'\n[[regions]]\nname = 'a'\nbackends = [{name = 'x', url = 'http://h'}]"
    for token, count in (("short", 1), ("long-enough-to-be-one", 0)):
        monkeypatch.setenv("T", token)
        found = warnings(parse(text, "x"))
        assert len([w for w in found if "fewer than 16" in w]) == count
        assert not [w for w in found if token in w]


def test_a_secret_is_read_without_white_space() -> None:
    assert secret("US_EAST_A_KEY", ENV) == "backend-key"
    assert secret("MISSING", ENV) is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    cases = {"missing.toml": None, "latin.toml": b'[router]\nname = "caf\xe9"\n', "dir.toml": "dir"}
    for name, content in cases.items():
        path = tmp_path / name
        if content == "dir":
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert caught.value.problems[0].startswith(str(path))
    assert ":2: is not UTF-8" in str(_problem(tmp_path / "latin.toml"))


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "regions.toml"
    path.write_bytes(b'\xef\xbb\xbf[router]\r\nname = "x"\r\nworkers = 0\r\n')
    assert f"{path}:3: " in str(_problem(path))
    path.write_bytes(b'\xef\xbb\xbfregions = []\r\n[router]\r\nname = "x"\r\n')
    assert load(path).router.name == "x"


def test_redis() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("localhost:0") == ("localhost", 0)
    assert [is_loopback(h) for h in ("127.0.0.9", "::1", "localhost", "0.0.0.0", "10.0.0.1", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_schema_knows_every_key_and_no_other() -> None:
    properties = json_schema()["properties"]
    document = dump(full())
    assert set(properties) == set(document)
    for name, table in document.items():
        if name in ("plans", "tenants", "models"):
            (inner,) = properties[name]["patternProperties"].values()
            allowed = set(inner["properties"])
            assert all(set(entry) == allowed for entry in table.values())
        elif name == "regions":
            item = properties["regions"]["items"]["properties"]
            assert set(table[0]) == set(item)
            assert set(table[0]["backends"][0]) == set(item["backends"]["items"]["properties"])
        elif name == "sources":  # each has the keys of its kind: test_config_sources.py
            assert set(properties[name]["items"]["properties"]) == {key.name for key in SOURCE_KEYS}
        else:
            assert set(table) == set(properties[name]["properties"])
    assert properties["router"]["properties"]["workers"]["default"] == 1
    assert "ttft" in properties["router"]["properties"]["policy"]["enum"]
    assert properties["regions"]["items"]["properties"]["backends"]["items"]["required"] == ["name", "url"]


def test_the_document_is_the_table() -> None:
    document = (Path(__file__).parent.parent.parent / "docs" / "config.md").read_text()
    assert reference() in document
    for name in AT_START_ONLY:
        assert name.partition(".")[2] in document or name.partition(".")[0] in document


# -- places -------------------------------------------------------------------------------------------------------


def test_places_of_every_construct_of_toml() -> None:
    text = '''# comment = 1
top = """
not.a.key = 1
"""
[a."b c".d] # comment [x]
k.l = [ # ]
  1, "]", [2,
  3],
]
'q' = { x = 1, y = { z = "}" } }
[[a.list]]
n = \'\'\'
[no]\'\'\'
[[a.list]]
[a.list.sub]
m = 1979-05-27 07:32:00
[[a.list.inner]]
o = """a\\"""b"""
p = 1
'''
    tomllib.loads(text)
    places = locate(text)
    expected = {
        ("top",): 2,
        ("a", "b c", "d", "k", "l"): 6,
        ("a", "b c", "d", "k", "l", 2): 7,
        ("a", "b c", "d", "k", "l", 2, 1): 8,
        ("a", "b c", "d", "q", "y", "z"): 10,
        ("a", "list", 0, "n"): 12,
        ("a", "list", 1): 14,
        ("a", "list", 1, "sub", "m"): 16,
        ("a", "list", 1, "inner", 0, "p"): 19,
    }
    assert {path: places.get(path) for path in expected} == expected
    assert line_of(places, ("a", "list", 1, "sub", "missing")) == 15
    assert line_of(places, ("nowhere",)) is None


_KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=5)
_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
_VALUES = st.recursive(
    st.one_of(st.integers(-(2**60), 2**60), st.booleans(), _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_every_path_of_any_document_has_its_line(document: dict[str, Any]) -> None:
    text = "".join(f"\n{_key(name)} = {_value(value)}\n" for name, value in document.items())
    assert tomllib.loads(text) == document
    places = locate(text)
    for number, (name, value) in enumerate(document.items()):
        for path in _paths((name,), value):
            assert places[path] == 2 * number + 2


@given(st.text(max_size=200))
def test_no_text_gets_past_parse_but_as_a_config_or_a_config_error(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(parse(text, "x", env={}), Config)


@given(st.text(st.sampled_from("[]{}\"'=.,#\\\n ab01"), max_size=60))
def test_no_toml_gets_past_parse_but_as_a_config_or_a_config_error(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(parse(text, "x", env={}), Config)


def _paths(path: tuple[str | int, ...], value: Any) -> list[tuple[str | int, ...]]:
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, list):
        children = list(enumerate(value))
    elif isinstance(value, dict):
        children = list(value.items())
    return [path] + [p for name, child in children for p in _paths((*path, name), child)]


def _problem(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value


def _key(name: str) -> str:
    return _value(name)


def _value(value: Any) -> str:
    """TOML of a value, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return (
            '"'
            + "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
            + '"'
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _toml(document: dict[str, Any]) -> str:
    """The dump as a file again; what is null was not set."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if v is not None}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return "".join(f"{_key(name)} = {_value(strip(value))}\n" for name, value in document.items())
