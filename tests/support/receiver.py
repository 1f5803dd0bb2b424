"""A receiver of webhooks: a real HTTP server that checks signatures by the text of Standard Webhooks, not by our code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes of a test secret").decode()


@dataclass
class Receiver:
    """``with Receiver() as receiver``. ``statuses``: of the next answers, then 204. ``got``: every good message;
    ``tried``: ids of all attempts; ``bad``: what is wrong with those that are not good."""

    secret: bytes = base64.b64decode(SECRET.removeprefix("whsec_"))
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    got: list[dict[str, Any]] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks?token=hidden"

    def take(self, headers: Callable[[str], str | None], body: bytes) -> int:
        message_id, at, signed = (headers(f"webhook-{name}") or "" for name in ("id", "timestamp", "signature"))
        self.tried.append(message_id)
        content = f"{message_id}.{at}.".encode() + body
        good = base64.b64encode(hmac.new(self.secret, content, hashlib.sha256).digest()).decode()
        if signed != f"v1,{good}":
            self.bad.append(f"signature {signed}")
            return 401
        if not at.isdigit() or abs(time.time() - int(at)) > 300:
            self.bad.append(f"timestamp {at}")
            return 401
        status = self.statuses.pop(0) if self.statuses else 204
        if status < 300:
            document = json.loads(body)
            assert document["id"] == message_id
            self.got.append(document)
        return status


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(self.headers.get, body)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", receiver.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            receiver.bad.append("a redirect was followed")
            self.send_error(405)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
