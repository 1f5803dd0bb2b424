"""Makes a TCP connection to the first address that accepts it (happy eyeballs, RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from router.tasks import spawn
from router.wire.names import Address, Name
from router.wire.sockets import SHORTAGE, tune

#: After this long the next address is tried as well, beside the one that is silent.
DELAY_S = 0.2


async def dial(name: Name, port: int, first: Address | None = None) -> tuple[socket.socket, Address]:
    """A connected socket and the address it leads to, which is ``first`` unless that fails or is slow. Addresses that
    failed or were overtaken are avoided for a while. The time limit is the caller's. Raises OSError."""
    await name.resolve()
    addresses = name.in_order(first)
    if len(addresses) == 1:
        return await _connect(addresses[0], port), addresses[0]
    return await _race(name, addresses, port)


async def _race(name: Name, addresses: Sequence[Address], port: int) -> tuple[socket.socket, Address]:
    waiting = list(reversed(addresses))
    trying: dict[asyncio.Task[socket.socket], Address] = {}  # in the order in which they were started
    failure: OSError | None = None
    try:
        while waiting or trying:
            if waiting:
                address = waiting.pop()
                task = spawn(_connect(address, port), name=f"dial {name.host}", expected=(OSError,))
                trying[task] = address
            timeout_s = DELAY_S if waiting else None
            done, _ = await asyncio.wait(trying, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for task in [t for t in trying if t in done]:
                if (error := task.exception()) is None:
                    address = trying.pop(task)
                    later = addresses[addresses.index(address) :]
                    for rival in [t for t, a in trying.items() if a in later]:
                        _give_up(rival)
                        del trying[rival]
                    return task.result(), address
                if not isinstance(error, OSError):
                    raise error
                if error.errno in SHORTAGE:
                    raise _afresh(error)
                name.avoid(trying.pop(task))
                failure = error
    finally:
        for task, slow in trying.items():  # overtaken, or still silent when the caller's time was over
            name.avoid(slow)
            _give_up(task)
    raise OSError("no address") if failure is None else _afresh(failure)


def _afresh(error: OSError) -> OSError:
    """The same, to be raised by those who know the task that it comes from: they would be a reference cycle."""
    return type(error)(*error.args)


def _give_up(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancel() and not task.cancelled() and task.exception() is None:
        task.result().close()  # another address was faster


async def _connect(address: Address, port: int) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        tune(sock)
        await asyncio.get_running_loop().sock_connect(sock, address.at(port))
    except BaseException:
        sock.close()
        raise
    return sock
