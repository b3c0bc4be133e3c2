"""A node's whole consensus: the object that a live node and a simulated node both run.

It starts silent: it asks its peers for their heights, takes the blocks it lacks, and votes only once no credible peer
is ahead of it. From then on messages reach the core, and whenever a height makes no progress for a while, it asks a
peer for what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from consensus.bft.commit import verify_commit
from consensus.bft.errors import CommitError
from consensus.bft.inputs import Input, ProposalReceived, VoteReceived
from consensus.bft.timeouts import Timeouts
from consensus.bft.validators import PowerTable
from node.chain.pool import TransactionPool
from node.p2p.acceptance import Acceptance
from node.replica.block_sync import BlockSync
from node.replica.evidence import EvidencePool
from node.replica.exchange import make_offer, make_want, serve_blocks
from node.replica.inbox import Inbox
from node.replica.tip import ChainTip, Reason
from node.replica.voting import Voting
from node.replica.wal import Wal
from node.replica.world import GossipMessage, Request, Response, World
from node.signer.signer import SignerUnreachable, VoteSigner
from node.store.chain_store import ChainStore, FinalizedBlock, Head
from proto_specs.errors import MyelinError
from proto_specs.types.chain import (
    DuplicateProposal,
    DuplicateVote,
    Evidence,
    FalseVote,
    Proposal,
    Vote,
    compute_block_hash,
    is_vote_signed,
)
from proto_specs.types.gossip import BlocksRequest, ExchangeOffer, FinalBlock, ProposalPart, TransactionBatch, Want

logger = logging.getLogger("myelin.consensus")

DEFAULT_TIMEOUTS = Timeouts(3_000, 500, 1_000, 500, 1_000, 500)
TICK_MS = 250
QUIET_TICKS = 2
"""Ticks without progress at a height after which peers are asked about it, one per tick."""


class DecidedInvalid(MyelinError):
    """More than two thirds decided a block that this node finds invalid. Another version, or a fork of the rules."""


@dataclass(frozen=True, slots=True)
class ReplicaParts:
    """A replica's parts. `signer` is None on a node that only follows; `logged` is the log's content at the start."""

    store: ChainStore
    pool: TransactionPool
    signer: VoteSigner | None
    wal: Wal
    logged: list[tuple[int, Input]]
    world: World
    block_interval_ms: int
    on_finalized: Callable[[FinalizedBlock], None]
    on_transactions: Callable[[str, TransactionBatch], Acceptance]
    timeouts: Timeouts = DEFAULT_TIMEOUTS


class Replica:
    """One node's part in consensus. Synchronous: see `node/replica/world.py` for what runs when."""

    def __init__(self, parts: ReplicaParts) -> None:
        store, world = parts.store, parts.world
        self._parts = parts
        self._world = world
        self._tip = ChainTip(store, parts.pool, world, parts.on_finalized)
        self._evidence = EvidencePool(store)
        self._voting = Voting(
            store.genesis_hash,
            self._tip,
            self._evidence,
            parts.signer,
            parts.wal,
            world,
            parts.timeouts,
            parts.block_interval_ms,
        )
        self._inbox = Inbox(store.genesis_hash, self._voting.core, self._tip, self._voting.report)
        self._sync = BlockSync(store.genesis_hash, world, lambda: self._tip.head, self._adopt_synced, self._end_sync)
        self._asked: set[str] = set()
        self._settled: dict[str, tuple[int, bool]] = {}
        """Peer -> (our head's height when it was last asked, whether it answered that it has nothing above that)."""
        self._stamp: tuple[int, int, int] = (0, 0, 0)
        self._quiet_ticks = 0

    def start(self) -> None:
        """Catch up with the peers, then go on from the consensus log."""
        self._tick()

    @property
    def head(self) -> Head:
        """The last finalized block."""
        return self._tip.head

    def receive(self, peer: str, message: GossipMessage) -> Acceptance:
        """Handle a message that a peer passed on."""
        match message:
            case Vote():
                return self._receive_vote(message)
            case ProposalPart():
                verdict, proposal = self._inbox.take_part(message)
                if proposal is not None:
                    self._voting.receive(ProposalReceived(proposal))
                return verdict
            case DuplicateVote() | DuplicateProposal() | FalseVote():
                return self._evidence.add(message, self._world.read_clock_ms())
            case TransactionBatch():
                return self._parts.on_transactions(peer, message)

    def report(self, evidence: Evidence) -> bool:
        """Keep somebody's evidence for a block and pass it on; whether it is new and convicts."""
        verdict = self._evidence.add(evidence, self._world.read_clock_ms())
        if verdict is Acceptance.ACCEPT:
            self._world.publish(evidence)
        return verdict is Acceptance.ACCEPT

    def answer(self, peer: str, request: Request) -> Response:
        """Serve a peer's request. Raises ProtocolError to refuse it."""
        match request:
            case Want():
                if request.height > self._tip.head.height + 1:
                    self._ask(peer)  # the peer says that it is ahead: let it show the blocks
                return make_offer(request, self._voting.core, self._parts.store)
            case BlocksRequest():
                return serve_blocks(request, self._parts.store)

    def _receive_vote(self, vote: Vote) -> Acceptance:
        if vote.height < self._voting.core.height:
            return self._receive_late_vote(vote)
        verdict = self._inbox.check_vote(vote)
        if verdict is Acceptance.ACCEPT and self._is_made_elsewhere(vote):
            self._voting.stand_down(vote)
        if verdict is Acceptance.ACCEPT and not self._voting.receive(VoteReceived(vote)):
            return Acceptance.IGNORE
        return verdict

    def _is_made_elsewhere(self, vote: Vote) -> bool:
        """Whether our key signed the vote, but our signer did not."""
        signer = self._parts.signer
        if signer is None or vote.validator != signer.public_key:
            return False
        try:
            return not signer.has_signed(vote)
        except SignerUnreachable:
            return False  # an unreachable signer signs nothing now either, and will be asked about the next vote

    def _receive_late_vote(self, vote: Vote) -> Acceptance:
        """A precommit for the previous height, which the block of the current height may still carry."""
        if not self._voting.last_commit.lacks(vote):
            return Acceptance.IGNORE
        if not is_vote_signed(vote, self._parts.store.genesis_hash):
            return Acceptance.REJECT
        self._voting.last_commit.add(vote)
        return Acceptance.ACCEPT

    def _receive_proposal(self, proposal: Proposal) -> Acceptance:
        verdict = self._inbox.check_proposal(proposal)
        if verdict is Acceptance.ACCEPT and not self._voting.receive(ProposalReceived(proposal)):
            return Acceptance.IGNORE
        return verdict

    # Catching up

    def _tick(self) -> None:
        self._world.set_timer(TICK_MS, self._tick)
        if self._sync.is_running:
            return
        if not self._voting.is_running:
            if self._is_caught_up():
                self._begin()
            else:
                self._ask_all()
            return
        core = self._voting.core
        stamp = (core.height, core.round, int(core.step))
        self._quiet_ticks = self._quiet_ticks + 1 if stamp == self._stamp else 0
        self._stamp = stamp
        if self._voting.is_deciding and self._quiet_ticks >= QUIET_TICKS:
            self._ask_one()

    def _begin(self) -> None:
        head = self._tip.head
        logger.info("caught up at block %d", head.height)
        self._voting.begin([event for height, event in self._parts.logged if height == head.height + 1])
        self._parts.logged.clear()

    def _is_caught_up(self) -> bool:
        """Whether our own power decides alone, or every peer was asked for the next block and none had it.

        A peer that claims to be ahead and does not show the block is ignored, so that false claims cannot keep a node
        silent.
        """
        head, signer = self._tip.head, self._parts.signer
        table = PowerTable(head.validators)
        if signer is not None and table.is_quorum(table.get_power(signer.public_key)):
            return True
        answers = [self._settled.get(peer, (-1, False)) for peer in self._world.list_peers()]
        return all(height == head.height for height, _ in answers) and any(is_answer for _, is_answer in answers)

    def _ask_all(self) -> None:
        for peer in self._world.list_peers():
            self._ask(peer)

    def _ask_one(self) -> None:
        peers = [peer for peer in self._world.list_peers() if peer not in self._asked]
        if peers:
            self._ask(peers[self._world.random_below(len(peers))])

    def _ask(self, peer: str) -> None:
        if peer in self._asked:
            return
        self._asked.add(peer)
        head = self._tip.head
        is_current = self._voting.core.height == head.height + 1
        want = make_want(self._voting.core, head.validators) if is_current else Want(head.height + 1, 0, (), ())

        def then(response: Response | None) -> None:
            self._asked.discard(peer)
            if isinstance(response, ExchangeOffer):
                self._take_offer(peer, head.height, response)
            else:
                self._settled[peer] = (head.height, False)

        self._world.request(peer, want, then)

    def _take_offer(self, peer: str, height: int, offer: ExchangeOffer) -> None:
        verdicts = [self._receive_proposal(one) for one in offer.proposals]
        verdicts += [self._receive_vote(one) for one in offer.votes]
        if Acceptance.REJECT in verdicts:
            self._world.penalise(peer, "offered what does not verify")
        if offer.head_height > height + 1:
            self._settled[peer] = (height, False)
            self._sync.learn_head(peer, offer.head_height)
        elif offer.decided is not None:
            self._take_decided(peer, offer.decided)
        else:
            self._settled[peer] = (height, True)
            self._voting.set_silent(False)

    def _take_decided(self, peer: str, final: FinalBlock) -> None:
        """Takes the single decided block that this node lacks."""
        head, commit = self._tip.head, final.commit
        if final.block.header.height != head.height + 1:
            return
        try:
            block_hash = compute_block_hash(final.block.header)
            verify_commit(commit, head.validators, self._parts.store.genesis_hash, head.height + 1, block_hash)
        except CommitError as error:
            self._settled[peer] = (head.height, False)
            self._world.penalise(peer, f"a block that nobody decided: {error}")
            return
        self._adopt(final, lambda: None)

    def _adopt_synced(self, final: FinalBlock, then: Callable[[], None]) -> None:
        self._voting.set_silent(True)
        self._adopt(final, then)

    def _adopt(self, final: FinalBlock, then: Callable[[], None]) -> None:
        height = final.block.header.height

        def done(reason: Reason) -> None:
            if reason is not None:
                # More than two thirds decided it, so they or this node are wrong; continuing would make it worse.
                raise DecidedInvalid(f"block {height} was decided, and is invalid here: {reason}")
            then()

        self._voting.adopt(final, done)

    def _end_sync(self) -> None:
        self._voting.set_silent(False)
        logger.info("block %d: nobody shows a later one", self._tip.head.height)
