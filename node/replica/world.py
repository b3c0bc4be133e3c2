"""A replica's only access to clock, network, threads and randomness.

Two worlds exist: `node/replica/live.py` (trio, libp2p, threads) and `node/sim/` (virtual time under a seed). A replica
is synchronous: each of its methods and callbacks runs on one loop and never waits. Files are behind `LogFile`
(`node/replica/wal.py`), `HistoryFile` (`node/signer/signer.py`) and `Backing` (`node/store/backing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from node.signatures.jobs import SignatureJob
from proto_specs.types.chain import Evidence, Vote
from proto_specs.types.gossip import (
    BlocksRequest,
    BlocksResponse,
    ExchangeOffer,
    ProposalPart,
    TransactionBatch,
    Want,
)

T = TypeVar("T")

GossipMessage: TypeAlias = Vote | ProposalPart | Evidence | TransactionBatch
Request: TypeAlias = Want | BlocksRequest
Response: TypeAlias = ExchangeOffer | BlocksResponse


class World(Protocol):
    """The world of a replica. Callbacks run on the replica's loop, never inside the call that registers them."""

    def read_clock_ms(self) -> int:
        """Unix time, for block times only. May be wrong, may jump."""

    def read_monotonic_ms(self) -> int:
        """Time since an arbitrary moment, for pace and patience. Never goes back."""

    def random_below(self, bound: int) -> int:
        """A random number in [0, bound), for choosing peers. Nothing that nodes must agree on depends on it."""

    def set_timer(self, delay_ms: int, then: Callable[[], None]) -> None:
        """Call `then` once, at least `delay_ms` from now."""

    def start_job(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run `job`, which may take a second, off the loop; `then` gets its result. An exception ends the node."""

    def check_signatures(self, jobs: Sequence[SignatureJob], then: Callable[[list[bool]], None]) -> None:
        """Check signatures on all cores; `then` gets whether each is valid, in order."""

    def publish(self, message: GossipMessage) -> None:
        """Send to all peers of the chain. The message may be lost, late, duplicated and out of order."""

    def list_peers(self) -> list[str]:
        """Connected peers of this chain, in a fixed order."""

    def request(self, peer: str, request: Request, then: Callable[[Response | None], None]) -> None:
        """Ask a peer. `then` is always called; with None when the peer refused, broke the protocol or was too slow."""

    def penalise(self, peer: str, reason: str) -> None:
        """Score a peer down that broke the protocol or served false data; drop it when it continues."""
