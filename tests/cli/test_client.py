"""HTTP towards a router: a real server on loopback that answers what the test says."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli.client import LOOK_S, WORK_S, HttpRemote, segment
from cli.completion import complete, first_model
from cli.context import connect
from cli.errors import CliError, Exit, StatusError

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(status, body, **headers)`` answers everything with that; returns the address. ``serve.seen`` are requests."""
    servers = []

    def start(status: int, body: bytes, chunks: int = 0, **headers: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("content-length", 0))
                sent = self.rfile.read(length)
                seen.append((self.command, self.path, dict(self.headers.items()), sent))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if chunks:
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    for at in range(0, len(body), chunks):
                        piece = body[at : at + chunks]
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    seen: list[tuple[str, str, dict[str, str], bytes]] = []
    start.seen = seen  # type: ignore[attr-defined]
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def admin(url: str, token: str | None = None) -> HttpRemote:
    remote = connect(url, token, admin=True)
    assert isinstance(remote, HttpRemote)
    return remote


def test_get_with_token_and_query(serve: Serve) -> None:
    remote = admin(serve(200, b'{"data":[]}') + "/", "secret")
    assert remote.get("/admin/v1/requests", limit=5, model=None, tenant="a b&c") == {"data": []}
    method, path, headers, _ = serve.seen[0]  # type: ignore[attr-defined]
    assert (method, path) == ("GET", "/admin/v1/requests?limit=5&tenant=a+b%26c")
    assert headers["authorization"] == "Bearer secret"


def test_post_and_delete(serve: Serve) -> None:
    remote = admin(serve(200, b'{"id":1}'))
    remote.post("/admin/v1/keys", {"name": "ü"})
    remote.delete("/admin/v1/keys/1")
    (first, second) = serve.seen  # type: ignore[attr-defined]
    assert json.loads(first[3]) == {"name": "ü"}
    assert first[2]["content-type"] == "application/json"
    assert "authorization" not in first[2]
    assert second[0] == "DELETE"


def test_segments_are_quoted_but_for_the_slash_of_a_backend() -> None:
    assert segment("us-east/a") == "us-east/a"
    assert segment("a?b#c d") == "a%3Fb%23c%20d"


def test_nobody_there_is_exit_code_3_with_a_way_on() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(CliError) as caught:
            admin(url).get("/admin/v1/status")
    assert caught.value.code is Exit.UNREACHABLE
    assert caught.value.message == f"cannot reach the router's admin API at {url}: connection refused"
    assert "router serve" in str(caught.value.hint)
    assert "--admin-url" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("method", "patience_s", "goes_on"), [("get", LOOK_S, False), ("post", WORK_S, True), ("delete", WORK_S, True)]
)
def test_looking_is_given_up_soon_and_changing_something_later(
    method: str, patience_s: float, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patience is asked for; it passes a hundred times as fast here."""
    assert (LOOK_S, WORK_S) == (3.0, 10.0)
    waited: list[float] = []

    def quick(host: str, port: int, *, timeout: float) -> HTTPConnection:
        waited.append(timeout)
        return HTTPConnection(host, port, timeout=timeout / 100)

    monkeypatch.setattr("http.client.HTTPConnection", quick)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        remote = admin(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(CliError, match=f"does not answer: nothing came within {patience_s:g} s") as caught:
            getattr(remote, method)("/admin/v1/status")
    assert caught.value.code is Exit.UNREACHABLE
    assert waited == [patience_s]
    assert ("When it goes on, it does what was asked" in str(caught.value.hint)) is goes_on


def test_a_router_that_takes_no_connection_is_not_said_to_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(self: HTTPConnection) -> None:
        raise TimeoutError

    monkeypatch.setattr(HTTPConnection, "connect", late)
    with pytest.raises(CliError, match="no answer within 3 s; --timeout") as caught:
        admin("http://192.0.2.1:9090").get("/admin/v1/status")
    assert "Start one with" in str(caught.value.hint)


def test_what_is_no_http_is_unreachable_too() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            peer.recv(4096)
            peer.sendall(b"+PONG\r\n")
            peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CliError) as caught:
            admin(f"http://127.0.0.1:{listener.getsockname()[1]}").get("/")
        thread.join()
    assert caught.value.code is Exit.UNREACHABLE


@pytest.mark.parametrize("url", ["127.0.0.1:9090", "ftp://h", "http://", ""])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(CliError) as caught:
        admin(url)
    assert caught.value.code is Exit.USAGE


def test_an_error_keeps_the_words_of_the_router(serve: Serve) -> None:
    body = json.dumps({"error": {"message": "No such request.", "code": "not_found"}}).encode()
    with pytest.raises(StatusError) as caught:
        admin(serve(404, body)).get("/x")
    assert (caught.value.status, caught.value.message, caught.value.code) == (404, "no such request.", Exit.USAGE)


def test_a_missing_token_says_which_flag(serve: Serve) -> None:
    with pytest.raises(StatusError) as caught:
        admin(serve(401, b'{"error":{"message":"no"}}')).get("/x")
    assert caught.value.code is Exit.USAGE
    assert "--admin-token" in str(caught.value.hint)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":"text"}', b"[]"])
def test_an_error_of_somebody_else(serve: Serve, body: bytes) -> None:
    with pytest.raises(StatusError) as caught:
        admin(serve(502, body)).get("/x")
    assert caught.value.status == 502
    assert caught.value.message


def test_an_answer_that_is_not_json(serve: Serve) -> None:
    with pytest.raises(CliError, match="not JSON"):
        admin(serve(200, b"<html>")).get("/x")


@pytest.mark.parametrize("chunks", [1, 7, 10_000])
def test_events_however_they_are_cut(serve: Serve, chunks: int) -> None:
    body = b': hello\n\nevent: request\ndata: {"a":1}\n\ndata: one\r\ndata: two\r\n\r\n\n\ndata: cut off'
    url = serve(200, body, chunks=chunks, content_type="text/event-stream")
    found = [(event.name, event.data) for event in admin(url).tail("/tail")]
    assert found == [("request", '{"a":1}'), ("message", "one\ntwo")]


def _sse(*documents: object, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(document)}\n\n" for document in documents]
    return "".join(lines + ["data: [DONE]\n\n"] * done).encode()


def _delta(text: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


ROUTE = {
    "content_type": "text/event-stream",
    "x_request_id": "req-1",
    "x_router_region": "eu",
    "x_router_backend": "eu/a",
    "x_router_attempts": "2",
}


def test_a_completion_as_it_comes(serve: Serve) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    body = _sse(_delta(""), _delta("Hel"), _delta("lo"), _delta("", "stop"), usage)
    pieces: list[str] = []
    api = connect(serve(200, body, chunks=5, **ROUTE), "key", admin=False)
    answer = complete(api, "m", [{"role": "user", "content": "hi"}], max_tokens=3, on_text=pieces.append)
    assert pieces == ["Hel", "lo"]
    assert (answer.text, answer.backend, answer.region, answer.attempts) == ("Hello", "eu/a", "eu", 2)
    assert (answer.prompt_tokens, answer.output_tokens, answer.finish_reason) == (4, 2, "stop")
    assert answer.ttft_s is not None
    assert answer.document()["request_id"] == "req-1"
    asked = json.loads(serve.seen[0][3])  # type: ignore[attr-defined]
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["max_tokens"] == 3


def test_an_error_in_the_band_is_no_answer(serve: Serve) -> None:
    body = _sse(_delta("Hel"), {"error": {"message": "The backend failed."}}, done=False)
    api = connect(serve(200, body, **ROUTE), None, admin=False)
    with pytest.raises(CliError, match=r"the stream broke: The backend failed\."):
        complete(api, "m", [])


def test_a_stream_that_just_ends_is_no_answer(serve: Serve) -> None:
    api = connect(serve(200, _sse(_delta("Hel"), done=False), **ROUTE), None, admin=False)
    with pytest.raises(CliError, match="ended in the middle"):
        complete(api, "m", [])


def test_a_refused_completion_keeps_its_wait(serve: Serve) -> None:
    url = serve(429, b'{"error":{"message":"Limit reached."}}', retry_after="20")
    with pytest.raises(StatusError) as caught:
        complete(connect(url, None, admin=False), "m", [])
    assert (caught.value.status, caught.value.retry_after_s) == (429, 20.0)


def test_a_router_without_models(serve: Serve) -> None:
    with pytest.raises(CliError, match="serves no model"):
        first_model(connect(serve(200, b'{"data":[]}'), None, admin=False))


def test_a_first_token_may_be_long_in_coming() -> None:
    """The router keeps an answer's head back until its first token: only the connection is waited for by the clock."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            peer.recv(4096)
            time.sleep(0.3)
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
            peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        remote = HttpRemote(url, None, what="the router", hint="", denied="", timeout_s=0.05)
        with remote.stream("/v1/chat/completions", {}) as reply:
            assert (reply.status, reply.body) == (200, {})
        thread.join()


@pytest.mark.parametrize(
    ("message", "param", "told"),
    [
        ("since_s must be a number from 60 to 86400.", "since_s", "--since must be from 1m to 24h."),
        ("for_s must be a number from 1 to 604800.", "for_s", "--for must be from 1s to 7d."),
        ("window_s must be a number from 1 to 900.", "window_s", "--window must be from 1s to 15m."),
        ("limit must be a number from 1 to 5000.", "limit", "--limit must be a number from 1 to 5000."),
        ("in_s says in how many seconds it goes away.", "in_s", "--in says in how many seconds it goes away."),
        ("The model is not known.", "model", "the model is not known."),
        ("HTTP 500", None, "HTTP 500"),
    ],
)
def test_errors_name_the_flag_that_was_typed(message: str, param: str | None, told: str) -> None:
    assert StatusError(400, {"message": message, "param": param}).message == told


def test_the_address_of_clients_is_told_from_that_of_operators(serve: Serve) -> None:
    body = b'{"error": {"message": "There is no such path.", "code": "not_found"}}'
    clients, operators = serve(404, body, x_request_id="req-1"), serve(404, body)
    for url, hint in ((clients, f"{clients} is the address for clients"), (operators, "None")):
        with pytest.raises(StatusError) as refused:
            connect(url, None, admin=True).get("/admin/v1/status")
        assert str(refused.value.hint).startswith(hint)
