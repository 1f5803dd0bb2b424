"""The troubles that a scenario can have, one row each: what happens to whom, how it begins, how it ends.

A trouble lasts ``for_s`` and hurts a backend, a region or a router. Its row draws it by chance, begins it, and ends it.
Several may hold at the same time: a box that is killed twice is up again when both are over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from router.core.leaving import Notice

if TYPE_CHECKING:
    from sim.seeds.machine import Machine
    from sim.seeds.play import Play


@dataclass(frozen=True, slots=True)
class Trouble:
    """``where`` is a backend, a region, or the number of a router; ``amount`` means what the kind says."""

    number: int
    kind: str
    at_s: float
    for_s: float
    where: str
    amount: float = 0.0

    @property
    def until_s(self) -> float:
        return self.at_s + self.for_s

    def __str__(self) -> str:
        return f"{self.kind} of {self.where} for {self.for_s:.1f} s" + (f" ({self.amount:g})" if self.amount else "")


@dataclass(frozen=True, slots=True)
class Kind:
    """``target``: box, region or router. ``amounts``: one of these is drawn."""

    target: str
    begin: Callable[[Play, Trouble, float], None]
    end: Callable[[Play, Trouble, float], None]
    amounts: tuple[float, ...] = (0.0,)
    weight: int = 2


def draw_trouble(number: int, boxes: Sequence[str], routers: int, busy_s: float, rng: random.Random) -> Trouble:
    """One by chance. ``busy_s``: how long requests come."""
    kind = rng.choices(list(KINDS), [row.weight for row in KINDS.values()])[0]
    row, box = KINDS[kind], rng.choice(boxes)
    where = {"box": box, "region": box.split("/")[0], "router": str(rng.randrange(routers))}[row.target]
    for_s = rng.choice((0.3, 1.5, 4.0, 10.0))
    return Trouble(number, kind, rng.uniform(0.5, busy_s), for_s, where, rng.choice(row.amounts))


# -- boxes ------------------------------------------------------------------------------------------------------------


def _each(play: Play, trouble: Trouble) -> list[Machine]:
    where = trouble.where
    return [m for name, m in play.machines.items() if name == where or name.split("/")[0] == where]


def _kill(play: Play, trouble: Trouble, now_s: float) -> None:
    for machine in _each(play, trouble):
        play.serving.kill(machine, now_s)


def _start(play: Play, trouble: Trouble, now_s: float) -> None:
    for machine in _each(play, trouble):
        play.serving.start(machine, now_s)


def _freeze(play: Play, trouble: Trouble, now_s: float) -> None:
    for machine in _each(play, trouble):
        play.serving.freeze(machine, now_s)


def _thaw(play: Play, trouble: Trouble, now_s: float) -> None:
    for machine in _each(play, trouble):
        play.serving.thaw(machine, now_s)


def _cut_off(play: Play, trouble: Trouble, now_s: float) -> None:
    """No packet passes, in either direction."""
    for machine in _each(play, trouble):
        machine.cut_off += 1
        play.serving.freeze(machine, now_s)


def _reconnect(play: Play, trouble: Trouble, now_s: float) -> None:
    for machine in _each(play, trouble):
        machine.cut_off -= 1
        play.serving.thaw(machine, now_s)


def _flap(play: Play, trouble: Trouble, now_s: float) -> None:
    """Up and down in turns, until the trouble is over."""
    _kill(play, trouble, now_s)
    play.at(now_s + trouble.amount, _flap_up, play, trouble)


def _flap_up(play: Play, trouble: Trouble, now_s: float) -> None:
    _start(play, trouble, now_s)
    if now_s + 2 * trouble.amount < play.scenario.from_s + trouble.until_s:
        play.at(now_s + trouble.amount, _flap, play, trouble)


def _slow(play: Play, trouble: Trouble, now_s: float) -> None:
    for machine in _each(play, trouble):
        machine.slowness *= trouble.amount


def _as_fast(play: Play, trouble: Trouble, now_s: float) -> None:
    for machine in _each(play, trouble):
        machine.slowness /= trouble.amount


def _brown_out(play: Play, trouble: Trouble, now_s: float) -> None:
    """Slow, and a part of what is asked fails."""
    for machine in _each(play, trouble):
        machine.slowness *= trouble.amount
        machine.ills.append("error")


def _bright(play: Play, trouble: Trouble, now_s: float) -> None:
    for machine in _each(play, trouble):
        machine.slowness /= trouble.amount
        machine.ills.remove("error")


def _ill(ill: str) -> Callable[[Play, Trouble, float], None]:
    def begin(play: Play, trouble: Trouble, now_s: float) -> None:
        for machine in _each(play, trouble):
            machine.ills.append(ill)

    return begin


def _cured_of(ill: str) -> Callable[[Play, Trouble, float], None]:
    def end(play: Play, trouble: Trouble, now_s: float) -> None:
        for machine in _each(play, trouble):
            machine.ills.remove(ill)

    return end


# -- routers ----------------------------------------------------------------------------------------------------------


def _stop_router(play: Play, trouble: Trouble, now_s: float) -> None:
    """The process gets no time, or its clock leaps: all that was due comes at once."""
    play.routers[int(trouble.where)].stopped_until_s = now_s + trouble.for_s


def _nothing(play: Play, trouble: Trouble, now_s: float) -> None:
    pass


def _no_names(play: Play, trouble: Trouble, now_s: float) -> None:
    play.routers[int(trouble.where)].nameless += 1


def _names(play: Play, trouble: Trouble, now_s: float) -> None:
    play.routers[int(trouble.where)].nameless -= 1


def _no_sockets(play: Play, trouble: Trouble, now_s: float) -> None:
    play.routers[int(trouble.where)].short += 1


def _sockets(play: Play, trouble: Trouble, now_s: float) -> None:
    play.routers[int(trouble.where)].short -= 1


def _pause_store(play: Play, trouble: Trouble, now_s: float) -> None:
    play.store_paused += 1


def _resume_store(play: Play, trouble: Trouble, now_s: float) -> None:
    play.store_paused -= 1


# -- operators --------------------------------------------------------------------------------------------------------


def _reload(change: Callable[[Play, Trouble], None]) -> Callable[[Play, Trouble, float], None]:
    def act(play: Play, trouble: Trouble, now_s: float) -> None:
        change(play, trouble)
        play.reload(now_s)

    return act


def _remove(play: Play, trouble: Trouble) -> None:
    if len(play.configured) > 1:
        play.configured.pop(trouble.where, None)


def _put_back(play: Play, trouble: Trouble) -> None:
    play.configured.setdefault(trouble.where, play.machines[trouble.where].box.spec)


def _add_spare(play: Play, trouble: Trouble) -> None:
    for box in play.scenario.spares:
        play.configured[box.spec.name] = box.spec


def _remove_spare(play: Play, trouble: Trouble) -> None:
    for box in play.scenario.spares:
        play.configured.pop(box.spec.name, None)


def _change_limit(play: Play, trouble: Trouble) -> None:
    if (spec := play.configured.get(trouble.where)) is not None:
        play.configured[trouble.where] = replace(spec, max_inflight=int(trouble.amount))


def _change_limit_back(play: Play, trouble: Trouble) -> None:
    if (spec := play.configured.get(trouble.where)) is not None:
        limit = play.machines[trouble.where].box.spec.max_inflight
        play.configured[trouble.where] = replace(spec, max_inflight=limit)


def _change_url(play: Play, trouble: Trouble) -> None:
    if (spec := play.configured.get(trouble.where)) is not None:
        play.configured[trouble.where] = replace(spec, url=spec.url.removesuffix("1") + "1")


def _change_url_back(play: Play, trouble: Trouble) -> None:
    if (spec := play.configured.get(trouble.where)) is not None:
        play.configured[trouble.where] = replace(spec, url=spec.url.removesuffix("1"))


def _drain(play: Play, trouble: Trouble, now_s: float) -> None:
    for router in play.routers:
        router.site.fleet.set_draining(trouble.where, True)
    play.drained.append(trouble.where)


def _undrain(play: Play, trouble: Trouble, now_s: float) -> None:
    play.drained.remove(trouble.where)
    if trouble.where not in play.drained:
        for router in play.routers:
            router.site.fleet.set_draining(trouble.where, False)


def _notice(play: Play, trouble: Trouble, now_s: float) -> None:
    """Spot machines: they go when the notice is over, and are replaced."""
    for router in play.routers:
        router.site.fleet.set_notice(trouble.where, Notice(now_s, now_s + trouble.for_s, "play"))


def _gone(play: Play, trouble: Trouble, now_s: float) -> None:
    _kill(play, trouble, now_s)
    _start(play, trouble, now_s)
    for router in play.routers:
        router.site.fleet.set_notice(trouble.where, None)


def _reset(play: Play, trouble: Trouble, now_s: float) -> None:
    for router in play.routers:
        if trouble.where in router.site.fleet.backends:
            router.site.fleet.reset(trouble.where, now_s)


#: by the word that traces show
KINDS: dict[str, Kind] = {
    "death": Kind("box", _kill, _start, weight=4),
    "loss": Kind("region", _kill, _start, weight=4),
    "partition": Kind("region", _cut_off, _reconnect, weight=4),
    "freeze": Kind("box", _freeze, _thaw, weight=4),
    "flapping": Kind("box", _flap, _nothing, (0.5, 1.5, 3.0)),
    "slowness": Kind("box", _slow, _as_fast, (3.0, 30.0)),
    "brown-out": Kind("region", _brown_out, _bright, (2.0, 10.0)),
    "errors": Kind("box", _ill("error"), _cured_of("error")),
    "refusals": Kind("box", _ill("busy"), _cured_of("busy")),
    "denials": Kind("box", _ill("denies"), _cured_of("denies")),
    "cuts": Kind("box", _ill("cut"), _cured_of("cut")),
    "blind probes": Kind("box", _ill("blind"), _cured_of("blind")),
    "no scrapes": Kind("region", _ill("unscraped"), _cured_of("unscraped")),
    "stale scrapes": Kind("box", _ill("stale"), _cured_of("stale")),
    "odd scrapes": Kind("box", _ill("odd"), _cured_of("odd"), weight=1),
    "detour": Kind("region", _ill("far"), _cured_of("far"), weight=1),
    "clock step": Kind("router", _stop_router, _nothing),
    "no names": Kind("router", _no_names, _names, weight=1),
    "no sockets": Kind("router", _no_sockets, _sockets, weight=1),
    "store pause": Kind("router", _pause_store, _resume_store),
    "removal": Kind("box", _reload(_remove), _reload(_put_back)),
    "addition": Kind("router", _reload(_add_spare), _reload(_remove_spare)),
    "other limit": Kind("box", _reload(_change_limit), _reload(_change_limit_back), (1.0, 3.0, 300.0)),
    "other engine": Kind("box", _reload(_change_url), _reload(_change_url_back)),
    "drain": Kind("box", _drain, _undrain),
    "region drain": Kind("region", _drain, _undrain),
    "notice": Kind("box", _notice, _gone),
    "region notice": Kind("region", _notice, _gone),
    "reset": Kind("box", _reset, _nothing, weight=1),
}
