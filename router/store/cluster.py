"""Pipelines to a Redis Cluster, one for each node, so that a node that is away concerns its own keys only.

redis-py's own pipeline fails as one. Of redis-py this uses what knows the nodes and their slots, and the connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis import exceptions
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode, PipelineCommand
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError

from router.store.courier import DEADLINE_S, NodeAwayError
from router.tasks import spawn

#: Less than a caller waits: those who ask other nodes in the same turn must get their answers.
NODE_PATIENCE_S = 0.7 * DEADLINE_S
#: A node that did not answer is not asked for this long.
REST_S = 0.5
_LEARN_S = 2.0
_LOST = (exceptions.ConnectionError, exceptions.TimeoutError)

Words = tuple[Any, ...]


def key_of(words: Words) -> str:
    """The first key of a command of ours."""
    return str(words[3] if words[0] in ("EVALSHA", "EVAL") else words[1])


class ClusterNodes:
    def __init__(self, client: RedisCluster) -> None:
        self._manager = client.nodes_manager
        self._rests_until_s: dict[str, float] = {}
        self._learning: asyncio.Task[None] | None = None
        self._connected: set[str] = set()
        self._connecting: dict[str, asyncio.Task[None]] = {}

    async def pipeline(self, commands: Sequence[Words], *, patient: bool = False) -> list[Any]:
        """The replies. A node that is away answers with NodeAwayError to each command of its own. ``patient``: nobody
        waits for them."""
        if not self._manager.slots_cache:
            await asyncio.shield(self._learn())
        patience_s = None if patient else NODE_PATIENCE_S
        replies = await self._by_node(commands, patience_s)
        moved = [i for i, reply in enumerate(replies) if isinstance(reply, MovedError) and type(reply) is not AskError]
        for i in moved:
            await self._manager.move_slot(replies[i])
        for i, reply in zip(moved, await self._by_node([commands[i] for i in moved], patience_s), strict=True):
            replies[i] = reply
        return replies

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
        for connecting in self._connecting.values():
            connecting.cancel()
        await self._manager.aclose()
        await self._manager.aclose("startup_nodes")

    async def _by_node(self, commands: Sequence[Words], patience_s: float | None) -> list[Any]:
        nodes: dict[str, ClusterNode] = {}
        places: dict[str, list[int]] = {}
        for i, words in enumerate(commands):
            node = self._manager.get_node_from_slot(key_slot(key_of(words).encode()))
            nodes[node.name] = node
            places.setdefault(node.name, []).append(i)
        asked = [self._ask(node, [commands[i] for i in places[name]], patience_s) for name, node in nodes.items()]
        replies: list[Any] = [None] * len(commands)
        for at, answers in zip(places.values(), await asyncio.gather(*asked), strict=True):
            for i, answer in zip(at, answers, strict=True):
                replies[i] = answer
        return replies

    async def _ask(self, node: ClusterNode, commands: Sequence[Words], patience_s: float | None) -> list[Any]:
        now_s = asyncio.get_running_loop().time
        if now_s() < self._rests_until_s.get(node.name, 0.0):
            return [NodeAwayError("a node of the cluster is away")] * len(commands)
        lost: Exception | None
        sent = [PipelineCommand(i, *words) for i, words in enumerate(commands)]
        try:
            async with asyncio.timeout(patience_s):
                if node.name not in self._connected:
                    await asyncio.shield(self._connect(node))
                await node.execute_pipeline(sent)
            lost = next((c.result for c in sent if isinstance(c.result, _LOST)), None)
        except Exception as error:
            lost = error
        if lost is not None:
            self._rests_until_s[node.name] = now_s() + REST_S
            self._connected.discard(node.name)
            self._learn()  # a replica may have taken over
            return [NodeAwayError(f"a node of the cluster is away ({type(lost).__name__})")] * len(commands)
        if any(isinstance(c.result, (MovedError, ClusterDownError)) for c in sent):
            self._learn()
        return [c.result for c in sent]

    def _connect(self, node: ClusterNode) -> asyncio.Task[None]:
        """Connect to a node, once at a time, beside those who wait: far away, or with TLS, it takes longer."""
        connecting = self._connecting.get(node.name)
        if connecting is None or connecting.done():
            connecting = spawn(self._connect_now(node), name=f"connect {node.name}", expected=(Exception,))
            self._connecting[node.name] = connecting
        return connecting

    async def _connect_now(self, node: ClusterNode) -> None:
        connection = node.acquire_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            self._connected.add(node.name)
        finally:
            node.release(connection)

    def _learn(self) -> asyncio.Task[None]:
        """Find out which node has which slots, once at a time."""
        if self._learning is None or self._learning.done():
            self._learning = spawn(self._learn_now(), name="cluster nodes", expected=(Exception,))
        return self._learning

    async def _learn_now(self) -> None:
        async with asyncio.timeout(_LEARN_S):
            await self._manager.initialize()
