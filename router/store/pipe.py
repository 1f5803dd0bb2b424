"""One connection to a server that carries many pipelines at once; their answers come in the order of the questions.

A far server answers the tenth question one round trip after it was asked, not ten. Of redis-py this uses connections:
how to reach a server, sign in, pack commands and parse answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import ResponseError

from router.store.patience import CONNECT_S
from router.tasks import spawn

#: Pipes to one server: what ends one seldom ends the other.
PIPES = 2
#: A pipe that could not be replaced is not tried again for this long, unless somebody waits for it.
REST_S = 1.0

Words = tuple[Any, ...]
#: Verb -> what makes of its answer what redis-py's own client would give.
Parsers = Mapping[str, Callable[..., Any]]


class _Asked:
    """A pipeline under way."""

    __slots__ = ("commands", "future", "replies", "sent_s")

    def __init__(self, commands: Sequence[Words], loop: asyncio.AbstractEventLoop) -> None:
        self.commands = commands
        self.replies: list[Any] = []
        self.future: asyncio.Future[list[Any]] = loop.create_future()
        self.sent_s = loop.time()


class Pipe:
    """``timed`` hears how long each pipeline took, and when."""

    def __init__(
        self,
        connection: AbstractConnection,
        parsers: Parsers,
        timed: Callable[[float, float], None],
    ) -> None:
        self._connection = connection
        self._parsers = parsers
        self._timed = timed
        self._loop = asyncio.get_running_loop()
        self._asked: deque[_Asked] = deque()
        self._reading: asyncio.Task[None] | None = None
        self.heard_s = 0.0  # when anything last came
        self.open = False

    def __repr__(self) -> str:
        return f"<Pipe {'open' if self.open else 'closed'}, {len(self._asked)} under way>"

    def __len__(self) -> int:
        """How many pipelines are under way."""
        return len(self._asked)

    async def connect(self) -> None:
        await self._connection.connect()  # type: ignore[no-untyped-call]
        self.open = True
        self.heard_s = self._loop.time()
        self._reading = spawn(self._read(), name="store answers")

    async def ask(self, commands: Sequence[Words]) -> list[Any]:
        """The replies; a command that was refused has its error as its reply. Raises what redis-py raises when the
        connection ends. Who gives up waiting harms nobody else."""
        if not self.open:
            raise LostError("the connection is closed")
        if not commands:
            return []
        asked = _Asked(commands, self._loop)
        self._asked.append(asked)
        try:
            packed = self._connection.pack_commands(commands)
            await self._connection.send_packed_command(packed, check_health=False)
        except BaseException as error:
            self._end(error if isinstance(error, Exception) else LostError("a pipeline was not sent whole"))
            raise
        return await asked.future

    def silent_since(self, since_s: float) -> bool:
        return self.heard_s < since_s

    async def close(self) -> None:
        self._end(LostError("the connection was closed"))
        if self._reading is not None:
            self._reading.cancel()
        await self._connection.disconnect(nowait=True)

    async def _read(self) -> None:
        """Until the connection ends, also while nobody asks: then its end is known before the next question."""
        try:
            while True:
                reply = await self._reply()
                self.heard_s = self._loop.time()
                if not self._asked:
                    raise LostError("an answer to no question")
                asked = self._asked[0]
                asked.replies.append(self._parsed(asked.commands[len(asked.replies)][0], reply))
                if len(asked.replies) == len(asked.commands):
                    self._asked.popleft()
                    self._timed(self.heard_s - asked.sent_s, self.heard_s)
                    if not asked.future.done():
                        asked.future.set_result(asked.replies)
        except Exception as error:
            self._end(error)

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(timeout=math.inf)
        except ResponseError as error:
            return error

    def _parsed(self, verb: str, reply: Any) -> Any:
        parser = self._parsers.get(verb)
        return reply if parser is None or isinstance(reply, Exception) else parser(reply)

    def _end(self, error: Exception) -> None:
        """The connection is of no more use: every pipeline under way fails with it."""
        self.open = False
        asked, self._asked = self._asked, deque()
        for each in asked:
            if not each.future.done():
                each.future.set_exception(error)
                each.future.exception()  # somebody may have stopped waiting


class Pipes:
    """A few pipes to one server: when one ends, the others carry on while it is replaced in the background."""

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        parsers: Parsers,
        timed: Callable[[float, float], None],
        *,
        name: str,
    ) -> None:
        self._make = make
        self._parsers = parsers
        self._timed = timed
        self._name = name
        self._pipes: list[Pipe] = []
        self._connecting: asyncio.Task[None] | None = None
        self._next_s = 0.0  # no connection that nobody waits for is tried sooner

    def __repr__(self) -> str:
        return f"<Pipes {self._name} {self._pipes}>"

    @property
    def open(self) -> bool:
        return any(pipe.open for pipe in self._pipes)

    async def ask(self, commands: Sequence[Words]) -> list[Any]:
        pipe = self._quietest()
        if pipe is None:
            await asyncio.shield(self.connect())
            if (pipe := self._quietest()) is None:
                raise LostError("the connection was closed")
        began_s = asyncio.get_running_loop().time()
        try:
            return await pipe.ask(commands)
        except asyncio.CancelledError:  # who asked has waited for too long, or ends
            if pipe.open and pipe.silent_since(began_s):
                await pipe.close()
            raise

    def connect(self) -> asyncio.Task[None]:
        """One more pipe, once at a time."""
        if self._connecting is None or self._connecting.done():
            self._connecting = spawn(self._connect(), name=f"connect {self._name}", expected=(Exception,))
        return self._connecting

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        pipes, self._pipes = self._pipes, []
        for pipe in pipes:
            with contextlib.suppress(Exception):
                await pipe.close()

    def _quietest(self) -> Pipe | None:
        self._pipes = [pipe for pipe in self._pipes if pipe.open]
        if not self._pipes:
            return None
        if len(self._pipes) < PIPES and asyncio.get_running_loop().time() >= self._next_s:
            self._next_s = asyncio.get_running_loop().time() + REST_S
            self.connect()
        return min(self._pipes, key=len)

    async def _connect(self) -> None:
        connection = self._make()
        pipe = Pipe(connection, self._parsers, self._timed)
        try:
            async with asyncio.timeout(CONNECT_S):
                await pipe.connect()
        except BaseException:
            with contextlib.suppress(Exception):
                await connection.disconnect(nowait=True)
            raise
        self._pipes.append(pipe)
