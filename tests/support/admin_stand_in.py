"""A tiny admin API over real sockets whose answers a test writes down: ``with StandIn(answers) as admin: admin.url``."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]


@dataclass
class StandIn:
    """``answers``: (method, path) -> document, or (status, document). ``asked`` has every question: method, path, query,
    body. It may ``go_away`` and ``come_back`` at the same address."""

    answers: dict[tuple[str, str], Any]
    asked: list[tuple[str, str, Json, Any]] = field(default_factory=list)
    hold: threading.Event | None = None  # answers wait for it
    _port: int = 0

    def __enter__(self) -> Self:
        self.come_back()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.hold is not None:
            self.hold.set()
        self.go_away()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def come_back(self) -> None:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:  # type: ignore[override]
                pass

            def _answer(self) -> None:
                if stand_in.hold is not None:
                    stand_in.hold.wait(30)
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                parts = urlsplit(self.path)
                stand_in.asked.append((self.command, parts.path, dict(parse_qsl(parts.query)), body))
                found = stand_in.answers.get((self.command, parts.path))
                if found is None:
                    found = (404, {"error": {"message": f"There is no {parts.path}."}})
                status, document = found if isinstance(found, tuple) else (200, found)
                raw = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names of the standard library

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def go_away(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)
