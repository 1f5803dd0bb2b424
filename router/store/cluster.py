"""Pipelines to a Redis Cluster, one for each node: a node that is away affects its own keys only.

redis-py's own pipeline fails as a whole if one node does. Of redis-py this uses the table of nodes and slots, and the
connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError

from router.deadline import within
from router.store.courier import NodeAwayError
from router.store.patience import CONNECT_S, FIRST_S, Patience
from router.store.pipe import Pipes
from router.tasks import spawn

#: A near node has less than a caller waits: those who ask other nodes in the same turn must get their answers.
NODE_PART = 0.7
#: A node that did not answer is not asked for this long.
REST_S = 0.5

Words = tuple[Any, ...]


def key_of(words: Words) -> str:
    """The first key of a command."""
    return str(words[3] if words[0] in ("EVALSHA", "EVAL") else words[1])


class ClusterNodes:
    def __init__(self, client: RedisCluster, patience: Patience) -> None:
        self._manager = client.nodes_manager
        self._patience = patience
        self._rests_until_s: dict[str, float] = {}
        self._learning: asyncio.Task[None] | None = None
        self._pipes: dict[str, Pipes] = {}

    @property
    def open(self) -> bool:
        return any(pipes.open for pipes in self._pipes.values())

    async def ask(self, commands: Sequence[Words]) -> list[Any]:
        """The replies. A node that is away answers with NodeAwayError to each command of its own."""
        patience_s = max(NODE_PART * self._patience.wait_s, self._patience.trip_s) if self.open else None
        if not self._manager.slots_cache:
            await asyncio.shield(self._learn())
            primaries = [self._pipes_to(node) for node in self._manager.get_nodes_by_server_type("primary")]
            await asyncio.wait([pipes.connect() for pipes in primaries], timeout=FIRST_S)
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
        for pipes in self._pipes.values():
            await pipes.close()
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
        try:
            async with within(CONNECT_S if patience_s is None else patience_s):
                replies = await self._pipes_to(node).ask(commands)
        except Exception as error:
            self._rests_until_s[node.name] = now_s() + REST_S
            self._learn()  # a replica may have taken over
            return [NodeAwayError(f"a node of the cluster is away ({type(error).__name__})")] * len(commands)
        if any(isinstance(reply, (MovedError, ClusterDownError)) for reply in replies):
            self._learn()
        return replies

    def _pipes_to(self, node: ClusterNode) -> Pipes:
        pipes = self._pipes.get(node.name)
        if pipes is None:
            make = partial(node.connection_class, **node.connection_kwargs | {"retry": Retry(NoBackoff(), 0)})
            timed = self._patience.answered
            pipes = self._pipes[node.name] = Pipes(make, node.response_callbacks, timed, name=node.name)
        return pipes

    def _learn(self) -> asyncio.Task[None]:
        """Read which node has which slots, one reading at a time."""
        if self._learning is None or self._learning.done():
            self._learning = spawn(self._learn_now(), name="cluster nodes", expected=(Exception,))
        return self._learning

    async def _learn_now(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            await self._manager.initialize()
