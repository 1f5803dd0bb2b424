"""The clients' listener: turns connections into exchanges, answers the plain GET paths, drains."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import orjson

from router import clock
from router.config import Config
from router.errors import RouterError
from router.gateway import responses
from router.gateway.answer import Answer
from router.gateway.cors import ALLOWED_METHODS, origin_in
from router.gateway.envelope import Envelope, envelope_of
from router.gateway.error_shapes import Dialect, dialect_of, error_body
from router.gateway.exchange import ClientGone, Exchange
from router.gateway.lifecycle import Lifecycle
from router.gateway.pages import models_page, state_page
from router.gateway.paths import PING, Own, kept_methods, model_of, own, path_of, takes_posts
from router.gateway.readers import DeafReaders
from router.gateway.tls import ServerTls
from router.tasks import stop, supervise
from router.telemetry.journal import Record
from router.telemetry.sink import Telemetry
from router.wire.acceptor import Acceptor
from router.wire.descriptors import Descriptors
from router.wire.flow import Flow
from router.wire.gate import ClientLimits, Gate
from router.wire.inbound import Inbound, InboundRequest

_log = logging.getLogger("router.gateway")

SWEEP_S = 0.05
#: A connection on which nothing has happened for this long has no request on its way.
FAREWELL_S = 1.0
_LOOK_S = 0.05
#: Clients that are about to connect here, when others are sent elsewhere, are here by then.
_HANDSHAKES_S = 1.0
_HANDSHAKE_TIMEOUT_S = 8.0
_TLS_CLOSE_TIMEOUT_S = 2.0
_GET = (b"GET", b"HEAD")


def limits_of(config: Config) -> ClientLimits:
    return ClientLimits(
        head_bytes=config.limits.head_bytes,
        headers=config.limits.headers,
        body_bytes=config.limits.body_bytes,
        buffered_bytes=config.limits.buffered_bytes,
        connections=config.limits.connections,
        body_timeout_s=config.timeouts.request_body,
        stall_s=config.timeouts.client_stall,
        body_bytes_per_s=config.limits.body_bytes_per_s,
        body_whole_s=config.timeouts.request_body_whole,
    )


#: More connections to backends than a process can have.
_UNKNOWN = 2**31


def _descriptors_of(config: Config) -> Descriptors:
    """Nobody knows how many backends a source will find: then clients get half."""
    most = _UNKNOWN if config.sources else sum(backend.max_inflight for backend in config.backends)
    return Descriptors(most)


class Server:
    """Listens, accepts, and hands each request to the lifecycle (a wire.inbound.Handler)."""

    def __init__(
        self, config: Config, lifecycle: Lifecycle, telemetry: Telemetry, not_ready: Callable[[], str | None]
    ) -> None:
        """``not_ready`` says why this router should get no traffic, or None."""
        self.gate: Gate[Inbound] = Gate(limits_of(config), clock.monotonic_s)
        self._lifecycle = lifecycle
        self._telemetry = telemetry
        self._tracing = telemetry.tracing
        self._not_ready = not_ready
        self.acceptor: Acceptor | None = None
        self._descriptors = _descriptors_of(config)
        self._deaf = DeafReaders()
        self.hurry = False  # the drain is over, whatever runs
        self._sweeper: asyncio.Task[None] | None = None
        self._id_prefix = b"req-%b-" % os.urandom(6).hex().encode()
        self._id_count = 0
        self._tls: ServerTls | None = None

    # life

    def start(self, listener: socket.socket | None, tls: ServerTls | None = None) -> None:
        """Serve the clients of a listener. None: whoever accepts them hands them to ``adopt``."""
        self._tls = tls
        if listener is not None:
            self.acceptor = Acceptor(listener, self, adopt=self.adopt)
            self.acceptor.start()
        self._sweeper = supervise(self._sweep, name="sweep connections")

    async def adopt(self, client: socket.socket) -> None:
        """Serve a client that was accepted elsewhere. Raises OSError when it is gone or does not speak TLS."""
        tls = self._tls.context if self._tls is not None else None
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: Inbound(self.gate, self),
            client,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S if tls is not None else None,
            ssl_shutdown_timeout=_TLS_CLOSE_TIMEOUT_S if tls is not None else None,
        )

    async def drain(self, timeout_s: float, *, lead_s: float = 0.0) -> bool:
        """Serve on for ``lead_s``, with answers that end their connections; then stop accepting, and let running
        requests end. True if all did within ``timeout_s``; the rest is cut off.

        A kept connection on which nothing happens is closed only when it has been quiet for FAREWELL_S: before that, a
        request may be on its way. It gets its answer.
        """
        self.gate.closing = True
        self._lifecycle.say_goodbye()
        began_s = clock.monotonic_s()
        if self.acceptor is not None and self.acceptor.pass_on():
            lead_s = max(lead_s, _HANDSHAKES_S)
        await self._wait(lambda: False, began_s + lead_s)
        if self.acceptor is not None:
            self.acceptor.close()
        deadline_s = clock.monotonic_s() + timeout_s
        await self._wait(lambda: self._all_left(began_s), deadline_s)
        clean = not self._lifecycle.live
        for x in list(self._lifecycle.live):
            if x.flow is not None:
                x.flow.throw(RouterError("shutting_down"))
        await asyncio.sleep(0)
        for connection in list(self.gate.connections):
            connection.close()
        await stop(self._sweeper)
        return clean

    async def _wait(self, over: Callable[[], bool], until_s: float) -> None:
        while not over() and not self.hurry and clock.monotonic_s() < until_s:  # noqa: ASYNC110 - an event would cost each request
            await asyncio.sleep(_LOOK_S)

    def _all_left(self, began_s: float) -> bool:
        """Close the connections that are quiet; whether none is left. ``began_s``: since when answers say goodbye."""
        quiet_s = clock.monotonic_s() - FAREWELL_S
        if quiet_s >= began_s:
            self.gate.close_quiet(quiet_s)
        arriving = self.acceptor is not None and self.acceptor.arriving
        return not (arriving or self._lifecycle.live or self.gate.connections)

    def reload(self, config: Config) -> None:
        self._descriptors = _descriptors_of(config)
        self.gate.reload(limits_of(config))

    # wire.acceptor.Room

    def has_room(self, arriving: int, fd: int) -> bool:
        descriptors = self._descriptors
        if len(self.gate.connections) + arriving >= descriptors.clients_max:
            return False
        return fd < descriptors.top and (fd >= 0 or not descriptors.scarce())

    def make_room(self) -> None:
        """Clients that keep a connection without using it leave for those who wait; so do our own to backends."""
        self.gate.close_quiet(clock.monotonic_s() - FAREWELL_S)
        self._lifecycle.close_idle()

    def _end_deaf_readers(self) -> None:
        """Requests wait for places, and clients that do not read hold some."""
        backends = self._lifecycle.fleet.backends

        def places(name: str) -> float:
            return backends[name].capacity.limit if name in backends else 0.0

        for connection in self._deaf.excess(self.gate.stalled, places, clock.monotonic_s()):
            connection.reset()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.gate.sweep()
            if self.gate.stalled and self._lifecycle.waiting:
                self._end_deaf_readers()
            self._lifecycle.sweep()

    # wire.inbound.Handler

    def begin(self, connection: Inbound, request: InboundRequest) -> None:
        envelope = envelope_of(request.head)
        request_id = envelope.request_id or self._new_id()
        if not envelope.routed:
            Flow(self._plain(connection, request, envelope, request_id)).step()
            return
        record = Record(
            request_id.decode(),
            clock.wall_s(),
            None if envelope.parent is None else envelope.parent.trace_id,
            path=envelope.shown_path,
            body_bytes=len(request.body),
            client_region=envelope.client_region,
        )
        if self._tracing.on:
            record.trace = self._tracing.begin(envelope.parent)
            record.trace_id = record.trace.trace_id
        if envelope.kept is not None:
            record.method = envelope.method.decode()
        answer = Answer(connection, request.head)
        x = Exchange(answer, request, envelope, request_id, clock.monotonic_s(), record)
        connection.exchange = x
        self._lifecycle.live.add(x)
        x.flow = Flow(self._lifecycle.serve(x))
        x.flow.step()

    def refuse(self, connection: Inbound, code: str, detail: str) -> None:
        error, request_id = RouterError(code, detail), self._new_id()
        lines = [b"x-request-id: %b\r\n" % request_id, *responses.error_headers(error)]
        head, dialect = connection.head, Dialect.OPENAI
        if head is not None:  # of a request whose body is refused
            dialect, origin = dialect_of(path_of(head.target), head.headers), head.headers.get(b"origin")
        else:
            origin = origin_in(connection.unread)
        lines.append(self._lifecycle.force.settings.cors.lines(origin))
        body = error_body(error, dialect, request_id)
        date = self._lifecycle.date
        connection.write(responses.plain(error.status, body, date=date, keep_alive=False, lines=lines))
        record = Record(request_id.decode(), clock.wall_s(), status=error.status, error=code, cause="refused")
        record.path = record.method = "-"
        self._telemetry.request_done(record)

    def lost(self, connection: Inbound) -> None:
        x = connection.exchange
        if isinstance(x, Exchange) and x.flow is not None:
            x.flow.throw(ClientGone())

    def writable(self, connection: Inbound, ready: bool) -> None:
        x = connection.exchange
        if isinstance(x, Exchange) and x.relay is not None and x.relay.committed:
            x.relay.pause(not ready)

    def _new_id(self) -> bytes:
        self._id_count += 1
        return b"%b%x" % (self._id_prefix, self._id_count)

    # paths that need no backend

    async def _plain(self, connection: Inbound, request: InboundRequest, envelope: Envelope, request_id: bytes) -> None:
        cors = self._lifecycle.force.settings.cors
        extra = [cors.lines(envelope.origin)]
        try:
            if request.method == b"OPTIONS":
                asked = request.headers.get(b"access-control-request-headers")
                extra += (b"allow: %b\r\n" % ALLOWED_METHODS, cors.preflight(envelope.origin, asked))
                status, body = 200, b""
            else:
                status, document = await self._document(request, envelope)
                body = orjson.dumps(document)
        except RouterError as error:
            status = error.status
            body = error_body(error, envelope.dialect, request_id)
            extra += responses.error_headers(error)
        if connection not in self.gate.connections:
            return
        keep_alive = request.keep_alive and not self.gate.closing
        connection.write(
            responses.plain(
                status,
                body,
                date=self._lifecycle.date,
                keep_alive=keep_alive,
                http11=request.head.http11,
                lines=[b"x-request-id: %b\r\n" % request_id, *extra],
                head=request.method == b"HEAD",
            )
        )
        connection.finish(keep_alive)

    async def _document(self, request: InboundRequest, envelope: Envelope) -> tuple[int, dict[str, Any]]:
        """It waits for nothing but the keys that say who asks. Raises RouterError."""
        path, method = envelope.path, request.method
        what = own(path)
        if what is None:
            raise _no_such(path, method)
        if method not in _GET and not (method == b"POST" and path == PING):
            raise RouterError("method_not_allowed", headers=(("allow", "GET, HEAD"),))
        if what is not Own.MODELS:
            return state_page(what, self._not_ready())
        authenticator = self._lifecycle.force.settings.authenticator
        key = authenticator.key_of(envelope.secret) or await authenticator.key_soon(envelope.secret)
        return 200, models_page(self._lifecycle.models_for(key), model_of(path))


def _no_such(path: bytes, method: bytes) -> RouterError:
    """Why nobody answers to this method here."""
    if (methods := kept_methods(path)) or takes_posts(path):
        return RouterError("method_not_allowed", headers=(("allow", (methods or b"POST").decode()),))
    if method not in _GET:
        return RouterError("method_not_allowed", headers=(("allow", ALLOWED_METHODS.decode()),))
    return RouterError("not_found")
