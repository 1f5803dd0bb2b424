"""What simulated models say: pure, exact to continue, and read back as the same tokens."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.text import answer, tokenizer
from tests.support.effort import examples

prompts = st.binary(max_size=60) | st.text(max_size=40).map(str.encode)
contexts = st.builds(lambda p, chat: b"<|user|>" + p + b"<|end|><|assistant|>" if chat else p, prompts, st.booleans())


MODELS = ("m", "m-polyglot")
every_model = pytest.mark.parametrize("model", MODELS)


def written(context: bytes, tokens: int, model: str = "m", **options: object) -> str:
    return "".join(answer(model, context, tokens, **options).texts)  # type: ignore[arg-type]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_ids_turn_back_into_the_text(text: bytes) -> None:
    ids = tokenizer().encode(text)
    assert tokenizer().decode(ids) == text
    assert all(0 <= i < tokenizer().size for i in ids)


@every_model
@given(contexts, st.integers(0, 120))
def test_an_answer_reads_back_as_its_own_tokens(model: str, context: bytes, tokens: int) -> None:
    result = answer(model, context, tokens, ignore_eos=True)
    assert len(result.ids) == len(result.texts) == tokens
    assert tokenizer().decode(result.ids).decode(errors="ignore") == "".join(result.texts)
    assert result.finish_reason == "length"


@examples(1)
@given(contexts, st.data())
def test_a_partial_answer_goes_on_exactly_wherever_it_was_cut(context: bytes, data: st.DataObject) -> None:
    whole = written(context, 80).encode()
    cut = data.draw(st.integers(0, len(whole)))
    rest = written(context + whole[:cut], 200).encode()
    assert (whole[:cut] + rest).startswith(whole)


@examples(1)
@given(contexts, st.data())
def test_a_polyglot_answer_goes_on_exactly_between_any_two_characters(context: bytes, data: st.DataObject) -> None:
    whole = written(context, 120, "m-polyglot")
    cut = data.draw(st.integers(0, len(whole)))
    rest = written(context + whole[:cut].encode(), 200, "m-polyglot")
    assert (whole[:cut] + rest).startswith(whole)


@every_model
@examples(1)
@given(contexts, st.data())
def test_going_on_from_token_ids_gives_the_same_tokens_and_no_half_character(
    model: str, context: bytes, data: st.DataObject
) -> None:
    whole = answer(model, context, 90)
    cut = data.draw(st.integers(0, len(whole.ids)))
    again = tokenizer().decode(tokenizer().encode(context) + whole.ids[:cut])
    rest = answer(model, again, len(whole.ids) - cut)
    assert whole.ids[:cut] + rest.ids == whole.ids
    assert whole.texts[:cut] + rest.texts == whole.texts


def test_a_chat_ends_by_itself_at_a_full_stop_and_so_does_its_continuation() -> None:
    context = b"<|user|>Tell me everything.<|end|><|assistant|>"
    whole = answer("m", context, 5000)
    text = "".join(whole.texts)
    assert whole.finish_reason == "stop"
    assert text.endswith(".")
    assert 200 < len(whole.ids) < 700
    for cut in (0, 100, len(text) - 3, len(text)):
        rest = answer("m", context + text[:cut].encode(), 5000)
        assert text[:cut] + "".join(rest.texts) == text
        assert rest.finish_reason == "stop"


def test_max_tokens_is_honoured_before_the_natural_end() -> None:
    context = b"<|user|>x<|end|><|assistant|>"
    for tokens in (1, 7, 200):
        assert len(answer("m", context, tokens).ids) == tokens
    assert len(answer("m", context, 3000, ignore_eos=True).ids) == 3000


def test_models_and_prompts_and_seeds_differ() -> None:
    texts = {
        "".join(answer(model, prompt, 30, seed=seed).texts)
        for model in ("a", "b")
        for prompt in (b"<|assistant|>", b"x<|assistant|>")
        for seed in (None, 1, 2)
    }
    assert len(texts) == 12


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it() -> None:
    context = b"<|user|>x<|end|><|assistant|>"
    whole = written(context, 100)
    stop = whole[40:47]
    stopped = answer("m", context, 100, stop=("never seen", stop))
    assert "".join(stopped.texts) == whole[: whole.index(stop)]
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", stop)
    assert len(stopped.ids) == len(stopped.texts) < 100


def test_a_polyglot_answer_has_characters_of_every_length_and_some_of_several_tokens() -> None:
    result = answer("m-polyglot", b"<|user|>x<|end|><|assistant|>", 2000, ignore_eos=True)
    text = "".join(result.texts)
    assert {len(c.encode()) for c in text} == {1, 2, 3, 4}
    assert any(unicodedata.combining(c) for c in text)
    assert "\u200d" in text
    assert result.texts.count("") > 50
    assert max(len(t.encode()) for t in result.texts) > 12


def test_the_text_is_english_like() -> None:
    text = written(b"<|user|>x<|end|><|assistant|>", 120)
    assert text.isascii()
    assert text[0].isupper()
    assert ". " in text
    assert "  " not in text
