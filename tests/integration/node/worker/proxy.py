"""A TCP forwarder before a host that can fall silent: its connections stay open and carry nothing more."""

from __future__ import annotations

import contextlib

import trio

READ_BYTES = 64 * 1024


class Proxy:
    """One listening port. `freeze` stops every byte in both directions, as a machine that hangs does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._target = 0
        self._frozen = trio.Event()

    def stand_before(self, address: str) -> str:
        """The address `/ip4/127.0.0.1/tcp/PORT/p2p/..` with our port in it; what comes there goes to the original."""
        parts = address.split("/")
        self._target = int(parts[4])
        parts[4] = str(self.port)
        return "/".join(parts)

    def freeze(self) -> None:
        """Forward nothing from now on."""
        self._frozen.set()

    async def serve(self, near: trio.SocketStream) -> None:
        """Forward one connection."""
        far = await trio.open_tcp_stream("127.0.0.1", self._target)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._forward, near, far, nursery.cancel_scope)
            nursery.start_soon(self._forward, far, near, nursery.cancel_scope)

    async def _forward(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(READ_BYTES):
                if self._frozen.is_set():
                    await trio.sleep_forever()
                await sink.send_all(data)
        scope.cancel()


async def open_proxy(task_status: trio.TaskStatus[Proxy] = trio.TASK_STATUS_IGNORED) -> None:
    """Listen until cancelled."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = Proxy(listener.socket.getsockname()[1])
    task_status.started(proxy)
    await trio.serve_listeners(proxy.serve, [listener])
