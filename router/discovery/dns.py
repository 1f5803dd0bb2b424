"""Follows a DNS name: each of its addresses, or each address of its SRV records, is a backend.

It is looked up again when the time to live of what was found is over, within bounds. A name without records has no
backends. No answer changes nothing, and neither does the answer that there is no such name: it is misspelt more often
than every backend of it has gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from router.config import Source, split_address
from router.core.roll import Sighting
from router.discovery.dns_message import AAAA, SRV, A, NameAnswer, ServiceAt
from router.discovery.resolver import LookUpError, Resolver, resolver_of

if TYPE_CHECKING:
    from router.discovery.sources import Following

#: However short the time to live: not more often than this.
OFTEN_S = 1.0
#: After a look-up that failed, and at most.
_AGAIN_S = 1.0
_AGAIN_S_MAX = 15.0
#: More backends than this are not of one name.
ADDRESSES_MAX = 2000


async def follow_name(following: Following) -> None:
    source = following.source
    pause_s = _AGAIN_S
    while True:
        try:
            sightings, ttl_s = await look_up(source)
        except LookUpError as error:
            following.fail(str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_S_MAX)
            continue
        pause_s = _AGAIN_S
        following.tell(sightings)
        await asyncio.sleep(min(max(OFTEN_S, ttl_s), source.refresh))


async def look_up(source: Source) -> tuple[list[Sighting], float]:
    """The backends that are there now, and for how long that holds. Raises LookUpError."""
    server = source.nameserver
    resolver = resolver_of(None if server is None else [str(part) for part in split_address(server)])
    if source.kind == "srv":
        return await _services(source, resolver)
    host, port = split_address(source.host)
    addresses, ttl_s, exists = await _addresses(resolver, host)
    if not exists:
        raise _no_such_name(host)
    return [_sighting(source, address, port, host) for address in addresses[:ADDRESSES_MAX]], ttl_s


async def _services(source: Source, resolver: Resolver) -> tuple[list[Sighting], float]:
    found = await resolver.ask(source.host, SRV)
    if not found.exists:
        raise _no_such_name(source.host)
    records = found.of(source.host, SRV)[:ADDRESSES_MAX]
    ttl_s = min((float(r.ttl_s) for r in records), default=OFTEN_S)
    services = [r.data for r in records if isinstance(r.data, ServiceAt) and r.data.target not in ("", ".")]
    targets = list(dict.fromkeys(service.target for service in services))
    looked_up = await asyncio.gather(*(_target(resolver, target, found) for target in targets))
    of = dict(zip(targets, looked_up, strict=True))
    sightings = []
    for service in services:
        addresses, address_ttl_s = of[service.target]
        ttl_s = min(ttl_s, address_ttl_s)
        sightings += [_sighting(source, address, service.port, service.target) for address in addresses]
    return sightings[:ADDRESSES_MAX], ttl_s


async def _target(resolver: Resolver, target: str, found: NameAnswer) -> tuple[list[str], float]:
    """The addresses of a target: name servers may send them along."""
    along = [*found.of(target, A), *found.of(target, AAAA)]
    if along:
        return [str(r.data) for r in along], min(float(r.ttl_s) for r in along)
    addresses, ttl_s, _ = await _addresses(resolver, f"{target}.")
    return addresses, ttl_s


def _no_such_name(host: str) -> LookUpError:
    return LookUpError(f"there is no name {host.rstrip('.')} (NXDOMAIN)")


async def _addresses(resolver: Resolver, host: str) -> tuple[list[str], float, bool]:
    """All addresses of both families, for how long they hold, and whether there is such a name. Half an answer is none,
    for it would take the other half away."""
    v4, v6 = await asyncio.gather(resolver.ask(host, A), resolver.ask(host, AAAA))
    records = [*v4.of(host, A), *v6.of(host, AAAA)]
    addresses = list(dict.fromkeys(str(r.data) for r in records))
    return addresses, min((float(r.ttl_s) for r in records), default=OFTEN_S), v4.exists or v6.exists


def _sighting(source: Source, address: str, port: int, name: str) -> Sighting:
    short = f"{address.replace(':', '-')}-{port}"
    spec = source.backend(short.lstrip("-") if not source.prefix else short, address, port, server_name=name)
    return Sighting(spec, facts=(("name", name.rstrip(".")),))
