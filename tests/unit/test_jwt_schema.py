"""[jwt] in the file: what it may say, and what it may never."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from router.config import Config, PlanOfClaim, diff, dump, parse, warnings
from router.config.jwt_schema import jwks_problem
from router.errors import ConfigError

GOOD = """[jwt]
jwks = "https://issuer.test/jwks.json"
issuer = "https://issuer.test"
audience = ["meridian"]
"""


def read(text: str, *, secrets: bool = False) -> Config:
    return parse(f"[plans.gold]\n{text}", "regions.toml", env={}, secrets=secrets)


def problems(text: str, *, secrets: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, secrets=secrets)
    return "\n".join(caught.value.problems)


def test_what_is_left_out_is_strict() -> None:
    section = read(GOOD).jwt
    assert section.algorithms == ("RS256", "ES256", "EdDSA")
    assert (section.leeway, section.tenant_claim, section.plan_claim, section.default_plan) == (
        30,
        "sub",
        None,
        "default",
    )
    assert read("").jwt.jwks is None


def test_a_map_of_plans_is_read_shown_and_compared() -> None:
    rows = '[{value = "admins", plan = "gold"}, {value = "all", plan = "default"}]'
    config = read(f'{GOOD}plan_claim = "groups"\nplan_map = {rows}\n')
    assert config.jwt.plan_map == (PlanOfClaim("admins", "gold"), PlanOfClaim("all", "default"))
    assert dump(config)["jwt"]["plan_map"][0] == {"value": "admins", "plan": "gold"}
    (line,) = [line for line in diff(read(f'{GOOD}plan_claim = "groups"\n'), config) if "plan_map" in line]
    assert '"gold"' in line


@pytest.mark.parametrize("name", ["HS256", "HS512", "none", "None", "ES256K", "rs256", ""])
def test_only_algorithms_with_public_keys_can_be_named(name: str) -> None:
    said = problems(f'{GOOD}algorithms = ["RS256", "{name}"]')
    assert "is not one of RS256" in said
    assert ("can make one" in said) == (name[:2] == "HS" or name.lower() == "none")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[jwt]\njwks = "https://issuer.test"', "needs issuer beside it"),
        ('[jwt]\njwks = "https://issuer.test"', "needs audience beside it"),
        (GOOD.replace('["meridian"]', "[]"), "needs audience beside it"),
        (f"{GOOD}algorithms = []", "needs algorithms beside it"),
        (GOOD.replace('"https://issuer.test"', '""'), "must be 1 to 500 printable characters"),
        (f'{GOOD}default_plan = "golf"', 'there is no plan "golf", did you mean "gold"?'),
        (
            f'{GOOD}plan_claim = "p"\nplan_map = [{{value = "x", plan = "none"}}]',
            "[jwt] plan_map #1: plan: there is no plan",
        ),
        (f'{GOOD}plan_map = [{{value = "x", plan = "gold"}}]', "needs plan_claim beside it"),
        (f'{GOOD}plan_claim = "p"\nplan_map = [{{value = "x"}}]', "plan is missing"),
        (f'{GOOD}plan_claim = "p"\nplan_map = ["x"]', "must be a list of tables"),
        (f"{GOOD}leeway = 3600", "must be at most 600"),
        (f'{GOOD}audiense = "x"', 'did you mean "audience"?'),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    assert said in problems(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://issuer.test/keys?v=1", True),
        ("http://127.0.0.1:8080/jwks", True),
        ("/etc/meridian/jwks.json", True),
        ("jwks.json", True),
        ("ftp://issuer.test/", False),
        ("file:///etc/jwks.json", False),
        ("https://user:secret@issuer.test/", False),
        ("https://", False),
        ("https://issuer.test:99999/", False),
        ("https://issuer.test:0/", False),
        ("https://issuer.test/a b", False),
        ("", False),
    ],
)
def test_where_keys_may_be(text: str, good: bool) -> None:
    assert (jwks_problem(text) is None) == good


def test_a_way_that_others_can_listen_on_is_warned_of() -> None:
    plain = GOOD.replace("https://issuer.test/jwks.json", "http://issuer.test/jwks.json")
    assert any("over http://" in line for line in warnings(read(plain)))
    assert not any("over http://" in line for line in warnings(read(GOOD)))
    assert not any("over http://" in line for line in warnings(read(plain.replace("//issuer.test/j", "//127.0.0.1/j"))))


def test_a_file_that_is_not_there_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    text = GOOD.replace("https://issuer.test/jwks.json", str(path))
    assert any(f"{path} cannot be read" in line for line in warnings(read(text)))
    path.write_text("{}")
    assert not any("cannot be read" in line for line in warnings(read(text)))


def test_the_extra_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.config.checks.find_spec", lambda name: None if name == "jwt" else find_spec(name))
    assert "pip install 'meridian-router[jwt]'" in problems(GOOD, secrets=True)
    read(GOOD)
