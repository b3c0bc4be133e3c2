"""Measures round trips, opening streams and connecting between two processes: `python -m ...measure [stock]`.

`stock` measures plain py-libp2p at both ends. Figures are medians over loopback; docs/upstream.md quotes them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from node.p2p.host import open_host
from tests.integration.node.p2p import peer as served
from tests.integration.node.p2p.processes import peer_process

SIZES = {64: 600, 2300: 600, 64 * 1024: 300, 1024 * 1024: 40}
SEED = b"\x60" * 32
RoundTrip = Callable[[bytes], Awaitable[None]]


async def median_ms(step: Callable[[], Awaitable[None]], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await step()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


async def report(connect_ms: float, open_ms: float, round_trip: RoundTrip) -> None:
    print(f"connect {connect_ms:.1f} ms, new stream {open_ms:.2f} ms")
    for size, count in SIZES.items():
        body = bytes(size)

        async def step(body: bytes = body) -> None:
            await round_trip(body)

        await median_ms(step, 20)
        print(f"{size:>8} B  {await median_ms(step, count):.3f} ms")


async def measure_ours() -> None:
    async with peer_process(1) as remote, open_host(SEED, []) as host:

        async def open_and_close() -> None:
            stream = await host.open_stream(remote.address, served.ECHO)
            await stream.close()
            await stream.wait_ended()

        async def connect() -> None:
            await host.connect(remote.address)

        connect_ms = await median_ms(connect, 1)
        open_ms = await median_ms(open_and_close, 100)
        async with await host.open_stream(
            remote.address, served.ECHO, max_frame_bytes=served.FRAME_BYTES_MAX
        ) as stream:

            async def round_trip(body: bytes) -> None:
                await stream.send(body)
                await stream.receive()

            await report(connect_ms, open_ms, round_trip)


async def measure_stock() -> None:
    host = served.build_stock_host(SEED)
    async with peer_process(1, "stock") as remote, host.run([]):
        peer_id = ID.from_base58(remote.peer_id)

        async def connect() -> None:
            await host.connect(PeerInfo(peer_id, [Multiaddr(remote.address.rsplit("/p2p/", 1)[0])]))

        async def open_and_close() -> None:
            await (await host.new_stream(peer_id, [TProtocol(served.ECHO)])).close()

        connect_ms = await median_ms(connect, 1)
        open_ms = await median_ms(open_and_close, 100)
        stream = await host.new_stream(peer_id, [TProtocol(served.ECHO)])

        async def round_trip(body: bytes) -> None:
            await stream.write(served.HEADER.pack(len(body)) + body)
            await served.read_stock(stream, served.HEADER.size + len(body))

        await report(connect_ms, open_ms, round_trip)
        await host.close()


if __name__ == "__main__":
    trio.run(measure_stock if sys.argv[1:] == ["stock"] else measure_ours)
