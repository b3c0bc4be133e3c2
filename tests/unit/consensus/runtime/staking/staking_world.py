"""What the tests of staking share: a chain with short epochs, moves in it, and the exact balance of every pool."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from consensus.runtime.staking import pool_state, queries
from consensus.runtime.staking.pool_state import INDEX_SCALE
from consensus.state.reader import StateReader
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.types import calls
from proto_specs.types.chain import (
    DuplicateProposal,
    DuplicateVote,
    ProposalHead,
    ProposalSignBytes,
    Vote,
    VoteKind,
    compute_vote_bytes,
)
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.chain import Chain

ALICE, BOB, CHARLIE, DAVE, EVE, FERDIE, CLIENT = (
    get_dev_identity(name) for name in ("alice", "bob", "charlie", "dave", "eve", "ferdie", "client")
)
FOUR = ("alice", "bob", "charlie", "dave")
STAKE = 100_000 * NMYL_PER_MYL
MYL = NMYL_PER_MYL
EPOCH = 10
LEAST = 1_000_000
"""nmyl: the least delegation of the dev spec."""


def build_spec(validators: tuple[str, ...] = FOUR, **params: Any) -> ChainSpec:
    """The dev spec with other validators and staking parameters."""
    spec = build_dev_spec(validators)
    return replace(spec, params=replace(spec.params, staking=replace(spec.params.staking, **params)))


def register(who: DevIdentity) -> calls.RegisterValidator:
    """The call that makes `who` a candidate."""
    proof = who.consensus_key.sign(Tag.KEY_PROOF_SIGN, who.account)
    return calls.RegisterValidator(who.consensus_key.public_key, proof)


def to_epoch_end(chain: Chain, absent: tuple[DevIdentity, ...] = ()) -> list[Any]:
    """Empty blocks up to and with the epoch's last, which `absent` do not sign; the last one's finalize events."""
    length = chain.spec.params.staking.epoch_blocks
    while True:
        commit = chain.context().last_commit
        missing = {one.consensus_key.public_key for one in absent}
        signers = [one.validator for one in commit.signatures if one.validator not in missing] if commit else None
        executed = chain.block(signed_by=signers)
        if chain.height % length == 0:
            return list(executed.events.finalize)


def build_evidence(chain: Chain, who: DevIdentity, height: int) -> DuplicateVote:
    """Two precommits of one slot for different blocks."""

    def vote(block_hash: bytes) -> Vote:
        payload = compute_vote_bytes(chain.genesis.hash, VoteKind.PRECOMMIT, height, 0, block_hash)
        signature = who.consensus_key.sign(Tag.VOTE_SIGN, payload)
        return Vote(VoteKind.PRECOMMIT, height, 0, block_hash, who.consensus_key.public_key, signature)

    return DuplicateVote(vote(bytes(32)), vote(b"\x01" * 32))


def build_double_proposal(chain: Chain, who: DevIdentity, height: int) -> DuplicateProposal:
    """The heads of two proposals of one round for different blocks."""

    def propose(block_hash: bytes) -> ProposalHead:
        payload = encode(ProposalSignBytes(chain.genesis.hash, height, 0, None, block_hash, bytes(32), 1))
        key = who.consensus_key
        signature = key.sign(Tag.PROPOSAL_SIGN, payload)
        return ProposalHead(height, 0, None, block_hash, bytes(32), 1, key.public_key, signature)

    return DuplicateProposal(propose(bytes(32)), propose(b"\x01" * 32))


def find(events: Any, kind: type) -> Any:
    """The one event of a kind."""
    (found,) = [one for one in events if isinstance(one, kind)]
    return found


def check_pools(state: StateReader) -> None:
    """Every pool's shares are its holdings', and its rewards are, to the last fraction, what its holdings earned."""
    pools = {key[0]: pool for key, pool in pool_state.pools.iterate(state)}
    milestones = dict(pool_state.milestones.iterate(state))
    shares: Counter[bytes] = Counter()
    fresh: Counter[bytes] = Counter()
    owed: Counter[bytes] = Counter({validator: pool.carry for validator, pool in pools.items()})
    waiting: Counter[tuple[bytes, int]] = Counter()

    def count(validator: bytes, held: pool_state.Delegation | pool_state.Cohort) -> None:
        pool = pools.get(validator, pool_state.EMPTY_POOL)
        shares[validator] += held.shares
        owed[validator] += (held.shares - held.fresh) * (pool.index - held.start)
        if held.fresh:
            waiting[validator, held.fresh_until] += 1
            milestone = milestones.get((validator, held.fresh_until))
            if milestone is None:
                assert held.fresh_until == pool.fresh_until
                fresh[validator] += held.fresh
            else:
                owed[validator] += held.fresh * (pool.index - milestone.index)

    for (_, validator), delegation in pool_state.delegations.iterate(state):
        assert delegation.shares > 0
        count(validator, delegation)
        owed[validator] += delegation.rest
    members: Counter[tuple[bytes, int, bytes]] = Counter()
    for (_, dest, votes_until, source), member in pool_state.memberships.iterate(state):
        cohort = pool_state.cohorts.read(state, source, votes_until, dest)
        assert cohort is not None
        members[source, votes_until, dest] += member.shares
        owed[dest] += member.rest + member.shares * (cohort.index - member.start)
    for (source, votes_until, dest), cohort in pool_state.cohorts.iterate(state):
        count(dest, cohort)
        owed[dest] += cohort.carry
        assert cohort.members == members[source, votes_until, dest] > 0
    for validator, pool in pools.items():
        assert pool.shares == shares[validator]
        assert pool.fresh == fresh[validator]
        assert pool.rewards * INDEX_SCALE == owed[validator], "rewards are lost or made up"
        assert pool.tokens == 0 or pool.shares > 0, "money that belongs to nobody"
    for key, milestone in milestones.items():
        assert milestone.holders == waiting[key] > 0


def value(chain: Chain, who: DevIdentity, validator: DevIdentity = ALICE) -> int:
    """nmyl that `who` has behind `validator`."""
    return queries.query_delegation(chain.state, who.account, validator.account).amount


def pending(chain: Chain, who: DevIdentity, validator: DevIdentity = ALICE) -> int:
    """nmyl a claim would pay."""
    return queries.query_delegation(chain.state, who.account, validator.account).pending


def all_in(chain: Chain, who: DevIdentity, *validators: DevIdentity) -> int:
    """nmyl that `who` has behind validators and on its way out."""
    leaving = sum(one.amount for one in queries.list_unbonding(chain.state, who.account))
    return leaving + sum(value(chain, who, one) for one in validators)


def submit_all(chain: Chain, who: DevIdentity, *all_calls: Any) -> None:
    """One block in which one account makes these calls, and all succeed."""
    nonce = chain.sign(who, all_calls[0]).body.nonce
    block = chain.block([chain.sign(who, one, nonce + index) for index, one in enumerate(all_calls)])
    assert [one.error for one in block.receipts] == [None] * len(all_calls)


def convict(chain: Chain, who: DevIdentity, height: int) -> None:
    """A block with the evidence; somebody who is still there proposes from now on."""
    chain.block(evidence=[build_evidence(chain, who, height)])
    chain.proposer = next(one for one in (DAVE, CHARLIE, BOB) if one is not who)
