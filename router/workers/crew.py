"""Starts the workers, waits until they serve, and replaces those that die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from router import clock
from router.app import STOP_S
from router.config import Config
from router.errors import ConfigError
from router.tasks import spawn, stop
from router.words import plural
from router.workers.admin.links import WorkerGoneError, WorkerLink
from router.workers.board import Board, new_board_file
from router.workers.orders import Orders, share_of

_log = logging.getLogger("router.workers")

START_S = 30.0
#: Pauses before a worker is started again. A worker that has lived for LIVED_S is replaced at once.
_BACKOFF_S = (0.0, 0.1, 0.3, 1.0, 3.0)
_LIVED_S = 10.0
_ABORT_S = 3.0
#: Those that serve drain at most this much later, if others are about to start.
_SETTLE_S, _LOOK_S = 5.0, 0.01


class StartError(Exception):
    """A worker ended before it served. Its reason is in the log."""


class Seat:
    """The place of one worker, which successive processes take.

    Every process has its own socket for operators, so that nobody waits at the socket of a dead process.
    """

    def __init__(self, worker: int, folder: Path) -> None:
        self.worker = worker
        self._folder = folder
        self._path: Path | None = None
        self._processes = 0
        self.link: WorkerLink | None = None
        self.process: Process | None = None
        self.serving = False
        self.served = asyncio.Event()  # for the first time

    def __repr__(self) -> str:
        return f"<Seat {self.worker} pid={self.process.pid if self.process else None} serving={self.serving}>"

    @property
    def starting(self) -> bool:
        """There is a process, or soon will be, that may not accept clients yet."""
        return self.link is not None and not self.serving

    async def open(self) -> socket.socket:
        """The socket for operators of the next process; ``link`` leads there."""
        await self.close()
        self._processes += 1
        self._path = self._folder / f"worker-{self.worker}-{self._processes}.sock"
        admin = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        admin.bind(str(self._path))
        admin.listen(128)
        admin.setblocking(False)
        self.link = WorkerLink(self.worker, str(self._path))
        return admin

    async def close(self) -> None:
        self.serving = False
        if self.link is not None:
            await self.link.close()
            self.link = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


def _temporary_folder() -> Path:
    """For the sockets between workers and their parent. Raises StartError."""
    try:
        return Path(tempfile.mkdtemp(prefix="meridian-"))
    except OSError as error:
        raise StartError(
            f"workers need a temporary folder: {error.strerror}. Set TMPDIR to one that can be written."
        ) from None


class Crew:
    """The workers of one router. Make it inside a running loop.

    ``config`` is given to new workers, and ``redis`` is the URL of the store they share. ``welcome`` tells a worker
    everything else that the others know, before it counts as serving.
    """

    def __init__(
        self,
        config: Config,
        clients: socket.socket,
        *,
        redis: str | None,
        human: bool,
        welcome: Callable[[WorkerLink], Awaitable[None]],
    ) -> None:
        self._config = config
        self._generation = 1
        self._clients = clients
        self._redis = redis
        self._welcome = welcome
        self._human = human
        workers = config.router.workers
        self._folder = _temporary_folder()
        self._seats = [Seat(worker, self._folder) for worker in range(workers)]
        self._board_fd = new_board_file(workers)
        self._board = Board(self._board_fd, workers)
        self._changing = asyncio.Lock()  # a worker that starts during a reload must not miss it
        self._stopping = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self.deaths = 0

    def __repr__(self) -> str:
        return f"<Crew {self._seats!r}>"

    def links(self) -> list[WorkerLink]:
        """The workers that serve now."""
        return [seat.link for seat in self._seats if seat.serving and seat.link is not None]

    async def start(self, stopping: asyncio.Event) -> None:
        """Returns when all workers serve, or as soon as ``stopping``. Raises StartError."""
        self._keepers = [spawn(self._keep(s), name=f"worker {s.worker}", expected=(StartError,)) for s in self._seats]
        everyone = spawn(self._all_served(), name="start of the workers")
        told_to_stop = spawn(stopping.wait(), name="end of the start")
        waiting: list[asyncio.Task[Any]] = [everyone, told_to_stop, *self._keepers]
        done, _ = await asyncio.wait(waiting, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        await stop(everyone, told_to_stop)
        if not done:
            raise StartError(f"the workers did not start within {START_S:g} s")
        for keeper in self._keepers:
            if keeper.done():
                await keeper

    async def _all_served(self) -> None:
        for seat in self._seats:
            await seat.served.wait()

    async def stop(self, timeout_s: float) -> None:
        """Let the workers drain, which takes them up to ``timeout_s``."""
        self._stopping.set()
        early = [seat for seat in self._seats if seat.starting]
        for seat in early:
            seat.send(signal.SIGTERM)
        await self._settled(early)
        for seat in self._seats:
            if seat not in early:
                seat.send(signal.SIGTERM)
        await self._wait_for_end(timeout_s + STOP_S)
        await stop(*self._keepers)
        for seat in self._seats:
            await seat.close()
        self._board.close()
        os.close(self._board_fd)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _settled(self, early: list[Seat]) -> None:
        """Wait until those that were about to start have ended, or serve and drain.

        They have the socket that clients connect to. If one of them were the last to close it and did not accept, the
        clients in the system's queue would be reset: meanwhile the others serve them.
        """
        until_s = clock.monotonic_s() + _SETTLE_S
        while any(seat.starting for seat in early) and clock.monotonic_s() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    async def abort(self) -> None:
        """While they drain: end at once."""
        for seat in self._seats:
            seat.send(signal.SIGTERM)
        await asyncio.sleep(_ABORT_S)
        for seat in self._seats:
            seat.send(signal.SIGKILL)

    async def adopt(self, config: Config, generation: int) -> None:
        """Put a configuration in force in all workers. Raises ConfigError if one of them refuses."""
        async with self._changing:
            before = self._config, self._generation
            self._config, self._generation = config, generation
            problems = await asyncio.gather(*(self._tell(seat) for seat in self._seats if seat.serving))
            if refusals := [problem for problem in problems if problem is not None]:
                self._config, self._generation = before
                raise ConfigError(config.source, refusals)

    async def _tell(self, seat: Seat) -> str | None:
        config = share_of(self._config, seat.worker, redis=self._redis)
        if seat.link is None:
            return None
        try:
            problem = await seat.link.adopt(config, self._generation)
        except WorkerGoneError:
            await asyncio.sleep(
                0.05
            )  # if it has died, that is known by then; its successor starts with the new configuration
            problem = "does not answer" if seat.process is not None and seat.process.returncode is None else None
        return f"{config.source}: worker {seat.worker}: {problem}" if problem is not None else None

    async def _keep(self, seat: Seat) -> None:
        """Keep a process in the seat until the crew stops."""
        failures = 0
        while not self._stopping.is_set():
            began_s = clock.monotonic_s()
            process = await self._launch(seat)
            code = await process.wait()
            self._board.leave(seat.worker)
            await seat.close()
            if self._stopping.is_set():
                return
            if not seat.served.is_set():
                raise StartError(f"worker {seat.worker} did not start")
            self.deaths += 1
            failures = failures + 1 if clock.monotonic_s() - began_s < _LIVED_S else 0
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            _log.error("worker %d (process %d) has died of %s; it is replaced", seat.worker, process.pid, how)
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])

    async def _launch(self, seat: Seat) -> Process:
        """Start a process and tell it what to do. Returns when it serves, or has ended without."""
        async with self._changing:
            generation = self._generation
            process = seat.process = await self._spawn(seat)
        if self._stopping.is_set():
            seat.send(signal.SIGTERM)
        assert process.stdout is not None
        try:
            said = await asyncio.wait_for(process.stdout.readline(), START_S)
        except TimeoutError:
            _log.error("worker %d does not start; it is killed", seat.worker)
            seat.send(signal.SIGKILL)
            return process
        if said != b"ready\n":
            return process
        async with self._changing:
            if generation != self._generation and (problem := await self._tell(seat)) is not None:
                _log.error("%s; it is replaced", problem)
                seat.send(signal.SIGKILL)
                return process
            if seat.link is not None:
                await self._welcome(seat.link)
            seat.serving = True
            seat.served.set()
        return process

    async def _spawn(self, seat: Seat) -> Process:
        admin = await seat.open()
        orders = Orders(
            worker=seat.worker,
            config=share_of(self._config, seat.worker, redis=self._redis),
            generation=self._generation,
            human=self._human,
            clients_fd=self._clients.fileno(),
            admin_fd=admin.fileno(),
            board_fd=self._board_fd,
            seats=len(self._seats),
        )
        flags = ["-X", "dev"] if sys.flags.dev_mode else []
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *flags,
                "-m",
                "router.workers",
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=(orders.clients_fd, orders.admin_fd, orders.board_fd),
            )
        finally:
            admin.close()
        assert process.stdin is not None
        process.stdin.write(orders.encode())  # it stays open: its end tells the worker that the parent is gone
        return process

    async def _wait_for_end(self, timeout_s: float) -> None:
        _, late = await asyncio.wait(self._keepers, timeout=timeout_s) if self._keepers else ((), ())
        if late:
            _log.error("killed because of not ending in time: %s", plural(len(late), "worker"))
            for seat in self._seats:
                seat.send(signal.SIGKILL)
            await asyncio.wait(late)
