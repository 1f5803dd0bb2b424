"""Asks engines themselves, without a router: what ``config init``, ``regions add`` and ``doctor`` need to know."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cli import units
from cli.errors import CliError, Exit

if TYPE_CHECKING:
    from router.core.types import BackendSpec
    from router.observe.survey import Surveyed

TIMEOUT_S = 5.0


def survey(specs: Sequence[BackendSpec], env: Mapping[str, str] | None = None) -> list[Surveyed]:
    """The findings about each address, in their order; all are asked at once. The keys are those of ``key_env``."""
    import asyncio

    from router.config import secret
    from router.observe.client import EngineClient
    from router.observe.survey import survey as ask

    async def every() -> list[Surveyed]:
        client = EngineClient()
        try:
            keys = [secret(spec.key_env, env or os.environ) if spec.key_env else None for spec in specs]
            asked = [ask(client, spec, key, timeout_s=TIMEOUT_S) for spec, key in zip(specs, keys, strict=True)]
            return list(await asyncio.gather(*asked))
        finally:
            await client.close()

    return asyncio.run(every())


def spec_of(name: str, url: str, **more: Any) -> BackendSpec:
    """A backend that is in no file yet. Raises CliError for an address that cannot be one."""
    from router.config.address import url_problem
    from router.core.types import BackendSpec, RegionSpec

    url = clean(url)
    if (problem := url_problem(url)) is not None:
        raise CliError(f'the address "{url}" of {name.partition("/")[0]} {problem}', code=Exit.USAGE)
    return BackendSpec(name, RegionSpec(name.partition("/")[0]), url, **more)


def clean(url: str) -> str:
    """The address as the file has it: people copy it with /v1 at its end."""
    return url.rstrip("/").removesuffix("/v1")


def words(found: Surveyed) -> str:
    """``vLLM · llama-3.1-8b · 1.2 ms away · KV cache of 523,456 tokens``."""
    from router.core.traits import TRAITS

    parts = [TRAITS[found.engine].title if found.engine else "unknown engine", ", ".join(found.models[:5])]
    if len(found.models) > 5:
        parts[-1] += f" and {len(found.models) - 5} more"
    if found.rtt_s is not None:
        parts.append(f"{units.seconds(found.rtt_s)} away")
    if found.kv_tokens is not None:
        parts.append(f"KV cache of {units.count(found.kv_tokens)} tokens")
    return " · ".join(part for part in parts if part)


def host_of(url: str) -> str:
    return urlsplit(url).netloc
