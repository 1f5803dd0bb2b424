"""Asks name servers, without blocking and with the time to live that the system's resolver does not tell.

Over UDP with a random number and a port of its own for each question, then over TCP if the answer is too long. Servers
are asked in their order, each again after the last one was silent. The hosts file is not read.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from router.discovery.dns_message import (
    MalformedAnswerError,
    NameAnswer,
    ServerFailureError,
    answer,
    canonical,
    question,
)

RESOLV_CONF = "/etc/resolv.conf"
_PORT = 53
_TRIES = 2
_WAIT_S = 1.5


class LookUpError(Exception):
    """Nobody could tell. The text is for operators."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """``servers``: addresses of name servers. ``search``: domains that a short name may belong to."""

    servers: tuple[tuple[str, int], ...]
    search: tuple[str, ...] = ()
    dots: int = 1
    wait_s: float = _WAIT_S

    @classmethod
    def of_system(cls, path: str = RESOLV_CONF) -> Resolver:
        """As the file says. Raises LookUpError."""
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise LookUpError(f"{path} cannot be read: {error.strerror}") from None
        servers: list[tuple[str, int]] = []
        search: tuple[str, ...] = ()
        dots = 1
        for line in lines:
            word, *rest = line.split() or [""]
            if word == "nameserver" and rest:
                servers.append((rest[0], _PORT))
            elif word in ("search", "domain"):
                search = tuple(rest)
            elif word == "options":
                given = [option[6:] for option in rest if option.startswith("ndots:")]
                dots = next((min(15, int(text)) for text in given if text.isdigit()), dots)
        return cls(tuple(servers) or (("127.0.0.1", _PORT),), search, dots)

    async def ask(self, name: str, kind: int) -> NameAnswer:
        """The answer for the first of the names meant that exists. An answer without records, and one that there is no
        such name, are answers. Raises LookUpError."""
        exists = False
        for meant in self._meant(name):
            found = await self._ask_servers(meant, kind)
            exists = exists or found.exists
            if records := found.of(meant, kind):
                if canonical(meant) == canonical(name):
                    return found
                return NameAnswer(tuple(r._replace(name=canonical(name)) for r in records) + found.records)
        return NameAnswer(exists=exists)

    def _meant(self, name: str) -> list[str]:
        if name.endswith("."):
            return [name]
        longer = [f"{name}.{domain}" for domain in self.search]
        return [name, *longer] if name.count(".") >= self.dots else [*longer, name]

    async def _ask_servers(self, name: str, kind: int) -> NameAnswer:
        problem = ""
        for _ in range(_TRIES):
            for server in self.servers:
                try:
                    return await self._ask_server(server, name, kind)
                except (MalformedAnswerError, ServerFailureError) as error:
                    problem = str(error)
                except TimeoutError:
                    problem = f"the name server {server[0]} does not answer"
                except OSError as error:
                    problem = f"the name server {server[0]} cannot be asked: {error.strerror or error}"
                except ValueError as error:
                    raise LookUpError(str(error)) from None
        raise LookUpError(problem)

    async def _ask_server(self, server: tuple[str, int], name: str, kind: int) -> NameAnswer:
        number = secrets.randbelow(2**16)
        asked = question(number, name, kind)
        async with asyncio.timeout(self.wait_s):
            found = await _over_udp(server, asked, number, name, kind)
        if found.cut:
            async with asyncio.timeout(self.wait_s):
                found = await _over_tcp(server, asked, number, name, kind)
        return found


class _Question(asyncio.DatagramProtocol):
    """Waits for the answer to one question; what is not that is not heard."""

    def __init__(self, number: int, name: str, kind: int) -> None:
        self._asked = (number, name, kind)
        self.answer: asyncio.Future[NameAnswer] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.answer.done():
            return
        try:
            self.answer.set_result(answer(data, *self._asked))
        except MalformedAnswerError:
            return
        except ServerFailureError as error:
            self.answer.set_exception(error)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _over_udp(server: tuple[str, int], asked: bytes, number: int, name: str, kind: int) -> NameAnswer:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Question(number, name, kind), remote_addr=server)
    try:
        transport.sendto(asked)
        return await protocol.answer
    finally:
        protocol.answer.cancel()
        transport.close()


async def _over_tcp(server: tuple[str, int], asked: bytes, number: int, name: str, kind: int) -> NameAnswer:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack("!H", len(asked)) + asked)
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        return answer(await reader.readexactly(size), number, name, kind)
    except asyncio.IncompleteReadError:
        raise MalformedAnswerError("the name server broke off") from None
    finally:
        writer.close()


def resolver_of(nameserver: Sequence[str] | None) -> Resolver:
    """The one that asks this server alone, or those of the system. Raises LookUpError."""
    if nameserver is None:
        return Resolver.of_system()
    host, port = nameserver
    return Resolver(((host, int(port)),))
