"""The addresses of host names. No request waits for a resolver that is silent.

The system's resolver blocks its caller, at times for half a minute, and tells no time to live. So every name is
looked up in a thread of its own, which exists only during the look-up: a name that hangs takes no thread from others.
Addresses stay in use until a look-up finds others; a look-up that fails or hangs changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

_log = logging.getLogger("router.names")

#: Addresses older than this are looked up again, unless the configuration says otherwise.
AGE_S = 10.0
#: A name that could not be resolved is looked up again after this long.
AGAIN_S = 1.0
#: An address that could not be connected to, or was slower than the next one, comes last for this long.
AVOID_S = 30.0
#: Longest time for which the first look-up of a name may hold up a request.
PATIENCE_S = 0.25


class Address(NamedTuple):
    """A socket address without its port. ``more``: flow label and scope, for IPv6."""

    family: int
    host: str
    more: tuple[int, ...] = ()

    def at(self, port: int) -> tuple[str | int, ...]:
        return (self.host, port, *self.more)


class UnknownNameError(OSError):
    """No address of the name is known."""


def look_up(host: str) -> tuple[Address, ...]:
    """Ask the system's resolver; blocks. The order is its order of preference (RFC 6724). Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    addresses = [Address(family, str(at[0]), tuple(int(n) for n in at[2:])) for family, _, _, _, at in found]
    return tuple(dict.fromkeys(addresses))


class Name:
    """One host name, or an address in the place of one. ``version`` changes when ``addresses`` or ``usual`` do."""

    def __init__(self, host: str, names: Names) -> None:
        self.host = host
        self.version = 0
        self.addresses: tuple[Address, ...] = ()
        self._names = names
        self._avoided: dict[Address, float] = {}  # until when
        self._due_s = float("-inf")
        self._asked_s: float | None = None  # of the look-up in progress
        self._failure: str | None = None
        self._answered = asyncio.Event()
        literal = _literal(host)
        if literal is not None:
            self.addresses, self._due_s = (literal,), float("inf")

    def __repr__(self) -> str:
        return f"<Name {self.host} {[a.host for a in self.addresses]}>"

    @property
    def asking(self) -> bool:
        """A look-up is in progress."""
        return self._asked_s is not None

    @property
    def usual(self) -> tuple[Address, ...]:
        """The addresses that connections are spread over: of the preferred family, without those to avoid."""
        good = [a for a in self.addresses if a not in self._avoided]
        return tuple(a for a in good if a.family == good[0].family)

    def in_order(self, first: Address | None = None) -> list[Address]:
        """Every address, in the order in which to try them: ``first``, the families in turn, those to avoid last."""
        chosen = [first] if first is not None and first in self.addresses else []
        rest = [a for a in self.addresses if a not in chosen]
        good = [a for a in rest if a not in self._avoided]
        return chosen + _interleaved(good, chosen) + [a for a in rest if a in self._avoided]

    def avoid(self, address: Address) -> None:
        """This address refused a connection, or was slower than another one: try it last for a while."""
        if len(self.addresses) > 1:
            self._avoided[address] = self._names.now_s() + AVOID_S
            self.version += 1

    async def resolve(self, patience_s: float = PATIENCE_S) -> tuple[Address, ...]:
        """The addresses. Only the first look-up is waited for, ``patience_s`` from its beginning at most. Raises
        UnknownNameError."""
        if not self.addresses:
            self.sweep()
            if self._asked_s is not None and self._failure is None:
                rest_s = self._asked_s + patience_s - self._names.now_s()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._answered.wait(), max(0.0, rest_s))
            if not self.addresses:
                raise UnknownNameError(self._failure or "the name server does not answer")
        return self.addresses

    def sweep(self) -> None:
        """Begin a look-up when one is due, and forgive addresses in time. Cheap: call it as often as you like."""
        now_s = self._names.now_s()
        if now_s >= self._due_s and self._asked_s is None:
            self._asked_s = now_s
            self._names.ask(self)
        if self._avoided:
            for address in [a for a, until_s in self._avoided.items() if until_s <= now_s]:
                del self._avoided[address]
                self.version += 1

    def answered(self, addresses: tuple[Address, ...], failure: str | None) -> None:
        """A look-up has ended."""
        self._asked_s = None
        self._due_s = self._names.now_s() + (AGAIN_S if failure else self._names.age_s)
        self._answered.set()
        if failure is not None:
            if self._failure is None:
                kept = "; its last addresses stay in use" if self.addresses else ""
                _log.warning("the name %s cannot be resolved: %s%s", self.host, failure, kept)
            self._failure = failure
            return
        if self._failure is not None:
            _log.info("the name %s is resolved again", self.host)
        self._failure = None
        if set(addresses) != set(self.addresses):  # some servers give the same addresses in another order each time
            if self.addresses:
                _log.info("the name %s has changed its addresses: %d", self.host, len(addresses))
            self.addresses = addresses
            self._avoided = {a: until_s for a, until_s in self._avoided.items() if a in addresses}
            self.version += 1


class Names:
    """All names of a process. Make it inside a running loop."""

    def __init__(self, now_s: Callable[[], float], *, look_up: Callable[[str], tuple[Address, ...]] = look_up) -> None:
        self.now_s = now_s
        self.age_s = AGE_S
        self._look_up = look_up
        self._loop = asyncio.get_running_loop()
        self._names: weakref.WeakValueDictionary[str, Name] = weakref.WeakValueDictionary()

    def of(self, host: str) -> Name:
        """The one Name of ``host``; its first look-up has begun."""
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = Name(host, self)
            name.sweep()
        return name

    def ask(self, name: Name) -> None:
        """Look a name up in a thread of its own, a daemon: one that hangs does not hold up the end of the process."""
        threading.Thread(target=self._ask, args=(name.host,), name=f"look up {name.host}", daemon=True).start()

    def _ask(self, host: str) -> None:
        addresses: tuple[Address, ...] = ()
        failure: str | None = None
        try:
            addresses = self._look_up(host)
        except OSError as error:
            failure = error.strerror or str(error)
        except (UnicodeError, ValueError) as error:
            failure = str(error)
        if not addresses and failure is None:
            failure = "it has no address"
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._answer, host, addresses, failure)

    def _answer(self, host: str, addresses: tuple[Address, ...], failure: str | None) -> None:
        if (name := self._names.get(host)) is not None:
            name.answered(addresses, failure)


def _literal(host: str) -> Address | None:
    """``host`` itself as an address, if it is one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return Address(socket.AF_INET, str(address))
    scope = address.scope_id
    if scope is None:
        return Address(socket.AF_INET6, str(address), (0, 0))
    try:
        index = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    except OSError:
        return None
    return Address(socket.AF_INET6, str(address).partition("%")[0], (0, index))


def _interleaved(addresses: list[Address], before: list[Address]) -> list[Address]:
    """The families in turn, beginning with the one that the last of ``before`` is not of (RFC 8305 4)."""
    families = list(dict.fromkeys(a.family for a in addresses))
    if before and len(families) > 1 and families[0] == before[-1].family:
        families.append(families.pop(0))
    lines = [[a for a in addresses if a.family == family] for family in families]
    longest = max((len(line) for line in lines), default=0)
    return [line[i] for i in range(longest) for line in lines if i < len(line)]
