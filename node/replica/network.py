"""`Network` of a live replica: topics and request protocols of one chain over libp2p. Decodes and bounds messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio

from node.p2p.acceptance import Acceptance
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request as request_once
from node.replica.world import GossipMessage, Request, Response
from proto_specs import limits
from proto_specs.codec import decode, decode_as, encode
from proto_specs.errors import DecodeError
from proto_specs.types.chain import Evidence, Vote
from proto_specs.types.gossip import (
    BLOCKS_PROTOCOL,
    EXCHANGE_PROTOCOL,
    BlocksRequest,
    BlocksResponse,
    ExchangeOffer,
    ProposalPart,
    TransactionBatch,
    Want,
    compute_topic,
)

logger = logging.getLogger("myelin.network")

TOPICS: dict[Any, str] = {
    Vote: "votes",
    ProposalPart: "proposals",
    Evidence: "evidence",
    TransactionBatch: "transactions",
}
Take = Callable[[str, TransactionBatch], Awaitable[Acceptance]]
"""Admits a peer's transactions. The replica does not handle them."""
PROTOCOLS: dict[type[Any], tuple[str, type[Any]]] = {
    Want: (EXCHANGE_PROTOCOL, ExchangeOffer),
    BlocksRequest: (BLOCKS_PROTOCOL, BlocksResponse),
}
REQUEST_BYTES_MAX = 64 << 10
TIMEOUT_S = 5.0
STREAMS_PER_PEER_MAX = 4


class Participant(Protocol):
    """Receives messages and answers requests: the replica."""

    def receive(self, peer: str, message: GossipMessage) -> Acceptance:
        """The acceptance of the message."""

    def answer(self, peer: str, request: Request) -> Response:
        """Answers a request. Raises ProtocolError to refuse it."""


class Topics(Protocol):
    """Publish and subscribe, see `node/p2p/pubsub.py`."""

    def subscribe(self, topic: str, receive: Callable[[str, bytes], Acceptance | Awaitable[Acceptance]]) -> None:
        """Deliver every message of a topic, once."""

    def publish(self, topic: str, data: bytes) -> None:
        """Send to all subscribers. Must not block."""


class Peers(Protocol):
    """Connected peers of our chain, see `node/p2p/peer_manager.py`."""

    def list_peers(self) -> list[str]:
        """The peers' ids."""

    def penalise(self, peer: str, reason: str) -> None:
        """Count an offence."""


class ChainNetwork:
    """One chain's topics and protocols on a host."""

    def __init__(self, host: P2PHost, peers: Peers, genesis: bytes) -> None:
        self._host = host
        self._peers = peers
        self._names = {kind: compute_topic(name, genesis) for kind, name in TOPICS.items()}
        self._topics: Topics | None = None

    def join(self, topics: Topics, participant: Participant, take: Take) -> None:
        """Subscribe, and serve requests, on behalf of the replica. Call it before connecting to any peer."""
        self._topics = topics
        for kind, topic in self._names.items():
            receive: Callable[[str, Any], Acceptance | Awaitable[Acceptance]] = participant.receive
            topics.subscribe(topic, _make_receiver(kind, take if kind is TransactionBatch else receive))
        for kind, (protocol, _) in PROTOCOLS.items():
            self._host.serve_requests(
                protocol,
                _make_answerer(kind, participant),
                max_request_bytes=REQUEST_BYTES_MAX,
                max_streams_per_peer=STREAMS_PER_PEER_MAX,
                timeout_s=TIMEOUT_S * 2,
            )

    def publish(self, message: GossipMessage) -> None:
        """See Network."""
        assert self._topics is not None, "joined"
        kind = Evidence if isinstance(message, Evidence) else type(message)
        self._topics.publish(self._names[kind], encode(message, kind))

    def list_peers(self) -> list[str]:
        """See Network."""
        return self._peers.list_peers()

    async def request(self, peer: str, request: Request) -> Response | None:
        """See Network."""
        protocol, kind = PROTOCOLS[type(request)]
        try:
            body = await request_once(
                self._host,
                peer,
                protocol,
                encode(request),
                timeout_s=TIMEOUT_S,
                max_response_bytes=limits.MESSAGE_BYTES_MAX,
            )
            response: Response = decode(kind, body)
        except NetworkError as error:
            logger.debug("no answer of %s to %s: %s", peer, protocol, error)
            return None
        except DecodeError as error:
            self._peers.penalise(peer, f"malformed answer on {protocol}: {error}")
            return None
        return response

    def penalise(self, peer: str, reason: str) -> None:
        """See Network."""
        self._peers.penalise(peer, reason)


def _make_receiver(
    kind: Any, take: Callable[[str, Any], Acceptance | Awaitable[Acceptance]]
) -> Callable[[str, bytes], Acceptance | Awaitable[Acceptance]]:
    def receive(peer: str, data: bytes) -> Acceptance | Awaitable[Acceptance]:
        try:
            message = decode_as(kind, data)
        except DecodeError:
            return Acceptance.REJECT
        return take(peer, message)

    return receive


def _make_answerer(kind: type[Any], participant: Participant) -> Callable[[bytes, str], Any]:
    turns = trio.CapacityLimiter(1)

    async def answer(body: bytes, peer: str) -> bytes:
        request = decode(kind, body)
        if kind is BlocksRequest:  # megabytes, read from the store alone: one at a time, and votes do not wait for it
            return await trio.to_thread.run_sync(lambda: encode(participant.answer(peer, request)), limiter=turns)
        return encode(participant.answer(peer, request))

    return answer
