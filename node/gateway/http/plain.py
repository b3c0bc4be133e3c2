"""HTTP/1.1 and nothing else on a connection: hypercorn would switch to HTTP/2 or a websocket for whoever asks.

On those nobody is cut off for being idle, and our bounds of a connection are those of HTTP/1.1.
"""

from __future__ import annotations

from typing import Any

import h11
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

_SWITCHING = frozenset({b"upgrade", b"http2-settings"})


class PlainProtocol(H11Protocol):
    """Requests without what asks for another protocol: a server may ignore it (RFC 9110, section 7.8).

    An answer to a body that never came in full says that it is the connection's last one: hypercorn closes it then
    without a word, and the client's next request would meet a closed connection.
    """

    async def stream_send(self, event: Any) -> None:
        """What the application sends, by hypercorn's events."""
        if isinstance(event, Response) and event.status_code >= 200 and self.connection.their_state is h11.SEND_BODY:
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """No HTTP/2 by prior knowledge or upgrade."""

    async def _create_stream(self, request: h11.Request) -> None:
        headers = [(name, value) for name, value in request.headers if name not in _SWITCHING]
        await super()._create_stream(
            h11.Request(
                method=request.method, target=request.target, headers=headers, http_version=request.http_version
            )
        )


class PlainServer(TCPServer):
    """A connection of PlainProtocol."""

    async def run(self) -> None:
        """Until the connection ends."""
        try:
            stream: Any = self.stream  # a socket's, not one of TLS as TCPServer is typed
            socket = stream.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as tasks:
                self._task_group = tasks
                protocol: Any = PlainProtocol(
                    self.app,
                    self.config,
                    self.context,
                    tasks,
                    ConnectionState(self.state),
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                self.protocol = protocol
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
        except OSError:  # it broke
            pass
        finally:
            await self._close()
