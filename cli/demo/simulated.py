"""The demo's regions as simulated engines, as far apart as the real places are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from cli.errors import CliError
from sim.fleet import EngineStartError, SimFleet
from sim.geography import DEFAULT_REGIONS


class SimulatedWorld:
    """Three regions with two engines each, seen from the first."""

    def __init__(self) -> None:
        self.model = "llama-3.1-8b"
        self.regions = tuple(region.name for region in DEFAULT_REGIONS)
        self.summary = "simulated engines, two in each region, real HTTP"
        self._fleet = SimFleet(model=self.model, seen_from=self.regions[0])

    def __enter__(self) -> Self:
        try:
            self._fleet.start()
        except EngineStartError as error:
            raise CliError(f"the simulated engines did not start: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fleet.close()

    def regions_toml(self) -> str:
        return self._fleet.regions_toml()

    def kill(self, region: str) -> None:
        for backend in self._fleet.in_region(region):
            backend.kill()

    def restart(self, region: str) -> None:
        backends = self._fleet.in_region(region)
        with ThreadPoolExecutor(len(backends)) as pool:
            list(pool.map(lambda backend: backend.restart(), backends))
