"""Connections through another node: libp2p's circuit relay v2, with our connections on top of it.

A relay passes on bytes of a connection that is secured end to end: it can cut the connection, not read or forge it. A
node that cannot be dialled holds a reservation at a relay and gives out `RELAY/p2p-circuit/p2p/ID`. Section 25 of
docs/upstream.md.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from node.p2p.address import CIRCUIT, decode_address, is_circuit, split_circuit
from node.p2p.errors import AddressInvalid, NetworkError, PeerUnreachable
from node.p2p.host import P2PHost
from node.p2p.identity import decode_peer_id

logger = logging.getLogger("myelin.network")

RESERVATION_S = 3_600
RENEW_S, ROUND_S = 600.0, 1.0
CIRCUITS_PER_RESERVATION = 16
CIRCUIT_S, CIRCUIT_BYTES = 24 * 3_600, 16 << 30
"""What a relay passes on for one connection. A validator's connections live long."""


class OwnReservations(CircuitV2Protocol):
    """The library's relay, except that a peer can reserve only in its own name."""

    async def _handle_reserve(self, stream: INetStream, msg: Any) -> None:
        msg.peer.id = stream.muxed_conn.peer_id.to_bytes()
        await super()._handle_reserve(stream, msg)


class Circuits:
    """Relayed connections of one host. Made by `open_circuits` only."""

    def __init__(self, host: P2PHost, protocol: CircuitV2Protocol) -> None:
        self._host = host
        roles = RelayRole.CLIENT | RelayRole.STOP
        self._transport = CircuitV2Transport(host.libp2p_host, protocol, RelayConfig(roles=roles))
        self._reserved: dict[str, str] = {}

    @property
    def addresses(self) -> list[str]:
        """The relay addresses at which this host can be reached now."""
        return [f"{relay}/{CIRCUIT}/p2p/{self._host.peer_id}" for relay in self._reserved.values()]

    async def dial(self, address: str, peer: ID) -> None:
        """Connect to a peer behind a relay. Raises PeerUnreachable."""
        relay, _ = split_circuit(address)
        await self._host.connect(relay)
        try:
            await self._transport.dial(Multiaddr(address))
        except (BaseLibp2pError, ConnectionError, OSError, trio.TooSlowError) as error:
            raise PeerUnreachable(f"no way to {peer} through {relay}: {error}") from error

    async def keep_reserved(self, relay: str) -> None:
        """Hold a reservation at a relay until cancelled. It lasts as long as its connection and is renewed in time."""
        _, relay_id = decode_address(relay)
        renew_at_s = 0.0
        while True:
            if relay_id not in self._host.peers():
                self._reserved.pop(relay_id, None)
                renew_at_s = 0.0
            if trio.current_time() >= renew_at_s and await self._reserve(relay, relay_id):
                self._reserved[relay_id] = relay
                renew_at_s = trio.current_time() + RENEW_S
            await trio.sleep(ROUND_S)

    async def _reserve(self, relay: str, relay_id: str) -> bool:
        try:
            await self._host.connect(relay)
            stream = await self._host.libp2p_host.new_stream(decode_peer_id(relay_id), [TProtocol(PROTOCOL_ID)])
            try:
                # libp2p's public `reserve` also starts its own renewal; renewal is the loop above.
                return await self._transport._make_reservation(stream, decode_peer_id(relay_id))  # noqa: SLF001
            finally:
                await stream.reset()
        except (NetworkError, BaseLibp2pError) as error:
            logger.debug("no reservation at relay %s: %s", relay, error)
            return False


@asynccontextmanager
async def open_circuits(
    host: P2PHost, relays: Sequence[str] = (), *, reservations_max: int = 0
) -> AsyncIterator[Circuits]:
    """Dial through relays and be reachable through `relays`; serve as a relay for up to `reservations_max` others.

    Raises AddressInvalid.
    """
    for relay in relays:
        address, _ = decode_address(relay)
        if address is None or is_circuit(address):
            raise AddressInvalid(f"a relay is named by its own address: {relay}")
    limits = RelayLimits(
        duration=CIRCUIT_S,
        data=CIRCUIT_BYTES,
        max_circuit_conns=CIRCUITS_PER_RESERVATION,
        max_reservations=reservations_max,
        reservation_ttl=RESERVATION_S,
    )
    protocol = OwnReservations(host.libp2p_host, limits, allow_hop=reservations_max > 0)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(background_trio_service(protocol))
        await protocol.event_started.wait()
        circuits = Circuits(host, protocol)
        host.dial_circuit = circuits.dial
        nursery = await stack.enter_async_context(trio.open_nursery())
        for relay in relays:
            nursery.start_soon(circuits.keep_reserved, relay)
        try:
            yield circuits
        finally:
            host.dial_circuit = None
            nursery.cancel_scope.cancel()
