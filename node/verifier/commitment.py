"""What a challenged stage has committed to on chain, by itself or in a statement, and how its opening is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from consensus.runtime.inference.state import Challenge, Request
from inference.serving.opening import (
    AuthenticOpening,
    CommittedStatement,
    authenticate_opening,
    authenticate_statement_opening,
)
from node.client.chain_view import SessionEntry
from proto_specs.order_rules import compute_opening_bytes_max, make_bounds
from proto_specs.types.manifest import Manifest, WireDtype
from proto_specs.types.request import Opening, OpeningRequest, StageRoots, compute_windows
from proto_specs.types.sum_tree import SumNode


class CommitmentChain(Protocol):
    """Where commitments are read. Raises ChainUnreachable."""

    @property
    def genesis(self) -> bytes:
        """The chain's genesis hash."""

    async def get_request(self, request: bytes) -> Request | None:
        """A settled request or statement."""

    async def get_session(self, session: bytes) -> SessionEntry | None:
        """A session by id."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """The data that authenticates an opening, and the length of the path. A statement's `roots` say nothing."""

    roots: StageRoots
    session_key: bytes
    stages: int
    statement: CommittedStatement | None

    def compute_bytes_max(self, challenge: Challenge, manifest: Manifest) -> int:
        """The most bytes of an honest opening. In a statement the request may be as long as any."""
        row_bytes = manifest.architecture.hidden * WireDtype(manifest.wire_dtype).item_bytes
        window, windows = challenge.window, self.roots.windows
        if self.statement is not None:
            windows = compute_windows(make_bounds(manifest).positions_max)
            window = windows - 1
        return compute_opening_bytes_max(window, windows, self.stages, row_bytes)

    def authenticate(self, opening: Opening, challenge: Challenge, manifest: Manifest) -> AuthenticOpening:
        """Check an opening against it. Raises OpeningError."""
        if self.statement is None:
            return authenticate_opening(opening, self.roots, challenge.window, self.session_key, manifest)
        assert challenge.point is not None, "of a statement the chain draws a position"
        return authenticate_statement_opening(
            opening, self.statement, challenge.stage, challenge.point, self.session_key, manifest
        )


def make_opening_request(challenge: Challenge) -> OpeningRequest:
    """What the challenged worker is asked for."""
    return OpeningRequest(challenge.request, challenge.stage, challenge.window, challenge.point)


async def read_commitment(chain: CommitmentChain, challenge: Challenge) -> Commitment | None:
    """What the challenged stage committed to; None when the chain does not know its request or session."""
    request = await chain.get_request(challenge.request)
    session = await chain.get_session(request.session) if request is not None else None
    if request is None or session is None:
        return None
    committed = request.stages[challenge.stage]
    ends = (committed.input_root, committed.output_root)
    windows = committed.windows if request.requests is None else 0
    roots = StageRoots(challenge.request, challenge.stage, windows, committed.positions, *ends)
    statement: CommittedStatement | None = None
    if request.requests is not None:
        statement = CommittedStatement(
            genesis=chain.genesis,
            session=request.session,
            model=request.model,
            stages=tuple((one.worker, one.start, one.end) for one in request.stages),
            requests=request.requests,
            root=SumNode(request.root, request.prompt_tokens, request.tokens),
        )
    return Commitment(roots, session.session_key, len(request.stages), statement)
