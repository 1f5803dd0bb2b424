"""A small name server on loopback: UDP and TCP, a zone that a test changes, and the ways in which servers fail."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

KINDS = {"A": 1, "CNAME": 5, "AAAA": 28, "SRV": 33}


def labels(name: str) -> bytes:
    parts = [p.encode() for p in name.rstrip(".").split(".")]
    return b"".join(bytes([len(p)]) + p for p in parts) + b"\0"


def record(name: bytes, kind: str, ttl_s: int, text: str) -> bytes:
    if kind == "SRV":
        priority, weight, port, target = text.split()
        data = struct.pack("!3H", int(priority), int(weight), int(port)) + labels(target)
    elif kind == "CNAME":
        data = labels(text)
    else:
        data = ipaddress.ip_address(text).packed
    return name + struct.pack("!HHIH", KINDS[kind], 1, ttl_s, len(data)) + data


def reply(query: bytes, records: list[bytes], *, code: int = 0, cut: bool = False) -> bytes:
    """The answer to a question, which is repeated in it."""
    end = 12
    while query[end]:
        end += query[end] + 1
    asked = query[12 : end + 5]
    flags = 0x8180 | code | (0x0200 if cut else 0)
    return (
        query[:2]
        + struct.pack("!5H", flags, 1, 0 if cut else len(records), 0, 0)
        + asked
        + b"".join(records if not cut else [])
    )


@dataclass
class NameServer:
    """``zone``: (name, kind) -> texts. ``code``: how every question fails, 0: it does not. ``silent``: no answer."""

    zone: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    ttl_s: int = 1
    code: int = 0
    silent: bool = False
    udp_bytes: int = 1232
    along: bool = True  # addresses of SRV targets are sent with them
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # how, name, kind
    address: str = ""

    def put(self, name: str, kind: str, *texts: str) -> None:
        self.zone[name, kind] = list(texts)

    def answer(self, query: bytes, how: str) -> bytes | None:
        parts, at = [], 12
        while query[at]:
            parts.append(query[at + 1 : at + 1 + query[at]].decode())
            at += query[at] + 1
        name = ".".join(parts)
        number = struct.unpack_from("!H", query, at + 1)[0]
        kind = next(k for k, v in KINDS.items() if v == number)
        self.asked.append((how, name, kind))
        if self.silent:
            return None
        if self.code:
            return reply(query, [], code=self.code)
        if not any(known == name for known, _ in self.zone):
            return reply(query, [], code=3)
        records = self._records(name, kind)
        whole = reply(query, records)
        return reply(query, records, cut=True) if how == "udp" and len(whole) > self.udp_bytes else whole

    def _records(self, name: str, kind: str) -> list[bytes]:
        here = b"\xc0\x0c"  # the name that was asked for
        if target := self.zone.get((name, "CNAME")):
            found = [record(labels(target[0]), kind, self.ttl_s, t) for t in self.zone.get((target[0], kind), [])]
            return [record(here, "CNAME", self.ttl_s, target[0]), *found]
        records = [record(here, kind, self.ttl_s, text) for text in self.zone.get((name, kind), [])]
        if kind == "SRV" and self.along:
            for target in {text.split()[3] for text in self.zone.get((name, kind), [])}:
                records += [record(labels(target), "A", self.ttl_s, t) for t in self.zone.get((target, "A"), [])]
        return records

    def count(self, kind: str) -> int:
        return sum(asked == kind for _, _, asked in self.asked)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (answer := self._server.answer(data, "udp")) is not None:
            self._transport.sendto(answer, addr)  # type: ignore[attr-defined]


@asynccontextmanager
async def name_server(**options: object) -> AsyncIterator[NameServer]:
    server = NameServer(**options)  # type: ignore[arg-type]

    async def over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        if (answer := server.answer(await reader.readexactly(size), "tcp")) is not None:
            writer.write(struct.pack("!H", len(answer)) + answer)
            await writer.drain()
        writer.close()

    tcp = await asyncio.start_server(over_tcp, "127.0.0.1", 0)
    host, port = tcp.sockets[0].getsockname()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Udp(server), local_addr=(host, port)
    )
    server.address = f"{host}:{port}"
    try:
        yield server
    finally:
        transport.close()
        tcp.close()
        await tcp.wait_closed()
