"""A simulated engine as an OpenAI and Prometheus endpoint, in real time.

``Server`` owns the socket, the routes and the faults; generation.py is one request to generate.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import random
import struct
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import sqrt
from typing import Any

import orjson
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from sim.control import Control
from sim.engine import Job, Phase
from sim.faults import Faults
from sim.generation import DEAD_ENGINE, Generation, GoneError, Progress, sever
from sim.link import Link, LinkTransport
from sim.live import LiveEngine
from sim.profiles import PROFILES, Profile
from sim.reading import Reader, read_json
from sim.shapes import SHAPES
from sim.shapes.base import Call, EngineView, Histogram, Json, Refusal, RefusedError, Shape
from sim.text import tokenizer

_BODY_BYTES = 64 * 1024 * 1024
_ABORTS_KEPT = 10_000
_STOPPING = "cannot schedule new futures after shutdown"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server:
    """One engine. ``model`` is the only one it serves."""

    def __init__(
        self,
        model: str,
        *,
        engine: str = "vllm",
        profile: str | Profile = "demo",
        rtt_ms: float = 0.0,
        seed: int = 0,
        max_waiting: int | None = None,
        keep_alive_s: float = 5.0,
        on_crash: Callable[[], None] | None = None,
    ) -> None:
        self.profile = PROFILES[profile] if isinstance(profile, str) else profile
        self.model = model
        self.shape: Shape = SHAPES[engine](model, self.profile.context_tokens, self.profile.sequences)
        self.link = Link(rtt_ms / 1000.0)
        self.live = LiveEngine(self.profile)
        self.faults = Faults(seed)
        self.aborts: deque[Json] = deque(maxlen=_ABORTS_KEPT)
        self.requests_total = 0
        self.port = 0
        self._host = "127.0.0.1"
        self._seed = seed
        self._max_waiting = max_waiting
        self._keep_alive_s = keep_alive_s  # 5 s as uvicorn and llama.cpp: a router's pool must let go earlier
        self._on_crash = on_crash
        self._created = int(time.time())
        self.finished_by_reason: dict[str, int] = {}
        self.rejected_total = 0
        self._sampled = 0
        self.generations: set[Generation] = set()
        self._idle: asyncio.Event | None = None  # set when the last generation ends, while draining
        self._stale_metrics: str | None = None
        self._rate_mark = (0.0, 0)
        self.control = Control(self)
        self._histograms = {name: Histogram(bounds) for name, bounds in self.shape.histogram_bounds.items()}
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._posts: dict[str, Handler] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/embeddings": self._embeddings,
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
            "/sim/faults": self.control.add_fault,
            "/sim/reset": self.control.reset,
        }
        self._gets: dict[str, Handler] = {
            "/v1/models": self._models,
            "/health": self._health,
            "/metrics": self._metrics,
            "/sim/state": self.control.state,
            "/sim/aborts": self.control.aborts,
            "/sim/faults": self.control.list_faults,
        }

    # ---- life

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen. Returns the port. Raises OSError when it is taken."""
        self._web = web.Server(
            self._handle,
            handler_cancellation=True,
            keepalive_timeout=self._keep_alive_s,
            access_log=None,
            request_factory=_request,
        )
        self._host = host
        await self._listen(port)
        return self.port

    async def _listen(self, port: int) -> None:
        assert self._web is not None
        inner = self._web
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: self.link.protocol(inner()), self._host, port, backlog=2048, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and drop those that are open."""
        self.control.stop()
        self.link.frozen = False
        self.unlisten()
        for generation in list(self.generations):
            generation.reason = "shutdown"
        if self._web is not None:
            await self._web.shutdown(timeout=0.1)
        await asyncio.sleep(0)

    def relisten(self) -> None:
        """Open the port again, unless it is open, once the event loop comes round to it."""
        if self._listener is None and self._web is not None:
            task = asyncio.get_running_loop().create_task(self._listen(self.port))
            task.add_done_callback(lambda done: done.exception())

    def unlisten(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def drain(self, timeout_s: float = 30.0) -> None:
        """End as this kind of engine does on SIGTERM, at most that late."""
        self.unlisten()
        self.faults.add({"kind": "drain", "how": self.shape.drains_by}, self.now_s())
        self.control.apply()
        if self.generations:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), timeout_s)
        await self.stop()

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    # ---- routes

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests_total += 1
        try:
            handler = self._route(request)
            response = await handler(request)
        except RefusedError as exc:
            response = await self._refusal(request, exc.refusal)
        except GoneError:
            return web.Response()
        limit = self.shape.requests_per_connection
        transport = request.transport
        if limit is not None and isinstance(transport, LinkTransport):
            transport.requests += 1
            if transport.requests >= limit:
                response.force_close()
        return response

    def _route(self, request: web.BaseRequest) -> Handler:
        path, method = request.path, request.method
        if method == "HEAD" and path == "/health" and self.shape.head_health:
            return self._health
        if method == "POST" and (handler := self._posts.get(path)):
            return handler
        if method == "GET" and (handler := self._gets.get(path)):
            return handler
        if method == "DELETE" and path.startswith("/sim/faults/"):
            return self.control.remove_fault
        if method == "GET" and path in self.shape.pages(self.view()):
            return self._page
        if path in self._posts or path in self._gets:
            allow = "POST" if path in self._posts else "GET"
            refusal = self.shape.refuse("method", allow=allow)
        else:
            refusal = self.shape.refuse("path")
        assert refusal is not None
        raise RefusedError(refusal)

    async def _refusal(self, request: web.BaseRequest, refusal: Refusal) -> web.StreamResponse:
        if refusal.fatal:
            self.crash()
            raise GoneError
        headers = self.shape.headers(stream=False, status=refusal.status) | dict(refusal.headers)
        if isinstance(refusal.body, str):
            headers["Content-Type"] = "text/plain; charset=utf-8"
            return web.Response(status=refusal.status, text=refusal.body, headers=headers)
        return self.json(refusal.body, refusal.status, headers)

    def json(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        headers = headers if headers is not None else self.shape.headers(stream=False, status=status)
        headers["Content-Type"] = f"application/json{self.shape.json_suffix}"
        response = web.Response(status=status, body=orjson.dumps(body), headers=headers)
        if headers.get("Connection") == "close":
            response.force_close()
        return response

    async def _body(self, request: web.BaseRequest) -> dict[str, Any]:
        raw = await request.read()
        content_type = request.headers.get("Content-Type", "") if self.shape.minds_content_type else ""
        return read_json(self.shape, raw, content_type)

    # ---- generating

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._body(request)
        return await self._generate(request, Reader(self.shape, body, request.headers).chat())

    async def _completion(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._body(request)
        return await self._generate(request, Reader(self.shape, body, request.headers).completion())

    async def _generate(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        refusal = self._turned_away()
        if refusal is not None:
            if call.stream and refusal.in_band is not None:
                return await self._in_band(request, refusal.in_band)
            raise RefusedError(refusal)
        if self.faults.strike("accept_reset", self.now_s()):
            sever(request, "rst")
        crash = self.faults.strike("crash", self.now_s())
        if crash is not None and crash.params["tokens"] is None:
            self.crash()
            raise GoneError
        if call.stream and (fault := self.faults.strike("in_band_error", self.now_s())):
            message = fault.params["message"] or DEAD_ENGINE
            return await self._in_band(request, self.shape.error_event(message, fault.params["status"]))
        generation = Generation(self, request, call, crash)
        self.generations.add(generation)
        try:
            return await generation.run()
        finally:
            self.generations.discard(generation)
            if not self.generations and self._idle is not None:
                self._idle.set()

    def _turned_away(self) -> Refusal | None:
        """Faults and a full queue answer before anything is generated."""
        now_s = self.now_s()
        if fault := self.faults.strike("error_status", now_s):
            status = int(fault.params["status"])
            refusal = self.shape.refuse("broken", message=fault.params["message"] or DEAD_ENGINE)
            if status == 503:
                refusal = self.shape.refuse("queue_full") or refusal
            assert refusal is not None
            headers: tuple[tuple[str, str], ...] = ()
            if fault.params["retry_after_s"] is not None:
                headers = (("Retry-After", str(fault.params["retry_after_s"])),)
            return replace(refusal, status=status, body=_with_code(refusal.body, status), headers=headers, in_band=None)
        drain = self.faults.find("drain", now_s)
        if drain is not None and drain.params["how"] == "hidden":
            return self.shape.refuse("broken", message=_STOPPING)
        if self._max_waiting is not None and self.live.engine.waiting >= self._max_waiting:
            self.rejected_total += 1
            return self.shape.refuse("queue_full")
        return None

    async def _in_band(self, request: web.BaseRequest, event: Json) -> web.StreamResponse:
        response = web.StreamResponse(headers=self.shape.headers(stream=True, status=200))
        await response.prepare(request)
        await response.write(b"data: " + orjson.dumps(event) + b"\n\n")
        if self.shape.ends_with_done:
            await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def crash(self) -> None:
        if self._on_crash is not None:
            self._on_crash()
        self.unlisten()
        self.link.reset_all()

    def sampling_seed(self, call: Call, index: int) -> int | None:
        """None: the one most likely text. Otherwise a seed of its own for each choice."""
        if not call.sampled:
            return None if index % call.n == 0 else index
        if call.seed is not None:
            return call.seed * 1000 + index
        self._sampled += 1
        return zlib.crc32(f"{self._seed} {self.port} {self._sampled}".encode()) + index

    def finished(self, progress: Progress) -> None:
        reason = progress.choice.finish_reason or "error"
        self.finished_by_reason[reason] = self.finished_by_reason.get(reason, 0) + 1
        job = progress.job
        if job.admitted_s is None or job.first_token_s is None or job.ended_s is None:
            return
        observed = {
            "time_to_first_token_seconds": job.first_token_s - job.submitted_s,
            "e2e_request_latency_seconds": job.ended_s - job.submitted_s,
            "request_queue_time_seconds": job.admitted_s - job.submitted_s,
            "queue_time_seconds": job.admitted_s - job.submitted_s,
            "request_prefill_time_seconds": job.first_token_s - job.admitted_s,
            "request_decode_time_seconds": job.ended_s - job.first_token_s,
        }
        if job.output_tokens > 1:
            observed["inter_token_latency_seconds"] = (job.ended_s - job.first_token_s) / (job.output_tokens - 1)
        for name, value in observed.items():
            if name in self._histograms:
                self._histograms[name].observe(value)

    def aborted(self, call: Call, job: Job, phase: Phase, reason: str) -> None:
        self.aborts.append(
            {
                "at_s": time.time(),
                "id": call.id,
                "reason": reason,
                "phase": phase.value,
                "stream": call.stream,
                "output_tokens": job.aborted_tokens,
            }
        )

    # ---- the rest of the API

    async def _embeddings(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._body(request)
        reader = Reader(self.shape, body, request.headers)
        model, texts = reader.model(), reader.inputs()
        refusal = self._turned_away()
        if refusal is not None:
            raise RefusedError(refusal)
        counts = [len(tokenizer().encode(t)) for t in texts]
        for count in counts:
            if count > self.profile.context_tokens:
                too_long = self.shape.refuse("context", prompt=count, output=0)
                assert too_long is not None
                raise RefusedError(too_long)
        feed = self.live.submit([Job(max(1, count), 0) for count in counts])
        try:
            while not feed.ended:
                await feed.wait()
        finally:
            self.live.close(feed)
        dimensions = int(body.get("dimensions") or 64)
        packed = body.get("encoding_format") == "base64"
        vectors = [_embedding(self.model, text, dimensions, packed) for text in texts]
        return self.json(self.shape.embeddings(model, vectors, sum(counts), int(time.time())))

    async def _tokenize(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._body(request)
        ids = tokenizer().encode(Reader(self.shape, body, request.headers).text())
        strings = None
        if body.get("return_token_strs"):
            strings = [tokenizer().decode((i,)).decode(errors="replace") for i in ids]
        return self.json(self.shape.tokenized(ids, strings))

    async def _detokenize(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._body(request)
        try:
            text = tokenizer().decode(body.get("tokens") or [])
        except (IndexError, TypeError):
            raise RefusedError(
                self.shape.refuse("vocabulary", value=body.get("tokens")) or Refusal(400, "bad tokens")
            ) from None
        return self.json(self.shape.detokenized(text.decode(errors="replace")))

    async def _models(self, request: web.BaseRequest) -> web.StreamResponse:
        return self.json(self.shape.models(self._created))

    async def _page(self, request: web.BaseRequest) -> web.StreamResponse:
        return self.json(self.shape.pages(self.view())[request.path])

    async def _health(self, request: web.BaseRequest) -> web.StreamResponse:
        now_s = self.now_s()
        if fault := self.faults.strike("health", now_s):
            if fault.params["how"] == "hang":
                await asyncio.sleep(max(0.0, min(fault.until_s - now_s, 3600.0)))
            return web.Response(
                status=int(fault.params["status"]), headers=self.shape.headers(stream=False, status=200)
            )
        drain = self.faults.find("drain", now_s)
        if drain is not None and drain.params["how"] == "finish":
            return web.Response(status=503, headers=self.shape.headers(stream=False, status=200))
        if self.shape.health_s:
            await asyncio.sleep(self.shape.health_s)
            await self.live.thawed.wait()
        body = self.shape.health()
        headers = self.shape.headers(stream=False, status=200)
        if body:
            headers["Content-Type"] = "application/json; charset=utf-8"
        return web.Response(body=body, headers=headers)

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        now_s = self.now_s()
        headers = self.shape.headers(stream=False, status=200)
        headers["Content-Type"] = self.shape.metrics_content_type
        fault = self.faults.strike("metrics", now_s)
        how = fault.params["how"] if fault else ""
        now = self.shape.metrics(self.view())
        if how == "missing" or now is None:
            refusal = self.shape.refuse("path")
            assert refusal is not None
            raise RefusedError(refusal)
        if how == "slow" and fault is not None:
            await asyncio.sleep(max(0.0, min(fault.until_s - now_s, 3600.0)))
        if how == "stale" and self._stale_metrics is not None:
            return web.Response(text=self._stale_metrics, headers=headers)
        page = self._stale_metrics = now
        if how == "garbage":
            page = "<html>\x00 502 Bad Gateway {{{ vllm:num_requests_running NaN NaN 1e999\n" * 3
        elif how == "renamed":
            page = page.replace(f"{self.shape.name}:", "renamed:")
        elif how == "huge":
            return await _huge(request, page, headers)
        elif how == "gzip_bomb":
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=gzip.compress(b"# " + b"0" * 100_000_000, 9), headers=headers)
        return web.Response(body=page.encode(), headers=headers)

    def view(self) -> EngineView:
        engine = self.live.engine
        now_s = self.live.now_s()
        output_tokens = engine.output_tokens(now_s)
        marked_s, marked_tokens = self._rate_mark
        elapsed_s = now_s - marked_s
        rate = (output_tokens - marked_tokens) / elapsed_s if elapsed_s > 0 else 0.0
        if elapsed_s > 1.0:
            self._rate_mark = (now_s, output_tokens)
        return EngineView(
            model=self.model,
            running=engine.running,
            waiting=engine.waiting,
            kv_ratio=engine.kv_ratio,
            kv_tokens=self.profile.kv_tokens,
            block_tokens=engine.block_tokens,
            context_tokens=self.profile.context_tokens,
            sequences=self.profile.sequences,
            prompt_tokens=engine.prompt_tokens_total,
            cached_tokens=engine.cached_tokens_total,
            output_tokens=output_tokens,
            iterations=engine.iterations_total,
            output_tokens_per_s=rate,
            finished=self.finished_by_reason,
            rejected=self.rejected_total,
            aborted=len(self.aborts),
            histograms=self._histograms,
        )


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_BODY_BYTES)


def _with_code(body: Json | str, status: int) -> Json | str:
    """The engine's error body with another status in it."""
    if isinstance(body, str):
        return body
    if "code" in body:
        return body | {"code": status}
    return {"error": body["error"] | {"code": status}} if isinstance(body.get("error"), dict) else body


def _embedding(model: str, text: bytes, dimensions: int, packed: bool) -> list[float] | str:
    """A vector of length 1 that depends on model and text only."""
    rng = random.Random(zlib.crc32(text, zlib.crc32(model.encode())))
    raw = [rng.gauss(0.0, 1.0) for _ in range(dimensions)]
    norm = sqrt(sum(x * x for x in raw)) or 1.0
    vector = [x / norm for x in raw]
    if packed:
        return base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
    return vector


async def _huge(request: web.BaseRequest, page: str, headers: dict[str, str]) -> web.StreamResponse:
    """50 MB that begin like a proper page."""
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(page.encode())
    filler = "".join(f'vllm:filler{{n="{i}"}} 1.0\n' for i in range(20_000)).encode()
    for _ in range(50_000_000 // len(filler) + 1):
        await response.write(filler)
    await response.write_eof()
    return response
