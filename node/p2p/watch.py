"""Reports new connections from libp2p's notifications."""

from __future__ import annotations

from collections.abc import Callable

from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from multiaddr import Multiaddr


class ConnectionWatch(INotifee):
    """Calls back with the peer id of every new connection; does nothing while `callback` is None."""

    def __init__(self) -> None:
        self.callback: Callable[[str], None] | None = None

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """A connection is secured and multiplexed."""
        if self.callback is not None:
            self.callback(conn.muxed_conn.peer_id.to_base58())

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """Nothing to do."""

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Nothing to do."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Nothing to do."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""
