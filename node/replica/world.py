"""What a replica asks of the world around it. Clock, network, threads and randomness are behind this and nowhere else.

Two worlds exist: `node/replica/live.py` (trio, libp2p, threads) and `node/sim/` (virtual time under a seed). A replica
is synchronous: every method of it, and every callback it hands out, runs on one loop and never waits. Files are behind
`LogFile` (`node/replica/wal.py`), `HistoryFile` (`node/signer/signer.py`) and `Backing` (`node/store/backing.py`).
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
    """Everything outside. Callbacks come back on the replica's loop, never from within the call that registers them."""

    def read_clock_ms(self) -> int:
        """Unix time; may be wrong, may jump. For block times only."""

    def read_monotonic_ms(self) -> int:
        """Time since some moment; never goes back. For pace and patience."""

    def random_below(self, bound: int) -> int:
        """A number in [0, bound), for choosing peers. Nothing that nodes must agree on depends on it."""

    def set_timer(self, delay_ms: int, then: Callable[[], None]) -> None:
        """Call `then` once, `delay_ms` later or after that."""

    def start_job(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run `job` off the loop (it may take a second) and hand its result back. What it raises ends the node."""

    def check_signatures(self, jobs: Sequence[SignatureJob], then: Callable[[list[bool]], None]) -> None:
        """Whether each signature is valid, in order; on as many cores as there are."""

    def publish(self, message: GossipMessage) -> None:
        """To everybody on the chain. May be lost, late, doubled and out of order."""

    def list_peers(self) -> list[str]:
        """Connected peers of this chain, in a fixed order."""

    def request(self, peer: str, request: Request, then: Callable[[Response | None], None]) -> None:
        """Ask one peer. None when it refused, broke the protocol or did not answer in time; always called back."""

    def penalise(self, peer: str, reason: str) -> None:
        """This peer broke the protocol or served what is false: score it down, drop it when it goes on."""
