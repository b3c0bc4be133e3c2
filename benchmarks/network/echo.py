"""The other end of a hop, as a child process: sends every frame back over the product's links."""

from __future__ import annotations

import queue
import threading

import trio

from benchmarks.inference.lines import serve
from node.client.link import FrameLink
from node.p2p.errors import NetworkError
from node.p2p.framing import FramedStream
from node.p2p.host import open_host
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.wire import STAGE_PROTOCOL

LISTEN = "/ip4/127.0.0.1/tcp/0"
START_S = 10.0


def listen() -> str:
    """Serve in a thread of this process, for as long as it lives; the address."""
    started: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def echo(stream: FramedStream, peer: str) -> None:
        link = FrameLink(stream, peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            try:
                await link.receive_each(link.send)
            except NetworkError:
                nursery.cancel_scope.cancel()

    async def run() -> None:
        async with open_host(bytes(31) + b"\x02", [LISTEN]) as host:
            host.serve(STAGE_PROTOCOL, echo, max_frame_bytes=FRAME_BYTES_MAX)
            started.put(host.addresses[0])
            await trio.sleep_forever()

    threading.Thread(target=trio.run, args=(run,), daemon=True).start()
    return started.get(timeout=START_S)


def main() -> None:
    """Serve a parent."""
    serve((listen,), ())


if __name__ == "__main__":
    main()
