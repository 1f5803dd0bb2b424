"""The way to make a simulated engine misbehave while it runs, and to see what it went through.

``POST /sim/faults`` puts a fault in force (faults.py has the kinds), ``GET`` lists them, ``DELETE /sim/faults/ID`` ends
one. ``GET /sim/state`` and ``/sim/aborts`` tell what happened, ``POST /sim/reset`` starts afresh.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from math import inf
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from sim.faults import KINDS, Fault, FaultError
from sim.shapes.base import Json

if TYPE_CHECKING:
    from sim.engine_http import Server


class Control:
    """The control endpoints of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def apply(self) -> None:
        """Bring what lasts (listener, freeze, slowness) in line with the faults in force, now and when they end."""
        server = self._server
        now_s, faults = server.now_s(), server.faults
        freezes = [f.params["what"] for f in faults.active(now_s) if f.kind == "freeze"]
        server.link.frozen = "process" in freezes
        server.live.freeze(bool(freezes))
        slow = faults.find("slow", now_s)
        server.live.set_slowdown(float(slow.params["factor"]) if slow else 1.0)
        drain = faults.find("drain", now_s)
        how = drain.params["how"] if drain else None
        if faults.find("refuse", now_s) or how in ("error", "silence"):
            server.unlisten()
        elif drain is None:
            server.relisten()
        if how in ("error", "silence"):
            for generation in list(server.generations):
                generation.interrupt(how)
        self.stop()
        end_s = faults.next_end_s(now_s)
        if end_s < inf:
            self._timer = asyncio.get_running_loop().call_at(end_s + 0.001, self.apply)

    async def add_fault(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = orjson.loads(await request.read())
            fault = self._server.faults.add(body if isinstance(body, dict) else {}, self._server.now_s())
        except (FaultError, TypeError, ValueError) as exc:
            kinds = {kind: {"params": params, "does": does} for kind, (params, does) in KINDS.items()}
            return self._server.json({"error": str(exc), "kinds": kinds}, 400)
        self.apply()
        return self._server.json(_shown(fault), 201)

    async def list_faults(self, request: web.BaseRequest) -> web.StreamResponse:
        return self._server.json({"data": [_shown(f) for f in self._server.faults.active(self._server.now_s())]})

    async def remove_fault(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.path.rsplit("/", 1)[1]
        removed = name.isdigit() and self._server.faults.remove(int(name))
        self.apply()
        return self._server.json({"removed": removed}, 200 if removed else 404)

    async def reset(self, request: web.BaseRequest) -> web.StreamResponse:
        """No faults, no cached prefixes, no recorded aborts."""
        self._server.faults.clear()
        self._server.aborts.clear()
        self._server.live.engine.kv.forget()
        self.apply()
        return self._server.json({"reset": True})

    async def aborts(self, request: web.BaseRequest) -> web.StreamResponse:
        return self._server.json({"data": list(self._server.aborts)})

    async def state(self, request: web.BaseRequest) -> web.StreamResponse:
        view = self._server.view()
        return self._server.json(
            {
                "model": self._server.model,
                "engine": self._server.shape.name,
                "profile": self._server.profile.name,
                "rtt_ms": self._server.link.rtt_s * 1000.0,
                "connections": len(self._server.link.connections),
                "requests_total": self._server.requests_total,
                "running": view.running,
                "waiting": view.waiting,
                "kv_ratio": view.kv_ratio,
                "prompt_tokens": view.prompt_tokens,
                "cached_tokens": view.cached_tokens,
                "output_tokens": view.output_tokens,
                "finished": view.finished,
                "rejected": view.rejected,
                "frozen": self._server.live.frozen or self._server.link.frozen,
                "faults": [_shown(f) for f in self._server.faults.active(self._server.now_s())],
                "aborts_total": len(self._server.aborts),
                "aborts": list(self._server.aborts)[-100:],
            }
        )


def _shown(fault: Fault) -> Json:
    shown = asdict(fault)
    left_s = fault.until_s - asyncio.get_running_loop().time()
    del shown["until_s"]
    return shown | {"left_s": None if fault.until_s == inf else max(0.0, left_s)}
