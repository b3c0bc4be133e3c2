"""TCP links with a delay and a rate, as a child process: what lies between two homes, on one machine.

A direction passes bytes on at its rate, one after another, and each of them its delay later. Nothing is lost.
"""

from __future__ import annotations

import math
import queue
import threading
from functools import partial
from typing import Any

import trio

from benchmarks.inference.lines import serve
from benchmarks.network.exact_timer import ExactTimer

HOST = "127.0.0.1"
CHUNK_BYTES = 16_384
IN_FLIGHT_CHUNKS_MAX = 4_096
START_S = 10.0
BITS_PER_MBIT = 1e6

_started: list[tuple[trio.lowlevel.TrioToken, trio.Nursery]] = []


def open_link(port: int, delay_ms: float, rate_mbit: float | None = None) -> int:
    """Forward connections to a loopback port, each direction `delay_ms` later and at a rate; the port to dial."""
    token, nursery = _started[0] if _started else _start()
    rate = math.inf if rate_mbit is None else rate_mbit * BITS_PER_MBIT / 8
    opened: int = trio.from_thread.run(_open_link, nursery, port, delay_ms / 1_000, rate, trio_token=token)
    return opened


def _start() -> tuple[trio.lowlevel.TrioToken, trio.Nursery]:
    ready: queue.SimpleQueue[tuple[trio.lowlevel.TrioToken, trio.Nursery]] = queue.SimpleQueue()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            ready.put((trio.lowlevel.current_trio_token(), nursery))
            await trio.sleep_forever()

    threading.Thread(target=trio.run, args=(run,), daemon=True).start()
    _started.append(ready.get(timeout=START_S))
    return _started[0]


async def _open_link(nursery: trio.Nursery, port: int, delay_s: float, bytes_per_s: float) -> int:
    async def handle(near: trio.SocketStream) -> None:
        try:
            far = await trio.open_tcp_stream(HOST, port)
            async with far, trio.open_nursery() as pumps:
                for source, dest in ((near, far), (far, near)):
                    source.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
                    pumps.start_soon(_pump, source, dest, delay_s, bytes_per_s)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one end went away, so the other end is closed

    listeners: list[Any] = await nursery.start(partial(trio.serve_tcp, host=HOST), handle, 0)
    opened: int = listeners[0].socket.getsockname()[1]
    return opened


async def _pump(source: trio.SocketStream, dest: trio.SocketStream, delay_s: float, bytes_per_s: float) -> None:
    sender, receiver = trio.open_memory_channel[tuple[float, bytes]](IN_FLIGHT_CHUNKS_MAX)

    async def read() -> None:
        free_s = 0.0
        async with sender:
            while data := await source.receive_some(CHUNK_BYTES):
                free_s = max(free_s, trio.current_time()) + len(data) / bytes_per_s
                await sender.send((free_s + delay_s, data))

    with ExactTimer() as timer:
        async with receiver, trio.open_nursery() as nursery:
            nursery.start_soon(read)
            async for due_s, data in receiver:
                await timer.sleep(due_s - trio.current_time())
                await dest.send_all(data)
    await dest.send_eof()


def main() -> None:
    """Serve a parent."""
    serve((open_link,), ())


if __name__ == "__main__":
    main()
