"""Prices of tokens: whose price counts, on which day, and that nothing is free by accident."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.prices import DAY_S, Leg, Price, PriceList, dearest, in_force, microusd

DAY = 20_000
NOW_S = DAY * DAY_S + 7.0
ALIAS, RAW, SMALL, DEFAULT, RENTED = Price(1, 3), Price(2, 4), Price(0.5, 0.5), Price(9, 9), Price(5, 7)


def list_of(default: bool = False, raw: bool = False, rented: bool = False) -> PriceList:
    """The name ``chat`` leads to ``llama``, or to ``small`` if need be."""
    return PriceList(
        {"chat": (ALIAS,)} | ({"llama": (RAW,)} if raw else {}),
        {"chat": ("llama", "small")},
        {"eu/b": (RENTED,)} if rented else {},
        (DEFAULT,) if default else (),
    )


def test_the_price_is_that_of_who_answers() -> None:
    plain = list_of().on(NOW_S)
    assert plain.of("chat", "llama", "us/a") == ALIAS
    assert plain.of("llama", "llama", "us/a") == ALIAS, "the raw name is not free"
    assert plain.of("chat", "small", "us/a") == ALIAS
    assert plain.of("other", "other", "us/a") is None
    assert list_of(default=True).on(NOW_S).of("other", "other", "us/a") == DEFAULT
    priced = list_of(raw=True, rented=True).on(NOW_S)
    assert priced.of("chat", "llama", "us/a") == RAW == priced.of("llama", "llama", "us/a")
    assert priced.of("chat", "llama", "eu/b") == RENTED


def test_a_name_costs_the_most_of_those_that_lead_to_it() -> None:
    prices = PriceList({"a": (Price(1, 9),), "b": (Price(2, 3),)}, {"a": ("m",), "b": ("m",)}).on(NOW_S)
    assert prices.of("m", "m", "") == Price(2, 9)
    assert prices.of("a", "m", "") == Price(1, 9)


def test_the_most_covers_whoever_may_answer() -> None:
    prices = list_of(raw=True, rented=True).on(NOW_S)
    assert prices.most("chat", [("small", "us/a")]) == ALIAS
    assert prices.most("chat", [("llama", "us/a"), ("small", "us/a")]) == Price(2, 4)
    assert prices.most("chat", [("llama", "eu/b")]) == RENTED
    assert prices.most("chat", [("llama", "eu/b"), ("llama", "us/a"), ("small", "us/a")]) == Price(5, 7)
    assert prices.most("chat", [("llama", "")]) == RAW, "any backend without a price of its own"
    assert prices.most("nobody", [("nobody", "")]) is None
    assert prices.most("nobody", []) is None


def test_a_price_that_is_written_as_zero_is_meant() -> None:
    prices = PriceList({"m": (Price(0, 0),)}, {}, {}, (DEFAULT,)).on(NOW_S)
    assert prices.charge("m", 10, [Leg("us/a", "m", 10)]) == (0, None)


def test_every_leg_has_its_own_price_and_the_prompt_is_charged_once() -> None:
    prices = list_of(raw=True, rented=True).on(NOW_S)
    legs = [Leg("us/a", "llama", 10), Leg("eu/b", "llama", 30)]
    assert prices.charge("chat", 100, legs) == (100 * 2 + 10 * 4 + 30 * 7, None)
    legs = [Leg("us/a", "llama", 10), Leg("us/a", "nobody", 30)]
    assert list_of().on(NOW_S).charge("nobody", 0, legs) == (10 * 3, "nobody")


def test_a_price_holds_from_its_day_on() -> None:
    tariff = (Price(3, 3, DAY + 1), Price(1, 1), Price(2, 2, DAY))
    assert [in_force(tariff, DAY + n) for n in (-1, 0, 1, 2)] == [tariff[1], tariff[2], tariff[0], tariff[0]]
    assert in_force(tariff[:1], DAY) is None
    prices = PriceList({"m": tariff})
    ends_s = (DAY + 1) * DAY_S
    assert prices.on(ends_s - 0.001).of("m", "m", "") == Price(2, 2, DAY)
    assert prices.on(ends_s).of("m", "m", "") == Price(3, 3, DAY + 1)
    assert prices.on(ends_s - 0.001).of("m", "m", "") == Price(2, 2, DAY), "a request of yesterday"
    for day in range(50):
        prices.on(ends_s + day * DAY_S)
    assert len(prices._days) <= 3


def test_tokens_round_up_to_millionths_of_a_dollar() -> None:
    assert microusd(Price(0.5, 1.25), 3, 1) == 3  # 1.5 + 1.25
    assert microusd(Price(0.5, 1.25), 0, 0) == microusd(None, 1000, 1000) == 0


PRICE = st.builds(Price, st.integers(0, 50), st.integers(0, 50))


@given(
    st.dictionaries(st.sampled_from("abcd"), PRICE.map(lambda p: (p,)), max_size=4),
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("abcd"), max_size=3), max_size=4),
    st.dictionaries(st.sampled_from(["x", "y"]), PRICE.map(lambda p: (p,)), max_size=2),
    st.sampled_from("abcd"),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=3),
    st.data(),
)
def test_nothing_costs_more_than_was_reserved(models, leads, backends, asked, route, data) -> None:  # type: ignore[no-untyped-def]
    prices = PriceList(models, leads, backends).on(NOW_S)
    most = prices.most(asked, [(model, backend) for model in route for backend in "xyz"])
    legs = data.draw(
        st.lists(st.builds(Leg, st.sampled_from("xyz"), st.sampled_from(route), st.integers(0, 99)), min_size=1)
    )
    spent, _ = prices.charge(asked, 50, legs)
    assert spent <= microusd(most, 50, sum(leg.output_tokens for leg in legs))
    assert dearest([most]) == (None if most is None else Price(most.input, most.output))
