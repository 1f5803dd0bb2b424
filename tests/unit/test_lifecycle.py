"""The path of a request, played without sockets: what each event makes the router write, and what is left after it."""

from __future__ import annotations

import pytest

from router.gateway.auth import anonymous_key
from tests.support.playbook import ALONE, DONE, HEAD, Playbook, chat, configuration, event, post, whole


async def test_a_whole_answer_goes_through(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    backend = book.asked
    (sent,) = backend.asked
    assert sent.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: ")
    assert b'{"model":"m","messages"' in sent
    assert not client.heard
    backend.answers(body=whole())
    answer = client.answer
    assert (answer.status, answer.body) == (200, whole())
    assert answer.headers["x-router-backend"] == backend.pool.spec.name
    assert answer.headers["x-router-attempts"] == "1"
    record = book.records[0]
    assert (record.prompt_tokens, record.output_tokens, record.error) == (7, 3, None)
    book.at_rest()


async def test_a_stream_begins_with_its_first_token(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    backend = book.asked
    backend.streams(b'data: {"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n')
    assert not client.heard, "a role is not a token"
    backend.goes_on(event("Hel"))
    assert client.answer.status == 200
    assert b"Hel" in client.answer.body
    backend.goes_on(event("lo"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert client.answer.body.endswith(DONE)
    book.at_rest()


async def test_a_failure_before_the_first_token_does_not_show(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    first = book.asked
    first.streams(b'data: {"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n')
    first.dies()
    await book.turn()
    second = book.asked
    assert second is not first
    second.streams(event("Hi"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert client.answer.headers["x-router-attempts"] == "2"
    assert [a.kind for a in book.records[0].attempts] == ["first", "retry"]
    book.at_rest()


async def test_a_failure_after_the_first_token_is_said_in_band(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True, **ALONE))
    await book.turn()
    book.asked.streams(event("Half an ans"))
    book.asked.dies()
    await book.turn()
    answer = client.answer
    assert b'"code":"stream_interrupted"' in answer.body
    assert DONE not in answer.body
    assert not answer.whole, "its framing must not end well"
    assert client.wire.closed
    assert book.records[0].error == "stream_interrupted"
    book.at_rest()


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_another_backend_is_asked_when_one_fails(book: Playbook, status: int) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    book.asked.answers(status, b'{"error":{"message":"no"}}')
    await book.turn()
    book.asked.answers(body=whole())
    assert client.answer.status == 200
    book.at_rest()


async def test_three_attempts_and_then_an_error(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    for _ in range(3):
        await book.turn()
        book.asked.answers(500, b"boom")
    await book.turn()
    assert client.answer.status == 502
    assert client.answer.error["code"] == "upstream_error"
    assert len(book.records[0].attempts) == 3
    book.at_rest()


async def test_a_request_that_is_wrong_is_tried_once(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    book.asked.answers(400, b'{"error":{"message":"temperature is too hot","type":"BadRequestError"}}')
    await book.turn()
    assert client.answer.status == 400
    assert "too hot" in client.answer.error["message"]
    assert sum(len(b.connections) for b in book.backends.values()) == 1
    book.at_rest()


async def test_a_region_that_is_not_reached_is_left(book: Playbook) -> None:
    for name in ("us-east/a", "us-east/b"):
        book.backend(name).refuses = True
    client = book.client()
    client.send(chat())
    await book.turn()
    assert book.asked is book.backend("eu-west/a")
    book.asked.answers(body=whole())
    assert [a.region for a in book.records[0].attempts] == ["us-east", "eu-west"]
    book.at_rest()


async def test_nobody_can_be_reached(book: Playbook) -> None:
    for backend in book.backends.values():
        backend.refuses = True
    client = book.client()
    client.send(chat())
    await book.turn()
    assert client.answer.status in (502, 503)
    assert client.answer.error["code"] in ("upstream_unreachable", "no_backend")
    book.at_rest()


async def test_a_client_that_leaves_ends_its_attempt(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    backend = book.asked
    backend.streams(event("Hello"))
    client.leave()
    assert backend.connections[0].wire.closed
    assert book.records[0].error == "client_gone"
    assert book.app.fleet.backends[backend.pool.spec.name].reputation.failures_total == 0
    book.at_rest()


async def test_a_client_that_leaves_with_everything_has_been_served(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.asked.streams(event("Hello"), event(finish="stop"), DONE)
    client.leave()
    assert book.records[0].error is None
    book.at_rest()


async def test_a_first_token_that_does_not_come(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    first = book.asked
    book.advance(60.1)
    await book.turn()
    assert book.asked is not first
    book.asked.streams(event("Hi"), event(finish="stop"), DONE, end=True)
    assert client.answer.headers["x-router-attempts"] == "2"
    assert book.records[0].attempts[0].outcome == "first_token_timeout"
    book.at_rest()


async def test_a_token_that_does_not_come(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True, **ALONE))
    await book.turn()
    book.asked.streams(event("Hello"))
    book.advance(59.0)
    assert not client.wire.closed
    book.advance(1.5)
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    book.at_rest()


async def test_the_clients_own_limit_of_time_is_kept(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True, headers={"x_router_timeout_ms": "2000"}))
    await book.turn()
    book.advance(2.1)
    await book.turn()
    assert client.answer.status == 504
    assert client.answer.error["code"] == "first_token_timeout"
    book.at_rest()


async def test_requests_on_one_connection_are_answered_in_turn(book: Playbook) -> None:
    client = book.client()
    client.send(chat(user="one") + chat(user="two"))
    await book.turn()
    assert b'"one"' in b"".join(book.asked.asked)
    book.asked.answers(body=whole("first"))
    await book.turn()
    book.asked.answers(body=whole("second"))
    first, second = (at for at in (client.wire.written.find(b"first"), client.wire.written.find(b"second")))
    assert 0 < first < second
    book.at_rest()


async def test_a_connection_that_was_closed_meanwhile_is_no_failure(book: Playbook) -> None:
    client = book.client()
    client.send(chat(headers={"x_router_region": "eu-west"}))
    await book.turn()
    backend = book.backend("eu-west/a")
    backend.answers(body=whole())
    client.send(chat(headers={"x_router_region": "eu-west"}))
    await book.turn()
    assert len(backend.connections) == 1, "the connection is used again"
    backend.dies()
    await book.turn()
    assert len(backend.connections) == 2
    backend.answers(body=whole("again"))
    assert b"again" in client.wire.written
    assert [len(r.attempts) for r in book.records] == [1, 1]
    book.at_rest()


async def test_a_request_that_kills_two_backends_is_stopped_and_remembered(book: Playbook) -> None:
    client = book.client()
    client.send(chat(user="killer"))
    for _ in range(2):
        await book.turn()
        book.asked.dies()
    await book.turn()
    assert client.answer.status == 502
    again = book.client()
    again.send(chat(user="killer"))
    await book.turn()
    assert again.answer.headers["retry-after"] == "2", "until its backends are well again"
    assert sum(len(b.connections) for b in book.backends.values()) == 2
    other = book.client()
    other.send(chat(user="harmless"))
    await book.turn()
    book.asked.answers(body=whole())
    assert other.answer.status == 200
    book.at_rest()


class TestAliases:
    TEXT = configuration(
        HEAD + '[models.chat]\ntargets = [{ model = "m", weight = 1 }]\n[models.old]\nfallbacks = ["m"]\n'
    )

    @pytest.fixture
    async def book(self, monkeypatch: pytest.MonkeyPatch) -> Playbook:
        return Playbook(monkeypatch, self.TEXT)

    @pytest.mark.parametrize("alias", ["chat", "old"])
    async def test_the_engine_hears_its_own_name(self, book: Playbook, alias: str) -> None:
        client = book.client()
        client.send(chat(model=alias, user='{"model": "keep me"}'))
        await book.turn()
        (sent,) = book.asked.asked
        assert b'"model":"m"' in sent
        assert b'{\\"model\\": \\"keep me\\"}' in sent
        book.asked.answers(body=whole())
        assert client.answer.headers["x-router-model"] == "m"
        record = book.records[0]
        assert (record.model, record.served_model) == (alias, "m")


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_bytes", "status", "code"),
        [
            (chat(model="nobody"), 404, "unknown_model"),
            (chat(headers={"x_router_residency": "jp"}), 503, "residency_unsatisfiable"),
            (chat(headers={"x_router_policy": "no-such"}), 400, "invalid_request"),
            (chat(headers={"x_router_priority": "urgent"}), 400, "invalid_request"),
            (post("/v1/chat/completions", b"{"), 400, "invalid_request"),
            (post("/v1/chat/completions", b"{}"), 400, "invalid_request"),
            (post("/v2/chat", b"{}"), 404, "not_found"),
        ],
    )
    async def test_no_backend_hears_of_it(self, book: Playbook, request_bytes: bytes, status: int, code: str) -> None:
        client = book.client()
        client.send(request_bytes)
        await book.turn()
        assert (client.answer.status, client.answer.error["code"]) == (status, code)
        assert not any(b.connections for b in book.backends.values())
        assert book.records[0].error == code
        book.at_rest()

    async def test_residency_is_kept_through_every_attempt(self, book: Playbook) -> None:
        client = book.client()
        client.send(chat(headers={"x_router_residency": "eu"}))
        await book.turn()
        assert book.asked is book.backend("eu-west/a")
        book.asked.answers(500, b"boom")
        await book.turn()
        assert client.answer.status >= 500
        assert not book.backend("us-east/a").connections
        assert not book.backend("us-east/b").connections
        book.at_rest()


class TestWaiting:
    TEXT = configuration(backends=("us-east/a",)).replace('engine = "vllm"', 'engine = "vllm"\nmax_inflight = 1')

    @pytest.fixture
    async def book(self, monkeypatch: pytest.MonkeyPatch) -> Playbook:
        return Playbook(monkeypatch, self.TEXT)

    async def test_a_request_waits_for_a_place_and_gets_it(self, book: Playbook) -> None:
        first, second = book.client(), book.client()
        first.send(chat(user="one"))
        await book.turn()
        second.send(chat(user="two"))
        await book.turn()
        assert len(book.asked.connections) == 1
        book.advance(2.0)
        book.asked.answers(body=whole())
        await book.turn()
        book.asked.answers(body=whole())
        assert second.answer.status == 200
        assert book.records[0].wait_s == pytest.approx(2.0)
        book.at_rest()

    async def test_it_does_not_wait_for_ever(self, book: Playbook) -> None:
        first, second = book.client(), book.client()
        first.send(chat())
        await book.turn()
        second.send(chat())
        await book.turn()
        book.advance(30.1)
        await book.turn()
        assert (second.answer.status, second.answer.error["code"]) == (429, "wait_expired")
        book.asked.answers(body=whole())
        book.at_rest()

    async def test_who_leaves_while_waiting_takes_no_place(self, book: Playbook) -> None:
        first, second, third = book.client(), book.client(), book.client()
        for client in (first, second, third):
            client.send(chat())
            await book.turn()
        second.leave()
        book.asked.answers(body=whole())
        await book.turn()
        book.asked.answers(body=whole())
        assert third.answer.status == 200
        assert sorted(r.status for r in book.records) == [200, 200, 499]
        book.at_rest()


class TestCharges:
    """What a request costs whose client does not wait for the end, and one that computes nothing."""

    PLAN = HEAD + "[plans.default]\nrequests_per_minute = 100\ntokens_per_minute = 100000\nbudget_usd_month = 1\n"

    @pytest.fixture
    async def book(self, monkeypatch: pytest.MonkeyPatch) -> Playbook:
        return Playbook(monkeypatch, configuration(self.PLAN))

    async def used(self, book: Playbook) -> dict[str, float]:
        key = anonymous_key(book.app.lifecycle.force.settings.config.plans["default"])
        return {state.limit: round(state.used) for state in await book.app.store.quota(key)}

    async def test_who_leaves_before_the_answer_pays_for_the_prompt(self, book: Playbook) -> None:
        client = book.client()
        client.send(chat(stream=True, user="x" * 800))
        await book.turn()
        assert book.asked.asked, "it is at a backend"
        client.leave()
        prompt = book.records[0].prompt_tokens
        assert prompt > 0
        assert await self.used(book) == {"requests": 1, "tokens": prompt, "budget": 0}
        assert book.records[0].output_tokens == 0
        book.at_rest()

    async def test_who_leaves_before_anything_was_sent_pays_nothing(self, book: Playbook) -> None:
        client = book.client()
        client.send(chat(stream=True))
        client.leave()  # the connection to the backend is being made
        await book.turn()
        assert not any(b"POST" in sent for backend in book.backends.values() for sent in backend.asked)
        assert await self.used(book) == {"requests": 0, "tokens": 0, "budget": 0}
        book.at_rest()

    @pytest.mark.parametrize("path", ["/tokenize", "/v1/messages/count_tokens"])
    async def test_who_has_tokens_counted_pays_a_request_and_teaches_nothing(self, book: Playbook, path: str) -> None:
        client = book.client()
        client.send(post(path, b'{"model": "m", "prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}'))
        await book.turn()
        (lease,) = book.app.fleet.leases
        assert lease.request.light
        book.asked.answers(body=b'{"input_tokens": 5, "count": 5}')
        assert client.answer.status == 200
        assert await self.used(book) == {"requests": 1, "tokens": 0, "budget": 0}
        book.at_rest()

    async def test_a_model_without_a_price_is_told_once(self, book: Playbook, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(2):
            client = book.client()
            client.send(chat())
            await book.turn()
            book.asked.answers(body=whole())
        told = [r.getMessage() for r in caplog.records if "price_usd_per_mtok" in r.getMessage()]
        assert len(told) == 1
        assert '"m"' in told[0]


LENGTH = "content-length: 5\r\n\r\nhello"
CHUNKS = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
NOTHING_WHOLE = [(s, f) for s in (204, 205, 304) for f in ("content-length: 0\r\n\r\n", LENGTH, CHUNKS)]
#: A 205 is framed as any other answer: these would go on.
NOTHING_OPEN = [(s, f) for s in (204, 304) for f in ("\r\n", "\r\nhello", "content-length: 5\r\n\r\n")]


class TestNothingInIt:
    """Statuses whose answers have no body, with and without one: nobody waits for it, and nobody takes it for another."""

    @pytest.mark.parametrize(("status", "form"), NOTHING_WHOLE + NOTHING_OPEN)
    @pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "audio/pcm"])
    @pytest.mark.parametrize("stream", [True, False])
    async def test_it_is_no_answer_to_a_prompt(
        self, book: Playbook, status: int, form: str, content_type: str, stream: bool
    ) -> None:
        client = book.client()
        client.send(chat(stream=stream))
        await book.turn()
        first = book.asked
        first.says(f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n{form}".encode())
        await book.turn()
        second = book.asked
        assert second is not first
        if stream:
            second.streams(event("Hi"), event(finish="stop"), DONE, end=True)
        else:
            second.answers(body=whole())
        assert (client.answer.status, client.answer.whole) == (200, True)
        if "hello" in form:
            assert first.connections[0].wire.closed or status == 205, "what follows would be taken for an answer"
        book.at_rest()

    @pytest.mark.parametrize("form", ["\r\n", "\r\nhello", LENGTH, "content-length: 5\r\n\r\n"])
    @pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "audio/pcm"])
    async def test_a_204_may_answer_what_promises_nothing(self, book: Playbook, form: str, content_type: str) -> None:
        client = book.client()
        client.send(post("/v1/load_lora_adapter", b'{"model": "m"}'))
        await book.turn()
        book.asked.says(f"HTTP/1.1 204 X\r\ncontent-type: {content_type}\r\n{form}".encode())
        head, end, rest = client.wire.written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204 ")
        assert (end, rest) == (b"\r\n\r\n", b""), "RFC 9110 15.3.5: it ends with its head"
        assert b"content-length" not in head
        assert b"transfer-encoding" not in head
        client.send(chat())
        await book.turn()
        book.asked.answers(body=whole())
        assert client.wire.written.count(b"HTTP/1.1 200 ") == 1
        book.at_rest()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_may_end_when_its_backend_is_left(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    """Nobody else can answer: the request is over before the next one is looked at."""
    book = Playbook(monkeypatch, configuration(backends=("us-east/a",)))
    clients = [book.client() for _ in range(3)]
    for client in clients:
        client.send(chat(stream=stream))
    await book.turn()
    book.app.lifecycle.backend_refused("us-east/a")
    await book.turn()
    assert {client.answer.status for client in clients} <= {502, 503}
    book.at_rest()
