"""Publish and subscribe on a host: topics by name, acceptances by value. No libp2p type leaves it."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.tools.anyio_service import background_trio_service

from node.p2p.acceptance import Acceptance
from node.p2p.gossipsub import ChainPubsub, ChainRouter
from node.p2p.host import P2PHost
from proto_specs.limits import GOSSIP_BYTES_MAX

logger = logging.getLogger(__name__)

Receive = Callable[[str, bytes], Acceptance | Awaitable[Acceptance]]
PUBLISH_QUEUE_MAX = 4_096
ADOPT_S = 5.0


class PubSub:
    """Topics of one host. Made by `open_pubsub` only."""

    def __init__(
        self, host: P2PHost, penalise: Callable[[str, str], None], subscribe: Callable[[PubSub], None]
    ) -> None:
        self._receivers: dict[str, Receive] = {}
        self._penalise = penalise
        subscribe(self)
        self._router = ChainRouter()
        self._pubsub = ChainPubsub(host.libp2p_host, self._router, frozenset(self._receivers), self._judge)
        self._outbox, self._waiting = trio.open_memory_channel[tuple[str, bytes]](math.inf)

    def subscribe(self, topic: str, receive: Receive) -> None:
        """Pass each message of a topic to `receive`: (peer that passed it on, data) -> its acceptance.

        `receive` is called once for a message that is accepted, rejected or judged later; a message ignored at once may
        come again. Subscribe before connecting. A receiver that judges later bounds its pending messages itself.
        """
        assert topic not in self._receivers, "a topic has one receiver"
        self._receivers[topic] = receive

    def publish(self, topic: str, data: bytes) -> None:
        """Send to every subscriber. Never blocks; the message is dropped with a warning when 4,096 already wait."""
        assert len(data) <= GOSSIP_BYTES_MAX, "the sender bounds what it sends"
        if self._outbox.statistics().current_buffer_used >= PUBLISH_QUEUE_MAX:
            logger.warning("%d messages wait to be published: one of %s is dropped", PUBLISH_QUEUE_MAX, topic)
            return
        self._outbox.send_nowait((topic, data))

    def list_peers(self, topic: str) -> list[str]:
        """Peers that subscribe to a topic."""
        return sorted(peer.to_base58() for peer in self._pubsub.peer_topics.get(topic, ()))

    def _judge(self, peer: str, topic: str, data: bytes) -> Acceptance | Awaitable[Acceptance]:
        receive = self._receivers.get(topic)
        acceptance = Acceptance.REJECT if receive is None else receive(peer, data)
        if isinstance(acceptance, Acceptance):
            return self._blame(peer, topic, acceptance)
        return self._judge_later(peer, topic, acceptance)

    async def _judge_later(self, peer: str, topic: str, acceptance: Awaitable[Acceptance]) -> Acceptance:
        return self._blame(peer, topic, await acceptance)

    def _blame(self, peer: str, topic: str, acceptance: Acceptance) -> Acceptance:
        if acceptance is Acceptance.REJECT:
            self._penalise(peer, f"passed on what does not verify on {topic or 'no topic'}")
        return acceptance

    async def run(self, task_status: Any) -> None:
        """Topics run until this is cancelled; `open_pubsub` starts it."""
        async with background_trio_service(self._pubsub), background_trio_service(self._router):
            await self._pubsub.wait_until_ready()
            for topic in self._receivers:
                await self._pubsub.subscribe(topic)
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._adopt_now_and_then)
                async for topic, data in self._waiting:
                    await self._pubsub.publish(topic, data)

    async def _adopt_now_and_then(self) -> None:
        while True:
            self._pubsub.adopt()
            await trio.sleep(ADOPT_S)


@asynccontextmanager
async def open_pubsub(
    host: P2PHost, penalise: Callable[[str, str], None], subscribe: Callable[[PubSub], None]
) -> AsyncIterator[PubSub]:
    """Run topics for the length of the block. Call `subscribe` first, so that no peer meets this node without them."""
    pubsub = PubSub(host, penalise, subscribe)
    async with trio.open_nursery() as nursery:
        await nursery.start(pubsub.run)
        yield pubsub
        nursery.cancel_scope.cancel()
