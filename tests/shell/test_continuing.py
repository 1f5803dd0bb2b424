"""Whether an engine can continue answers of others: engines that can, and the ways in which they cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from router.core.traits import TRAITS, Continues
from router.core.types import BackendSpec, RegionSpec
from router.observe.client import ProbeAnswer
from router.observe.continuing import CHAT_PATH, Finding, UnclearError, find_out, settled

ANSWER = ["The", " sea", " is", " wide", ",", " blue", " and", " deep", ",", " and", " it", " sl"]
PROMPT_IDS = [7, 8, 9]


@dataclass
class Engine:
    """Says ANSWER to every chat, a piece for each token; the id of a token is its place."""

    #: after a text: "goes on", "begins again", "repeats"; or the status of its refusal
    text: str | int = "goes on"
    #: after tokens: "goes on", "begins again", or the status of its refusal; None: it names no tokens
    ids: str | int | None = "goes on"
    answer: list[str] = field(default_factory=lambda: list(ANSWER))
    #: another token after this many pieces, as two kernels may choose where two are nearly as likely
    tie_after: int | None = None
    member: str = "content"
    broken: dict[str, Any] | int | None = None
    asked_tokens: int = 0
    paths: list[str] = field(default_factory=list)

    async def ask(self, path: str, body: bytes) -> ProbeAnswer:
        document = orjson.loads(body)
        assert document["temperature"] == 0
        self.asked_tokens += document["max_tokens"]
        self.paths.append(path)
        if isinstance(self.broken, int):
            return ProbeAnswer(self.broken, b"{}", 0.0, fresh=False)
        if self.broken is not None:
            return self._stream([self.broken])
        return self._chat(document) if path == CHAT_PATH else self._completion(document)

    def _chat(self, document: dict[str, Any]) -> ProbeAnswer:
        last = document["messages"][-1]
        begin = 0
        if last["role"] == "assistant":
            assert document["continue_final_message"] is True
            assert document["add_generation_prompt"] is False
            if isinstance(self.text, int):
                return ProbeAnswer(self.text, b"{}", 0.0, fresh=False)
            begun = last["content"]
            assert "".join(self.answer).startswith(begun)
            begin = next(n for n in range(len(self.answer)) if "".join(self.answer[:n]) == begun)
            if self.text == "repeats":
                return self._pieces([begun, *self.answer[begin:]], 0, document)
            if self.text == "begins again":
                begin = 0
        pieces = self.answer[begin:]
        if begin and begin == self.tie_after:
            pieces = [" vast", *pieces[1:]]
        return self._pieces(pieces, begin, document)

    def _completion(self, document: dict[str, Any]) -> ProbeAnswer:
        if isinstance(self.ids, int):
            return ProbeAnswer(self.ids, b"{}", 0.0, fresh=False)
        prompt = document["prompt"]
        assert prompt[:3] == PROMPT_IDS
        begin = len(prompt) - 3 if self.ids == "goes on" else 0
        return self._pieces(self.answer[begin:], begin, document)

    def _pieces(self, pieces: list[str], begin: int, document: dict[str, Any]) -> ProbeAnswer:
        events: list[dict[str, Any]] = []
        names_ids = self.ids is not None and document.get("return_token_ids", False)
        for place, piece in enumerate(pieces[: document["max_tokens"]], begin):
            choice: dict[str, Any] = {"index": 0, "delta": {self.member: piece}, "text": piece}
            if "prompt" in document:
                del choice["delta"]
            else:
                del choice["text"]
            if names_ids:
                choice["token_ids"] = [place]
            event: dict[str, Any] = {"choices": [choice]}
            if names_ids and place == begin:
                event["prompt_token_ids"] = PROMPT_IDS
            events.append(event)
        return self._stream(events)

    def _stream(self, events: list[dict[str, Any]]) -> ProbeAnswer:
        body = b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)
        return ProbeAnswer(200, b": ping\n\n" + body + b"data: [DONE]\n\n", 0.0, fresh=False)


async def found(engine: Engine, kind: str = "vllm") -> Finding:
    return await find_out(engine.ask, kind, "m")


@pytest.mark.parametrize(
    ("engine", "kind", "how"),
    [
        (Engine(), "vllm", Continues.IDS),
        (Engine(ids=None), "vllm", Continues.TEXT),
        (Engine(), "sglang", Continues.TEXT),
        (Engine(), "llamacpp", Continues.TEXT),
        (Engine(ids="begins again"), "vllm", Continues.TEXT),
        (Engine(ids=404), "vllm", Continues.TEXT),
        (Engine(text="begins again"), "vllm", Continues.NO),
        (Engine(text="begins again"), "llamacpp", Continues.NO),
        (Engine(text="repeats"), "llamacpp", Continues.NO),
        (Engine(text=400), "llamacpp", Continues.NO),
        (Engine(text=400), "vllm", Continues.IDS),
        (Engine(broken=404), "vllm", Continues.NO),
        (Engine(broken={"error": {"message": "no template", "code": 400}}), "sglang", Continues.NO),
        (Engine(tie_after=6), "llamacpp", Continues.TEXT),
        (Engine(member="reasoning_content"), "vllm", Continues.IDS),
    ],
)
async def test_what_an_engine_does_is_what_is_found(engine: Engine, kind: str, how: Continues) -> None:
    finding = await found(engine, kind)
    assert finding.how is how, finding
    assert finding.reason
    assert finding.model == "m"


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        (Engine(broken=500), "vllm"),
        (Engine(broken=503), "llamacpp"),
        (Engine(broken=429), "llamacpp"),
        (Engine(broken={"error": {"message": "full", "code": 503}}), "sglang"),
        (Engine(broken={"error": "odd"}), "sglang"),
        (Engine(answer=["Yes", "."]), "llamacpp"),
        (Engine(answer=[]), "vllm"),
        (Engine(member="reasoning_content"), "llamacpp"),
    ],
)
async def test_what_says_nothing_leaves_it_open(engine: Engine, kind: str) -> None:
    with pytest.raises(UnclearError):
        await found(engine, kind)


@pytest.mark.parametrize("text", ["goes on", "begins again", "repeats", 400])
@pytest.mark.parametrize("ids", ["goes on", "begins again", 400, None])
async def test_it_costs_few_tokens(text: str | int, ids: str | int | None) -> None:
    engine = Engine(text=text, ids=ids)
    await found(engine)
    assert engine.asked_tokens <= 28


async def test_an_answer_is_cut_where_no_new_turn_would_begin() -> None:
    engine = Engine(answer=["a", "b", "c", "d", " e", "f", "g", "h"])
    assert (await found(engine, "llamacpp")).how is Continues.TEXT
    assert engine.asked_tokens == 16, "the first place was enough"


def spec(engine: str, continues: str) -> BackendSpec:
    return BackendSpec("r/a", RegionSpec("r"), "http://e", engine, continues=continues)


@pytest.mark.parametrize("engine", TRAITS)
def test_what_is_configured_is_believed(engine: str) -> None:
    for how in Continues:
        known = settled(spec(engine, how.word))
        assert known is not None
        assert known.how is how
    known = settled(spec(engine, "auto"))
    assert (known is None) is (TRAITS[engine].continues is not Continues.NO)
    assert known is None or known.how is Continues.NO


def test_providers_and_other_routers_are_not_asked_unless_told() -> None:
    for engine in ("openai", "router"):
        assert settled(spec(engine, "auto")) is not None
