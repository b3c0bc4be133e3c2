"""Defects of the stock GossipSub: every test says what should hold, and strictly fails on py-libp2p 0.8.1.

That ours does hold is tested in test_pubsub.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.mcache import MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from node.p2p.gossipsub import ContentCache
from node.p2p.host import P2PHost, open_host
from proto_specs.types.gossip import compute_message_id

pytestmark = pytest.mark.leaves_open
stock_fails = pytest.mark.xfail(strict=True, reason="defect of py-libp2p 0.8.1, see docs/upstream.md")
TOPIC = "/myelin/test/votes/1"
Validator = Callable[[ID, rpc_pb2.Message], bool]


def make_stock(host: P2PHost) -> Pubsub:
    """GossipSub as the library has it, with heartbeats of a second and ids by content, as ours."""
    router = GossipSub([PROTOCOL_ID_V11], degree=6, degree_low=4, degree_high=12, heartbeat_interval=1)
    return Pubsub(
        host.libp2p_host, router, strict_signing=False, msg_id_constructor=lambda one: compute_message_id(one.data)
    )


@asynccontextmanager
async def open_pair(validate: Validator | None = None) -> AsyncIterator[tuple[Pubsub, Pubsub]]:
    """Two stock nodes in each other's mesh; `validate` judges what the second one gets."""
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(bytes([number]) * 32, ["/ip4/127.0.0.1/tcp/0"]))
            for number in (1, 2)
        ]
        first, second = (make_stock(host) for host in hosts)
        for one in (first, second):
            await stack.enter_async_context(background_trio_service(one))
            await stack.enter_async_context(background_trio_service(one.router))  # type: ignore[arg-type]
            await one.wait_until_ready()
        if validate is not None:
            second.set_topic_validator(TOPIC, validate, is_async_validator=False)
        await first.subscribe(TOPIC)
        await second.subscribe(TOPIC)
        await hosts[0].connect(hosts[1].addresses[0])
        await first.wait_for_mesh(second.my_id, TOPIC, timeout=10)
        yield first, second


@stock_fails
async def test_what_was_not_yet_valid_can_be_judged_again() -> None:
    """Section 16: a vote of the next height is not wrong, only early; its False is remembered for 300 s."""
    verdicts = iter([False, True])
    seen: list[bytes] = []

    def validate(_peer: ID, message: rpc_pb2.Message) -> bool:
        seen.append(message.data)
        return next(verdicts)

    async with open_pair(validate) as (first, second):
        message = rpc_pb2.Message(data=b"early", topicIDs=[TOPIC], from_id=first.my_id.to_bytes(), seqno=b"1")
        for _ in range(2):
            await second.push_msg(first.my_id, message)
    assert seen == [b"early", b"early"]


@pytest.mark.parametrize("cache", [pytest.param(MessageCache(3, 5), marks=stock_fails), ContentCache(3, 5)])
def test_what_is_offered_is_named_as_it_is_known(cache: MessageCache) -> None:
    """Section 17: offered under another name, every message is fetched again by everybody who has it."""
    message = rpc_pb2.Message(data=b"vote", topicIDs=[TOPIC], from_id=b"author", seqno=b"1")
    cache.put(message)
    assert cache.window(TOPIC) == [compute_message_id(b"vote")]


@stock_fails
async def test_a_burst_is_not_lost() -> None:
    """Section 20: 32 places a peer; the rest is dropped without a word."""
    async with open_pair() as (first, second):
        subscription = second.subscribed_topics_receive[TOPIC]
        for number in range(300):
            await first.publish(TOPIC, b"%d" % number)
        with trio.move_on_after(3) as waiting:
            for _ in range(300):
                await subscription.get()
    assert not waiting.cancelled_caught
