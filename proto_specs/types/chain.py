"""Transactions, blocks, votes and commits, their hashes and the bytes that are signed."""

from __future__ import annotations

import enum
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, U16, U32, U64, Max, encode, record, variant
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.hashing import Tag, hash_record, hash_tagged
from proto_specs.merkle import compute_root
from proto_specs.types.calls import Call
from proto_specs.types.common import ZERO_HASH, AccountId, Balance, Hash32, PublicKey, Signature, VrfProof

RUNTIME_VERSION = 1


@record
class TransactionBody:
    """A signer's request. Valid in blocks birth_height < h <= birth_height + period_blocks; period 0: always."""

    signer: AccountId
    nonce: U64
    call: Call
    tip: Balance
    birth_height: U64
    period_blocks: U32


@record
class Transaction:
    """A signed extrinsic."""

    body: TransactionBody
    signature: Signature


@record
class SigningPayload:
    """The content of a transaction's signature, which is valid on no other chain, runtime version or fork."""

    body: TransactionBody
    genesis: Hash32
    runtime_version: U32
    birth_hash: Hash32


class VoteKind(enum.IntEnum):
    """The two voting steps of a round."""

    PREVOTE = 1
    PRECOMMIT = 2


@record
class VoteSignBytes:
    """The content of a vote's signature; the same bytes for every validator."""

    genesis: Hash32
    kind: U8
    height: U64
    round: U32
    block_hash: Hash32 | None


@record
class Vote:
    """A prevote or precommit for a block, or for nil."""

    kind: U8
    height: U64
    round: U32
    block_hash: Hash32 | None
    validator: PublicKey
    signature: Signature


@record
class CommitSignature:
    """A validator's precommit inside a commit."""

    validator: PublicKey
    signature: Signature


@record
class Commit:
    """Quorum certificate: precommits of a round for a block, more than two thirds by stake."""

    height: U64
    round: U32
    block_hash: Hash32
    signatures: Annotated[tuple[CommitSignature, ...], Max(limits.VALIDATORS_MAX)]


@record
class ProposalHead:
    """A proposal without its block: enough to check its signature, and the parts that carry the block."""

    height: U64
    round: U32
    valid_round: U32 | None
    block_hash: Hash32
    parts_root: Hash32
    parts_count: U16
    proposer: PublicKey
    signature: Signature


@variant(1)
class DuplicateVote:
    """Evidence: two votes of the same validator, height, round and kind for different blocks."""

    first: Vote
    second: Vote


@variant(2)
class DuplicateProposal:
    """Evidence: two different proposals of the same validator, height and round."""

    first: ProposalHead
    second: ProposalHead


@record
class Header:
    """A block's header; its hash commits to the rest of the block. `state_root` is the state AFTER this block."""

    height: U64
    parent_hash: Hash32
    time_ms: U64
    proposer: PublicKey
    vrf_proof: VrfProof
    validators_hash: Hash32
    last_commit_hash: Hash32
    body_root: Hash32
    state_root: Hash32
    receipts_root: Hash32


@variant(3)
class FalseVote:
    """Evidence: a precommit for a header that contradicts what its parent alone determines (consensus.md)."""

    vote: Vote
    header: Header


Evidence = DuplicateVote | DuplicateProposal | FalseVote


@record
class Block:
    """Header, evidence, transactions, and the commit of the parent (none in block 1)."""

    header: Header
    evidence: Annotated[tuple[Evidence, ...], Max(limits.BLOCK_INHERENTS_MAX)]
    transactions: Annotated[tuple[Transaction, ...], Max(limits.BLOCK_EXTRINSICS_MAX)]
    last_commit: Commit | None


@record
class ProposalSignBytes:
    """The content of a proposer's signature."""

    genesis: Hash32
    height: U64
    round: U32
    valid_round: U32 | None
    block_hash: Hash32
    parts_root: Hash32
    parts_count: U16


@record
class Proposal:
    """A proposed block; `valid_round` is the round of its polka when it is proposed again."""

    height: U64
    round: U32
    valid_round: U32 | None
    block: Block
    proposer: PublicKey
    signature: Signature


@record
class Validator:
    """A member of the elected set: its consensus key, its operator's account and its voting power (stake)."""

    key: PublicKey
    operator: AccountId
    power: U64


@record
class ValidatorSet:
    """The elected validators, ordered by key."""

    members: Annotated[tuple[Validator, ...], Max(limits.VALIDATORS_MAX)]


def compute_extrinsic_hash(transaction: Transaction) -> bytes:
    """The hash by which users know a transaction."""
    return hash_record(Tag.EXTRINSIC, transaction)


def compute_signing_bytes(body: TransactionBody, genesis: bytes, birth_hash: bytes) -> bytes:
    """Canonical bytes under a transaction's signature; for an immortal transaction `birth_hash` is the genesis hash."""
    return encode(SigningPayload(body, genesis, RUNTIME_VERSION, birth_hash))


def sign_transaction(body: TransactionBody, genesis: bytes, birth_hash: bytes, key: SigningKey) -> Transaction:
    """The signed transaction."""
    return Transaction(body, key.sign(Tag.EXTRINSIC_SIGN, compute_signing_bytes(body, genesis, birth_hash)))


def is_transaction_signed(transaction: Transaction, genesis: bytes, birth_hash: bytes) -> bool:
    """Whether the body's signer signed it for this chain."""
    payload = compute_signing_bytes(transaction.body, genesis, birth_hash)
    return is_signature_valid(transaction.body.signer, Tag.EXTRINSIC_SIGN, payload, transaction.signature)


def compute_transaction_digest(transaction: Transaction, genesis: bytes, birth_hash: bytes) -> bytes:
    """The 32 bytes that the signer signed, for checks of many signatures at once."""
    return hash_tagged(Tag.EXTRINSIC_SIGN, compute_signing_bytes(transaction.body, genesis, birth_hash))


def compute_block_hash(header: Header) -> bytes:
    """The hash of a block: its header's hash."""
    return hash_record(Tag.HEADER, header)


def compute_body_root(evidence: tuple[Evidence, ...], transactions: tuple[Transaction, ...]) -> bytes:
    """Merkle root over evidence, then transactions."""
    return compute_root([*(encode(one, Evidence) for one in evidence), *(encode(one) for one in transactions)])


def compute_commit_hash(commit: Commit | None) -> bytes:
    """Hash of the parent's commit; zero in block 1."""
    return ZERO_HASH if commit is None else hash_tagged(Tag.BODY, encode(commit))


def compute_validators_hash(validators: ValidatorSet) -> bytes:
    """The hash by which a header names its validator set."""
    return hash_record(Tag.VALIDATORS, validators)


def compute_vote_bytes(genesis: bytes, kind: int, height: int, round_: int, block_hash: bytes | None) -> bytes:
    """Canonical bytes under a vote's signature."""
    return encode(VoteSignBytes(genesis, kind, height, round_, block_hash))


def is_vote_signed(vote: Vote, genesis: bytes) -> bool:
    """Whether the vote's validator signed it for this chain."""
    payload = compute_vote_bytes(genesis, vote.kind, vote.height, vote.round, vote.block_hash)
    return is_signature_valid(vote.validator, Tag.VOTE_SIGN, payload, vote.signature)


def split_block(block: Block) -> tuple[bytes, ...]:
    """A block's canonical bytes in parts for sending; all but the last are PART_BYTES long."""
    data = encode(block)
    return tuple(data[at : at + limits.PART_BYTES] for at in range(0, len(data), limits.PART_BYTES))


def compute_proposal_bytes(genesis: bytes, height: int, round_: int, valid_round: int | None, block: Block) -> bytes:
    """Canonical bytes under a proposal's signature: they bind header, body and parts."""
    parts, block_hash = split_block(block), compute_block_hash(block.header)
    return encode(ProposalSignBytes(genesis, height, round_, valid_round, block_hash, compute_root(parts), len(parts)))


def get_proposal_head(proposal: Proposal) -> ProposalHead:
    """The proposal without its block."""
    parts = split_block(proposal.block)
    return ProposalHead(
        proposal.height,
        proposal.round,
        proposal.valid_round,
        compute_block_hash(proposal.block.header),
        compute_root(parts),
        len(parts),
        proposal.proposer,
        proposal.signature,
    )


def is_proposal_head_signed(head: ProposalHead, genesis: bytes) -> bool:
    """Whether the named proposer signed this proposal for this chain."""
    payload = encode(
        ProposalSignBytes(
            genesis, head.height, head.round, head.valid_round, head.block_hash, head.parts_root, head.parts_count
        )
    )
    return is_signature_valid(head.proposer, Tag.PROPOSAL_SIGN, payload, head.signature)


def is_proposal_signed(proposal: Proposal, genesis: bytes) -> bool:
    """Whether the named proposer signed this proposal for this chain."""
    return is_proposal_head_signed(get_proposal_head(proposal), genesis)
