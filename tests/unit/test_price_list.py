"""The prices of a file, as the request path asks for them; and what check says about them."""

from __future__ import annotations

import pytest

from router.config import diff, dump, json_schema, parse, price_list, warnings
from router.core.prices import Price
from router.errors import ConfigError

FLEET = """
[[regions]]
name = "us"
[[regions.backends]]
name = "a"
url = "http://10.0.0.1"
models = ["llama", "small"]
"""
BUDGET = "[plans.default]\nbudget_usd_day = 1\n"
NOV, DEC = 1_795_996_800, 1_796_083_200  # 2026-11-30 and 2026-12-01


def prices_of(text: str, wall_s: float = NOV):  # type: ignore[no-untyped-def]
    return price_list(parse(text + FLEET, "f.toml", env={})).on(wall_s)


def test_a_price_may_change_at_a_date() -> None:
    text = """
[[models.llama.price_usd_per_mtok]]
input = 1
output = 2
[[models.llama.price_usd_per_mtok]]
from = "2026-12-01"
input = 3
output = 4
"""
    assert prices_of(text).of("llama", "llama", "us/a") == Price(1, 2)
    assert prices_of(text, DEC).of("llama", "llama", "us/a") == Price(3, 4, 20_788)
    inline = (
        "[models.llama]\nprice_usd_per_mtok = [{input = 1, output = 2}, {input = 3, output = 4, from = 2026-12-01}]"
    )
    assert prices_of(inline, DEC).of("llama", "llama", "us/a") == Price(3, 4, 20_788)
    shown = dump(parse(inline + FLEET, "f.toml", env={}))["models"]["llama"]["price_usd_per_mtok"]
    assert shown == [{"input": 1.0, "output": 2.0}, {"input": 3.0, "output": 4.0, "from": "2026-12-01"}]


def test_a_backend_and_everything_else_may_have_a_price() -> None:
    text = "[prices]\ndefault = { input = 1, output = 2 }\n"
    own = FLEET + "price_usd_per_mtok = { input = 5, output = 6 }\n"
    prices = price_list(parse(text + own, "f.toml", env={})).on(NOV)
    assert prices.of("small", "small", "us/a") == Price(5, 6)
    assert prices.of("small", "small", "us/b") == Price(1, 2)
    before, after = parse(text + FLEET, "f.toml", env={}), parse(text + own, "f.toml", env={})
    assert before.backends == after.backends, "no reason to connect to it again"
    assert any("price_usd_per_mtok" in line for line in diff(before, after))


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ("{ input = -1 }", "at least 0"),
        ("{ input = 1, from = '1 Dec' }", "must be a date"),
        ("{ input = 1, from = '2026-13-01' }", "must be a date"),
        ("{ input = 1, from = 7 }", "must be a string"),
        ("{ inptu = 1 }", 'did you mean "input"'),
        ("[{ input = 1 }, { output = 1 }]", "another price without a date"),
        ("[{ input = 1, from = '2026-12-01' }, { from = '2026-12-01' }]", "another price from 2026-12-01"),
        ("7", "a table or a list of tables"),
        ("[7]", "a table or a list of tables"),
    ],
)
def test_a_wrong_price_is_refused(price: str, words: str) -> None:
    for place in ("[prices]\ndefault = ", "[models.llama]\nprice_usd_per_mtok = "):
        with pytest.raises(ConfigError) as caught:
            parse(place + price + FLEET, "f.toml", env={})
        assert any(words in problem for problem in caught.value.problems), caught.value.problems
    with pytest.raises(ConfigError, match="price_usd_per_mtok"):
        parse(FLEET + "price_usd_per_mtok = " + price, "f.toml", env={})


def test_the_schema_for_editors_has_both_forms() -> None:
    price = json_schema()["properties"]["prices"]["properties"]["default"]
    assert [form["type"] for form in price["anyOf"]] == ["object", "array"]
    assert "default" not in price["anyOf"][0]["properties"]["from"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BUDGET, "no model has a price"),
        (BUDGET + "[models.llama.price_usd_per_mtok]\ninput = 1\noutput = 1\n", "no price today: small"),
        (
            BUDGET + "[models.chat]\ntargets = [{model = 'llama'}]\nprice_usd_per_mtok = {input = 1, output = 1}",
            "small",
        ),
        (BUDGET + "[prices]\ndefault = [{input = 1, output = 1, from = '2999-01-01'}]", "llama, small"),
        ("[prices]\ndefault = {input = 1}\n", "[prices] default has no price for output tokens"),
    ],
)
def test_what_is_free_by_accident_is_told(text: str, words: str) -> None:
    told = [line for line in warnings(parse(text + FLEET, "f.toml", env={})) if "price" in line]
    assert len(told) == 1
    assert words in told[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        BUDGET + "[prices]\ndefault = {input = 1, output = 1}",
        BUDGET + "[models.chat]\ntargets = [{model = 'llama'}]\nfallbacks = ['small']\n"
        "price_usd_per_mtok = {input = 1, output = 1}",
        BUDGET + "[prices]\ndefault = {input = 0, output = 0}",
    ],
)
def test_nothing_is_told_where_everything_has_a_price(text: str) -> None:
    assert not [line for line in warnings(parse(text + FLEET, "f.toml", env={})) if "price" in line]
