"""What must hold of every simulation. A violation is text for people; the seed replays it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.bft.commit import verify_commit
from consensus.bft.errors import CommitError
from consensus.bft.evidence import get_accused
from consensus.runtime.balances.state import accounts, issuance
from consensus.runtime.staking.state import is_tombstoned
from node.store.chain_store import FinalizedBlock
from proto_specs.types.chain import Vote, compute_block_hash

if TYPE_CHECKING:
    from node.sim.node import SimNode


class Checks:
    """Watches a cluster while it runs, and its chains afterwards."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self._decided: dict[int, tuple[bytes, bytes, str]] = {}
        self._signed: dict[tuple[bytes, int, int, int], bytes | None] = {}

    def note_left(self, node: SimNode, vote: Vote) -> None:
        """An honest vote leaves its node: never another one for the slot, and never before it is on disk."""
        slot = (vote.validator, vote.kind, vote.height, vote.round)
        if self._signed.setdefault(slot, vote.block_hash) != vote.block_hash:
            self._add(f"{node.name} signed twice at height {vote.height}, round {vote.round}")
        if node.disk.history is None or vote.signature.hex() not in node.disk.history:
            self._add(f"{node.name} sent a vote of height {vote.height} before it was on disk")

    def note_finalized(self, node: SimNode, done: FinalizedBlock) -> None:
        """One block a height, and one state after it."""
        head = done.head
        found = (head.block_hash, head.state_root, node.name)
        first = self._decided.setdefault(head.height, found)
        if node.liar is None and first[:2] != found[:2]:
            self._add(f"fork at height {head.height}: {first[2]} and {node.name} have different blocks or states")

    def note_blame(self, by: SimNode, peer: SimNode, reason: str) -> None:
        """Honest nodes never find fault with honest nodes."""
        if by.liar is None and peer.liar is None:
            self._add(f"{by.name} blames {peer.name}: {reason}")

    def check_chain(self, node: SimNode, honest: list[bytes]) -> None:
        """A node's whole chain: links, commits of the right sets, money, nobody honest convicted."""
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
        """Something else that must not happen."""
        self._add(text)

    def _add(self, text: str) -> None:
        if text not in self.violations:
            self.violations.append(text)
