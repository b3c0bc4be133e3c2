"""A node's consensus, whole: the one object that a live node and a simulated one both run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from consensus.bft.timeouts import Timeouts
from node.chain.pool import TransactionPool
from node.disk import Disk
from node.replica.world import GossipMessage, Request, Response, Verdict, World
from node.signer import Signer
from node.store.chain_store import ChainStore, FinalizedBlock, Head

DEFAULT_TIMEOUTS = Timeouts(3_000, 500, 1_000, 500, 1_000, 500)


@dataclass(frozen=True, slots=True)
class ReplicaParts:
    """What a replica works on. `signer` is None on a node that only follows."""

    store: ChainStore
    pool: TransactionPool
    signer: Signer | None
    disk: Disk
    world: World
    block_interval_ms: int
    on_finalized: Callable[[FinalizedBlock], None]
    timeouts: Timeouts = DEFAULT_TIMEOUTS


class Replica:
    """One node's part in consensus. Synchronous: see `node/replica/world.py` for what runs when."""

    def __init__(self, parts: ReplicaParts) -> None:
        self._parts = parts

    def start(self) -> None:
        """Catch up with the peers, then go on from the consensus log. Raises WalDamaged."""

    def receive(self, peer: str, message: GossipMessage) -> Verdict:
        """Take in what a peer passed on."""
        return Verdict.IGNORE

    def answer(self, peer: str, request: Request) -> Response:
        """Serve a peer's request. Raises ProtocolError to refuse it."""
        raise NotImplementedError

    @property
    def head(self) -> Head:
        """The last finalized block."""
        return self._parts.store.get_head()
