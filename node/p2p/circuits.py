"""Connections through another node: libp2p's circuit relay v2, with our connections on top of it.

A relay passes on bytes of a connection that is secured end to end: it can cut the connection, not read or forge it. A
node that cannot be dialled holds a reservation at a relay and gives out `RELAY/p2p-circuit/p2p/ID`. Section 25 of
docs/upstream.md.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from node.p2p.address import CIRCUIT, decode_address, is_circuit, split_circuit
from node.p2p.bytestream import MuxedByteStream
from node.p2p.errors import AddressInvalid, ListenFailed, PeerUnreachable, StreamReset
from node.p2p.framing import READ_BYTES, RESET_TIMEOUT_S
from node.p2p.host import P2PHost, open_host
from node.p2p.identity import decode_peer_id

logger = logging.getLogger("myelin.network")

RESERVATION_S = 3_600
RENEW_S, ROUND_S = 600.0, 1.0
RESERVED_WITHIN_S = 15.0
CIRCUITS_PER_RESERVATION = 64
"""Connections at once to one peer behind a relay: the streams that a relay may open to it are 256."""
CIRCUIT_S, CIRCUIT_BYTES = 30 * 24 * 3_600, 1 << 40
"""When a relay resets a connection, in the middle of whatever it carries. It may be dialled again at once, so that a
tighter bound would cut answers in two and spare nobody a byte: what a relay carries is bounded by whom it serves."""


class RelayProtocol(CircuitV2Protocol):
    """The library's relay, except that a peer can reserve only in its own name, and that a circuit ends by itself."""

    async def _handle_reserve(self, stream: INetStream, msg: Any) -> None:
        msg.peer.id = stream.muxed_conn.peer_id.to_bytes()
        await super()._handle_reserve(stream, msg)

    async def _relay_data(
        self,
        src_stream: INetStream,
        dst_stream: INetStream,
        peer_id: ID,
        deadline: float | None = None,
        circuit_data_limit: list[int] | None = None,
    ) -> None:
        """Pass on one direction. Its end is that of the circuit: of these two streams, and of no other circuit."""
        source, dest = MuxedByteStream(src_stream), MuxedByteStream(dst_stream)
        left_s = math.inf if deadline is None else deadline - time.monotonic()
        bytes_left = [CIRCUIT_BYTES] if circuit_data_limit is None else circuit_data_limit
        try:
            with trio.move_on_after(left_s):
                while (data := await source.read(READ_BYTES)) and bytes_left[0] >= len(data):
                    bytes_left[0] -= len(data)
                    await dest.write(data)
        except StreamReset as error:
            logger.debug("a circuit of %s ended: %s", peer_id, error)
        finally:
            self._active_relays.pop(peer_id, None)
            with trio.move_on_after(RESET_TIMEOUT_S) as scope:
                scope.shield = True
                await source.reset()
                await dest.reset()


class Circuits:
    """Relayed connections of one host. Made by `open_circuits` only."""

    def __init__(self, host: P2PHost, protocol: CircuitV2Protocol) -> None:
        self._host = host
        roles = RelayRole.CLIENT | RelayRole.STOP
        self._transport = CircuitV2Transport(host.libp2p_host, protocol, RelayConfig(roles=roles))
        self._reserved: dict[str, str] = {}
        self._has_reserved = trio.Event()

    @property
    def addresses(self) -> list[str]:
        """The relay addresses at which this host can be reached now, in the order of the reservations."""
        return [f"{relay}/{CIRCUIT}/p2p/{self._host.peer_id}" for relay in self._reserved.values()]

    async def wait_reserved(self, count: int) -> None:
        """Until so many relays hold a reservation."""
        while len(self._reserved) < count:
            self._has_reserved = trio.Event()
            await self._has_reserved.wait()

    async def dial(self, address: str, peer: ID) -> None:
        """Connect to a peer behind a relay. Raises PeerUnreachable."""
        relay, _ = split_circuit(address)
        await self._host.connect(relay)
        try:
            await self._transport.dial(Multiaddr(address))
        except Exception as error:  # libp2p lets exceptions of every layer, and of a relay's garbage, through
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
                self._has_reserved.set()
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
        except Exception as error:  # libp2p's are of many kinds, and a relay may answer anything
            logger.debug("no reservation at relay %s: %s", relay, error)
            return False


def require_relays(relays: Sequence[str]) -> None:
    """Raises AddressInvalid unless all are addresses of relays themselves."""
    for relay in relays:
        try:
            address, _ = decode_address(relay) if relay.startswith("/") else (None, relay)
        except AddressInvalid as error:
            raise AddressInvalid(f"{error}: a relay's is /ip4/HOST/tcp/PORT/p2p/ID") from error
        if address is None or is_circuit(address):
            raise AddressInvalid(f"a relay is named by its own address, /ip4/HOST/tcp/PORT/p2p/ID: {relay!r}")


@asynccontextmanager
async def open_circuits(
    host: P2PHost, relays: Sequence[str] = (), *, reservations_max: int = 0
) -> AsyncIterator[Circuits]:
    """Dial through relays and be reachable through `relays`; serve as a relay for up to `reservations_max` others.

    Raises AddressInvalid.
    """
    require_relays(relays)
    limits = RelayLimits(
        duration=CIRCUIT_S,
        data=CIRCUIT_BYTES,
        max_circuit_conns=CIRCUITS_PER_RESERVATION,
        max_reservations=reservations_max,
        reservation_ttl=RESERVATION_S,
    )
    protocol = RelayProtocol(host.libp2p_host, limits, allow_hop=reservations_max > 0)
    failure: Exception | None = None
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
        except Exception as error:
            failure = error  # raised once outside, so that the nurseries do not wrap it in groups
        finally:
            host.dial_circuit = None
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@asynccontextmanager
async def open_roaming_host(
    seed: bytes, listen: Sequence[str], relays: Sequence[str] = ()
) -> AsyncIterator[tuple[P2PHost, list[str]]]:
    """A host that dials through relays as well, and the addresses at which others reach it.

    These are where it listens; or, where `relays` are given, through those of them that have taken a reservation: who
    needs a relay cannot be dialled where it listens. Raises ListenFailed (also when no relay takes a reservation),
    AddressInvalid, ValueError (seed).
    """
    async with open_host(seed, listen) as host, open_circuits(host, relays) as circuits:
        with trio.move_on_after(RESERVED_WITHIN_S):
            await circuits.wait_reserved(len(set(relays)))
        if relays and not circuits.addresses:
            raise ListenFailed(
                f"no relay takes a reservation within {RESERVED_WITHIN_S:.0f} s: {', '.join(relays)}; "
                "a relay is a node run with --relay-for, and has room for so many"
            )
        yield host, circuits.addresses if relays else host.addresses
