"""What topics cost: messages a second of one core, and CPU of a node when nothing is said. Prints; asserts nothing.

python -m tests.integration.node.p2p.measure_pubsub [peers]
"""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack

import trio
import trio.lowlevel

from node.p2p.acceptance import Acceptance
from node.p2p.kademlia import PeerFinder
from node.p2p.pubsub import PubSub, open_pubsub
from tests.integration.node.p2p.mesh import list_mesh
from tests.integration.node.p2p.test_keeping import Node, open_node

TOPICS = [f"/myelin/measured/{kind}/1" for kind in ("votes", "proposals", "evidence", "transactions")]
CHAIN = b"\x01" * 32
IDLE_S = 30.0


async def measure(peer_count: int) -> None:
    nodes: list[Node] = []
    topics: list[PubSub] = []
    received = [0] * peer_count
    async with AsyncExitStack() as stack:
        for number in range(peer_count):
            node = await stack.enter_async_context(open_node(number + 1, *(one.address for one in nodes), chain=CHAIN))

            def receive(_peer: str, _data: bytes, number: int = number) -> Acceptance:
                received[number] += 1
                return Acceptance.ACCEPT

            def subscribe(pubsub: PubSub, receive: object = receive) -> None:
                for topic in TOPICS:
                    pubsub.subscribe(topic, receive)  # type: ignore[arg-type]

            topics.append(await stack.enter_async_context(open_pubsub(node.host, node.manager.penalise, subscribe)))
            nodes.append(node)
        nursery = await stack.enter_async_context(trio.open_nursery())
        for node in nodes:
            nursery.start_soon(PeerFinder(node.host, node.book, node.manager.list_peers, CHAIN).run)
        while not all(len(list_mesh(one, topic)) >= min(4, peer_count - 1) for one in topics for topic in TOPICS):
            await trio.sleep(0.1)
        await trio.sleep(5)
        await measure_idle(peer_count)
        for size, count in ((200, 2_000), (64 << 10, 200)):
            await measure_burst(topics, received, size, count)
        nursery.cancel_scope.cancel()


async def measure_idle(peer_count: int) -> None:
    begun = time.process_time()
    await trio.sleep(IDLE_S)
    share = (time.process_time() - begun) / IDLE_S / peer_count
    print(f"idle, {peer_count} peers in a full mesh of 4 topics: {share:.2%} of a core each")


async def measure_burst(topics: list[PubSub], received: list[int], size: int, count: int) -> None:
    received[:] = [0] * len(received)
    cpu, wall = time.process_time(), time.monotonic()
    for number in range(count):
        topics[number % len(topics)].publish(TOPICS[0], number.to_bytes(8, "big") + bytes(size - 8))
        if number % 100 == 99:
            await trio.lowlevel.checkpoint()
    wanted = count * (len(topics) - 1)
    while sum(received) < wanted and time.monotonic() - wall < 60:
        await trio.sleep(0.01)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    print(
        f"{size} B: {sum(received)} of {wanted} in {wall:.2f} s, {sum(received) / cpu:.0f} a second of one core, "
        f"each with {len(topics) - 1} neighbours"
    )


if __name__ == "__main__":
    trio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else 4)
