"""The rules that every simulation must keep. A violation is text for people; the seed replays it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.bft.commit import verify_commit
from consensus.bft.errors import CommitError
from consensus.bft.evidence import get_accused
from consensus.runtime.balances.state import accounts, issuance
from consensus.runtime.staking.state import is_tombstoned
from node.store.chain_store import FinalizedBlock
from proto_specs.types.chain import Proposal, Vote, compute_block_hash
from proto_specs.types.gossip import ExchangeOffer, ProposalPart

if TYPE_CHECKING:
    from node.sim.consensus.node import SimNode


class Checks:
    """Checks a cluster while it runs, and its chains afterwards."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self._decided: dict[int, tuple[bytes, bytes, str]] = {}
        self._signed: dict[tuple[bytes, str, int, int], bytes] = {}

    def note_left(self, node: SimNode, message: object) -> None:
        """Check the node's own signatures in an honest node's outgoing message, published or sent as an answer."""
        match message:
            case Vote() if message.validator == node.key.public_key:
                self._note_signature(node, f"vote {message.kind}", message.height, message.round, message.signature)
            case ProposalPart() if message.head.proposer == node.key.public_key:
                head = message.head
                self._note_signature(node, "proposal", head.height, head.round, head.signature)
            case Proposal() if message.proposer == node.key.public_key:
                self._note_signature(node, "proposal", message.height, message.round, message.signature)
            case ExchangeOffer():
                for one in (*message.proposals, *message.votes):
                    self.note_left(node, one)

    def _note_signature(self, node: SimNode, kind: str, height: int, round_: int, signature: bytes) -> None:
        """A slot never gets a second signature (an identical text has the identical signature), nor one that is not on
        disk.

        The disk holds the signatures of a single height, so only the first sight of a signature looks there.
        """
        slot = (node.key.public_key, kind, height, round_)
        if slot in self._signed:
            if self._signed[slot] != signature:
                self._add(f"{node.name} signed twice at height {height}, round {round_}: {kind}")
            return
        self._signed[slot] = signature
        if node.disk.history is None or signature.hex() not in node.disk.history:
            self._add(f"{node.name} sent a {kind} of height {height} before it was on disk")

    def note_finalized(self, node: SimNode, done: FinalizedBlock) -> None:
        """All honest nodes have the same block and state at each height."""
        head = done.head
        found = (head.block_hash, head.state_root, node.name)
        first = self._decided.setdefault(head.height, found)
        if node.liar is None and first[:2] != found[:2]:
            self._add(f"fork at height {head.height}: {first[2]} and {node.name} have different blocks or states")

    def note_blame(self, by: SimNode, peer: SimNode, reason: str) -> None:
        """Honest nodes never blame honest nodes."""
        if by.liar is None and peer.liar is None:
            self._add(f"{by.name} blames {peer.name}: {reason}")

    def check_chain(self, node: SimNode, honest: list[bytes]) -> None:
        """Check a node's whole chain: links, commits of the right sets, money, no conviction of honest validators."""
        store, genesis = node.store, node.genesis
        parent = genesis.hash
        for height in range(1, store.get_head().height + 1):
            block, commit = store.get_block(height), store.get_commit(height)
            if block is None or commit is None or block.header.parent_hash != parent:
                self._add(f"{node.name}: block {height} is missing or not linked")
                return
            parent = compute_block_hash(block.header)
            validators = store.get_validators(block.header.validators_hash)
            try:
                assert validators is not None, "the sets of all blocks are kept"
                verify_commit(commit, validators, genesis.hash, height, parent)
            except CommitError as error:
                self._add(f"{node.name}: commit of block {height}: {error}")
            for evidence in block.evidence:
                if get_accused(evidence) in honest:
                    self._add(f"{node.name}: block {height} holds evidence against an honest validator")
        for key in honest:
            if is_tombstoned(store, key):
                self._add(f"{node.name}: an honest validator is convicted")
        held = sum(account.free + account.reserved for _, account in accounts.iterate(store))
        if held != issuance.read(store):
            self._add(f"{node.name}: accounts hold {held}, issued are {issuance.read(store)}")

    def fail(self, text: str) -> None:
        """Record any other violation."""
        self._add(text)

    def _add(self, text: str) -> None:
        if text not in self.violations:
            self.violations.append(text)
