"""One request to generate: from its jobs to its last byte, with what the faults make of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from sim.engine import Job, Phase
from sim.faults import Fault
from sim.link import LinkTransport
from sim.live import Feed
from sim.shapes.base import Call, Choice, EngineView, Json, Piece, RefusedError
from sim.text import Answer, answer, tokenizer

if TYPE_CHECKING:
    from sim.engine_http import Server

DEAD_ENGINE = "EngineCore encountered an issue. See stack trace (above) for the root cause."
_SILENCE_S = 30.0  # how long llama.cpp's streams hang after SIGTERM


class GoneError(Exception):
    """The connection was severed on purpose: nothing more is to be said on it."""


class _EndedError(Exception):
    """The answer was ended before its end, in an orderly way."""


@dataclass(slots=True)
class Progress:
    """One choice on its way out."""

    choice: Choice
    job: Job
    answer: Answer
    prompt_ids: list[int]
    hold_characters: int  # text held back because a stop string might still complete
    sent: int = 0
    held: str = ""

    @property
    def ended(self) -> bool:
        return self.choice.finish_reason is not None


def sever(request: web.BaseRequest, how: str) -> None:
    """Cut the connection (``rst``, or ``fin`` in the middle of the message) and raise GoneError."""
    transport = request.transport
    if isinstance(transport, LinkTransport):
        if how == "rst":
            transport.reset()
        else:
            transport.close()
    raise GoneError


def _chain(ids: list[int], size: int) -> list[int]:
    """Chained hashes of the whole blocks of ``size`` tokens."""
    blocks = []
    before = 0
    for at in range(0, len(ids) - size + 1, size):
        before = hash((before, *ids[at : at + size]))
        blocks.append(before)
    return blocks


def _orca(wanted: str, view: EngineView) -> str:
    if wanted == "TEXT":
        return (
            f"TEXT named_metrics.num_requests_waiting={float(view.waiting)}, "
            f"named_metrics.kv_cache_usage_perc={view.kv_ratio}"
        )
    named = {"num_requests_waiting": float(view.waiting), "kv_cache_usage_perc": view.kv_ratio}
    return "JSON " + orjson.dumps({"named_metrics": named}).decode()


class Generation:
    """One request to generate: its jobs, its faults, its bytes."""

    def __init__(self, server: Server, request: web.BaseRequest, call: Call, crash: Fault | None) -> None:
        self.reason = "client_gone"  # why its jobs are aborted, if they are
        self._server = server
        self._shape = server.shape
        self._request = request
        self._call = call
        self._faults: list[tuple[int, Fault]] = []
        if crash is not None:
            self._faults.append((int(crash.params["tokens"]), crash))
        self._going_down: str | None = None
        self._response: web.StreamResponse | None = None
        self._raw = False  # headers are out without framing: the close is the end
        self._drip_s = 0.0
        self._mark = b"data: [DONE]\n\n" if self._shape.ends_with_done else b""
        self._progress = [self._begin(i) for i in range(len(call.contexts) * call.n)]
        self._feed: Feed | None = None

    def _begin(self, index: int) -> Progress:
        call, server = self._call, self._server
        prompt = index // call.n
        ids = call.prompt_ids[prompt]
        written = answer(
            server.model,
            call.contexts[prompt],
            call.max_tokens,
            seed=server.sampling_seed(call, index),
            stop=call.stop,
            ignore_eos=call.ignore_eos,
        )
        size = server.live.engine.block_tokens
        blocks = _chain(ids + written.ids, size)
        prompt_blocks = len(ids) // size
        job = Job(max(1, len(ids)), len(written.ids), blocks[:prompt_blocks], blocks[prompt_blocks:])
        choice = Choice(index, prompt_tokens=len(ids))
        hold = max((len(s) for s in call.stop), default=1) - 1
        progress = Progress(choice, job, written, ids, hold)
        if call.echo:
            progress.held = call.contexts[prompt].decode(errors="replace")
        return progress

    def interrupt(self, how: str) -> None:
        """The engine is going down: ``error`` ends the answer with an error, ``silence`` leaves it hanging."""
        self.reason = "shutdown"
        self._going_down = how
        if self._feed is not None:
            self._feed.wake()

    async def run(self) -> web.StreamResponse:
        server = self._server
        self._feed = server.live.submit([p.job for p in self._progress])
        completed = False
        try:
            response = await (self._stream() if self._call.stream else self._whole())
            completed = True
            return response
        except ConnectionError:
            raise GoneError from None
        except GoneError:
            self.reason = "fault"
            raise
        except _EndedError:
            self.reason = "fault"
            assert self._response is not None
            return self._response
        finally:
            if completed or self._call.stream or self._shape.aborts_unstreamed or self.reason != "client_gone":
                self._close()

    def _close(self) -> None:
        assert self._feed is not None
        phases = {id(job): job.phase for job in self._feed.jobs}
        for job in self._server.live.close(self._feed):
            self._server.aborted(self._call, job, phases[id(job)], self.reason)

    async def _news(self) -> str | None:
        """Wait for the next tokens; the way of going down if that comes first."""
        assert self._feed is not None
        if self._going_down is None:
            await self._feed.wait()
        return self._going_down

    # ---- whole answers

    async def _whole(self) -> web.StreamResponse:
        server = self._server
        if fault := server.faults.strike("stall_before_first_token", server.now_s()):
            await asyncio.sleep(float(fault.params["stall_s"]))
        assert self._feed is not None
        while not self._feed.ended:
            how = await self._news()
            if how == "silence":
                await asyncio.sleep(_SILENCE_S)
                sever(self._request, "fin")
            if how == "error":
                refusal = self._shape.refuse("broken", message=DEAD_ENGINE)
                assert refusal is not None
                raise RefusedError(refusal)
        if server.faults.strike("cut_after_tokens", server.now_s()):
            sever(self._request, "fin")
        for progress in self._progress:
            choice = progress.choice
            choice.text = progress.held
            for i, token in enumerate(progress.answer.ids):
                choice.text += progress.answer.texts[i]
                choice.ids.append(token)
                choice.logprobs.append(self._logprob(token))
            self._settle(progress, len(progress.answer.ids))
            self._end(progress)
        headers = self._shape.headers(stream=False, status=200)
        wanted = self._request.headers.get("endpoint-load-metrics-format")
        if self._shape.reports_load and wanted in ("JSON", "TEXT"):
            headers["endpoint-load-metrics"] = _orca(wanted, server.view())
        return server.json(self._shape.answer(self._call, [p.choice for p in self._progress]), 200, headers)

    # ---- streams

    async def _stream(self) -> web.StreamResponse:
        server = self._server
        self._strike_stream_faults()
        if self._shape.headers_at_once:
            await self._open()
        if fault := server.faults.strike("stall_before_first_token", server.now_s()):
            await asyncio.sleep(float(fault.params["stall_s"]))
        while not all(p.ended for p in self._progress):
            how = await self._news()
            if how is not None:
                return await self._go_down(how)
            await self._send_new()
        events = self._shape.last_events(self._call, [p.choice for p in self._progress])
        await self._write([events] if events else [], self._mark)
        if self._raw:
            sever(self._request, "fin")
        assert self._response is not None
        await self._response.write_eof()
        return self._response

    def _strike_stream_faults(self) -> None:
        server = self._server
        now_s = server.now_s()
        for kind in ("cut_after_tokens", "stall_after_tokens", "garbage_line"):
            if fault := server.faults.strike(kind, now_s):
                self._faults.append((int(fault.params["tokens"]), fault))
                self._raw |= fault.params.get("how") == "close_delimited"
        if fault := server.faults.strike("drip", now_s):
            self._drip_s = float(fault.params["gap_s"])

    async def _open(self) -> None:
        headers = self._shape.headers(stream=True, status=200)
        self._response = web.StreamResponse(headers=headers)
        if self._raw:
            lines = ["HTTP/1.1 200 OK", *(f"{k}: {v}" for k, v in headers.items()), "Connection: close", "", ""]
            self._transport().write("\r\n".join(lines).encode())
        else:
            await self._response.prepare(self._request)

    def _transport(self) -> LinkTransport:
        transport = self._request.transport
        if not isinstance(transport, LinkTransport):
            raise GoneError
        return transport

    async def _write(self, chunks: list[list[Json]], end: bytes = b"") -> None:
        """Each list of events is a chunk of its own."""
        if self._response is None:
            await self._open()
        assert self._response is not None
        writes = [b"".join(b"data: " + orjson.dumps(e) + b"\n\n" for e in chunk) for chunk in chunks if chunk]
        if end:
            writes.append(end)
        for data in writes:
            if self._raw:
                self._transport().write(data)
            else:
                await self._response.write(data)

    async def _send_new(self) -> None:
        """Everything that has been generated since the last time."""
        server = self._server
        engine, now_s = server.live.engine, server.live.now_s()
        behind = True
        while behind:
            behind = False
            for progress in self._progress:
                job = progress.job
                done = job.phase is Phase.DONE
                there = engine.generated(job, now_s)
                if progress.ended or (progress.sent >= there and not done):
                    continue
                await self._misbehave(progress)
                await self._write(self._shape.events(self._call, self._next_piece(progress)))
                behind = behind or progress.sent < there
                if self._drip_s > 0.0 and not progress.ended:
                    await asyncio.sleep(self._drip_s)

    def _next_piece(self, progress: Progress) -> Piece:
        choice, written = progress.choice, progress.answer
        i = progress.sent
        first = i == 0
        ids: list[int] = []
        if i < len(written.ids):
            ids = [written.ids[i]]
            progress.held += written.texts[i]
            progress.sent += 1
        self._settle(progress, progress.sent)
        if progress.sent >= len(written.ids):
            self._end(progress)
            text, progress.held = progress.held, ""
        else:
            cut = len(progress.held) - progress.hold_characters
            text = progress.held[: max(0, cut)]
            progress.held = progress.held[max(0, cut) :]
        choice.text += text
        logprobs = [self._logprob(t) for t in ids] if self._call.logprobs is not None else None
        return Piece(choice, text, ids, logprobs, first, progress.prompt_ids)

    def _settle(self, progress: Progress, output_tokens: int) -> None:
        choice, job = progress.choice, progress.job
        choice.output_tokens = output_tokens
        choice.cached_tokens = job.cached_tokens
        first_s = job.first_token_s if job.first_token_s is not None else self._server.live.now_s()
        choice.prefill_s = first_s - (job.admitted_s if job.admitted_s is not None else first_s)
        choice.decode_s = (job.ended_s if job.ended_s is not None else self._server.live.now_s()) - first_s

    def _end(self, progress: Progress) -> None:
        progress.choice.finish_reason = progress.answer.finish_reason
        progress.choice.stop_reason = progress.answer.stop_reason
        self._server.finished(progress)

    def _logprob(self, token: int) -> Json:
        """Made up, but the same for the same token."""
        tops = max(0, self._call.logprobs or 0)
        text = tokenizer().decode((token,))
        value = -(token % 997) / 500.0
        entry = self._shape.logprob(token, text, value)
        return entry | {"top_logprobs": [self._shape.logprob(token, text, value - k) for k in range(tops)]}

    # ---- going wrong

    async def _misbehave(self, progress: Progress) -> None:
        """What the faults have in store before the next token of the first choice."""
        if progress.choice.index != 0:
            return
        for at, fault in [f for f in self._faults if f[0] <= progress.sent]:
            self._faults.remove((at, fault))
            if fault.kind == "stall_after_tokens":
                await asyncio.sleep(float(fault.params["stall_s"]))
            elif fault.kind == "garbage_line":
                await self._write([], str(fault.params["line"]).encode() + b"\n\n")
            elif fault.kind == "crash":
                self._server.crash()
                raise GoneError
            else:
                await self._cut(progress, str(fault.params["how"]))

    async def _cut(self, progress: Progress, how: str) -> None:
        if how == "error_done":
            await self._write([[self._shape.error_event(DEAD_ENGINE, 500)]], self._mark)
        elif how == "truncated":
            whole = b"".join(
                b"data: " + orjson.dumps(e)
                for c in self._shape.events(self._call, self._next_piece(progress))
                for e in c
            )
            await self._write([], whole[: len(whole) * 2 // 3])
        if how in ("clean", "error_done"):
            if self._response is None:
                await self._open()
            assert self._response is not None
            await self._response.write_eof()
        # A whole message may keep its connection; the others end with it.
        if how not in ("clean", "error_done"):
            sever(self._request, "rst" if how == "rst" else "fin")
        raise _EndedError

    async def _go_down(self, how: str) -> web.StreamResponse:
        if how == "silence":
            await asyncio.sleep(_SILENCE_S)
            await self._write([], b":\n\n")
            sever(self._request, "fin")
        await self._write([[self._shape.error_event(DEAD_ENGINE, 500)]], self._mark)
        assert self._response is not None
        await self._response.write_eof()
        return self._response
