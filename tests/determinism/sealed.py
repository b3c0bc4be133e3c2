"""Makes real blocks in memory: proven beacons, rotating proposers, signed commits. For recorded chains and fuzzing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.beacon import compute_beacon, prove_beacon
from consensus.bft.evidence import get_slot
from consensus.runtime.context import BlockContext
from consensus.runtime.executive import execute_block
from consensus.runtime.receipts import ExecutedBlock
from consensus.state.reader import DictState
from consensus.vrf import proof_to_output
from genesis.dev import DevIdentity, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import (
    Block,
    Commit,
    CommitSignature,
    DuplicateVote,
    Header,
    Transaction,
    Vote,
    VoteKind,
    compute_block_hash,
    compute_body_root,
    compute_commit_hash,
    compute_validators_hash,
    compute_vote_bytes,
)
from tests.determinism.follower import Follower
from tests.unit.consensus.runtime.chain import Chain, check_invariants


class SealedChain(Chain):
    """A `Chain` whose blocks are whole: `blocks` holds them, `outcomes` what executing them gave.

    `names` are the identities whose consensus keys may come to sign.
    """

    def __init__(self, spec: ChainSpec, names: Iterable[str]) -> None:
        self.keys = {one.consensus_key.public_key: one for one in map(get_dev_identity, names)}
        self.blocks: list[Block] = []
        self.outcomes: list[ExecutedBlock] = []
        self.absent: set[str] = set()
        super().__init__(spec)
        self.head = Follower(self.genesis)
        self.state: DictState = self.head.state

    def context(self, signed_by: Iterable[bytes] | None = None) -> BlockContext:
        """The context of the next block, by the proposer whose turn it is."""
        proposer, height = self._get_proposer(), self.height + 1
        proof = prove_beacon(proposer.consensus_key.seed, self.head.beacon, height)
        return BlockContext(
            height=height,
            time_ms=self.head.time_ms + 1_000,
            proposer=proposer.consensus_key.public_key,
            beacon=compute_beacon(self.head.beacon, proof_to_output(proof)),
            genesis=self.genesis.hash,
            parent_hash=self.head.block_hash,
            last_commit=self._commit(signed_by) if self.height else None,
        )

    def block_hash(self, height: int) -> bytes:
        """The hash of a block; of block 0 it is the genesis hash."""
        return compute_block_hash(self.blocks[height - 1].header) if height else self.genesis.hash

    def block(
        self,
        transactions: Sequence[Transaction] = (),
        evidence: Sequence[DuplicateVote] = (),
        signed_by: Iterable[bytes] | None = None,
    ) -> ExecutedBlock:
        """Execute, seal and apply one block. `absent` validators are missing from the commit it carries."""
        context, validators = self.context(signed_by), self.head.validators
        proof = prove_beacon(self._get_proposer().consensus_key.seed, self.head.beacon, context.height)
        executed = execute_block(self.state, context, evidence, transactions)
        self.head.follow(executed)
        header = Header(
            height=context.height,
            parent_hash=context.parent_hash,
            time_ms=context.time_ms,
            proposer=context.proposer,
            vrf_proof=proof,
            validators_hash=compute_validators_hash(validators),
            last_commit_hash=compute_commit_hash(context.last_commit),
            body_root=compute_body_root(tuple(evidence), tuple(transactions)),
            state_root=self.head.root,
            receipts_root=executed.receipts_root,
        )
        self.blocks.append(Block(header, tuple(evidence), tuple(transactions), context.last_commit))
        self.outcomes.append(executed)
        self.head.settle(compute_block_hash(header), header.time_ms, context.beacon)
        self.height += 1
        self.last = executed
        check_invariants(self.state)
        return executed

    def make_commit(self) -> Commit:
        """The commit of the last block."""
        return self._commit(None)

    def make_double_vote(self, who: DevIdentity, height: int) -> DuplicateVote:
        """Two precommits of one validator for different blocks of a height."""
        votes = [self._vote(who, height, bytes([mark]) * 32) for mark in (1, 2)]
        assert get_slot(votes[0]) == get_slot(votes[1])
        return DuplicateVote(votes[0], votes[1])

    def _vote(self, who: DevIdentity, height: int, block_hash: bytes) -> Vote:
        payload = compute_vote_bytes(self.genesis.hash, VoteKind.PRECOMMIT, height, 0, block_hash)
        key = who.consensus_key
        return Vote(VoteKind.PRECOMMIT, height, 0, block_hash, key.public_key, key.sign(Tag.VOTE_SIGN, payload))

    def _get_proposer(self) -> DevIdentity:
        return self.keys[self.head.rotation.get_proposer()]

    def _commit(self, signed_by: Iterable[bytes] | None) -> Commit:
        """Precommits of everybody who decided the last block and is not absent, in the order of the keys."""
        wanted = None if signed_by is None else set(signed_by)
        block_hash, signatures = self.head.block_hash, []
        payload = compute_vote_bytes(self.genesis.hash, VoteKind.PRECOMMIT, self.height, 0, block_hash)
        for member in self.head.deciders.members:
            who = self.keys[member.key]
            if who.name in self.absent or (wanted is not None and member.key not in wanted):
                continue
            signatures.append(CommitSignature(member.key, who.consensus_key.sign(Tag.VOTE_SIGN, payload)))
        return Commit(self.height, 0, block_hash, tuple(signatures))


def derive_seed(*parts: object) -> int:
    """A number for `random.Random` from any parts: the same everywhere."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hash_tagged(Tag.PAYLOAD, text)[:8], "big")
