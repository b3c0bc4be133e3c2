"""Stake, election, emission and double-vote evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.balances.state import read_issuance
from consensus.runtime.errors import BlockError
from consensus.runtime.staking import errors, slashing
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.emission import compute_emission, compute_emission_parts, compute_rewards
from consensus.runtime.staking.events import EpochEnded, ValidatorRewarded, ValidatorSlashed
from consensus.runtime.system.state import blocks
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.hashing import Tag
from proto_specs.types import calls
from proto_specs.types.chain import DuplicateProposal, DuplicateVote, Validator, Vote, VoteKind, compute_vote_bytes
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import build_double_proposal

ALICE, BOB, DAVE, EVE = (get_dev_identity(name) for name in ("alice", "bob", "dave", "eve"))
STAKE = 100_000 * NMYL_PER_MYL
MINIMUM = 1_000 * NMYL_PER_MYL


def build_spec(validators: tuple[str, ...] = ("alice",), **params: Any) -> ChainSpec:
    """The dev spec with other staking parameters."""
    spec = build_dev_spec(validators)
    return replace(spec, params=replace(spec.params, staking=replace(spec.params.staking, **params)))


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_spec())


def register(who: DevIdentity) -> calls.RegisterValidator:
    """The call that makes `who` a candidate."""
    proof = who.consensus_key.sign(Tag.KEY_PROOF_SIGN, who.account)
    return calls.RegisterValidator(who.consensus_key.public_key, proof)


def to_epoch_end(chain: Chain) -> list[Any]:
    """Empty blocks up to and with the epoch's last; its finalize events."""
    length = chain.spec.params.staking.epoch_blocks
    chain.skip(length - 1 - chain.height % length)
    return list(chain.block().events.finalize)


def test_bond_unbond_withdraw(chain: Chain) -> None:
    chain.expect_ok(BOB, calls.Bond(500))
    chain.expect_ok(BOB, calls.Unbond(200))
    height = chain.height + chain.spec.params.staking.unbonding_blocks
    stake = staking.read_stake(chain.state, BOB.account)
    assert stake == staking.Stake(300, (staking.Unbonding(200, height, 10),))
    chain.skip(height - chain.height - 2)
    chain.expect_error(BOB, calls.WithdrawUnbonded(), errors.NothingToWithdraw)
    before = chain.free(BOB)
    receipt = chain.expect_ok(BOB, calls.WithdrawUnbonded())
    assert chain.free(BOB) == before - receipt.fee + 200
    assert staking.read_stake(chain.state, BOB.account) == staking.Stake(300, ())


def test_staking_calls_are_checked(chain: Chain) -> None:
    chain.expect_error(BOB, calls.Bond(0), errors.ZeroStake)
    chain.expect_error(BOB, calls.Bond(1 << 63), InsufficientBalance)
    chain.expect_error(BOB, calls.Unbond(0), errors.ZeroStake)
    chain.expect_error(BOB, calls.Unbond(1), errors.InsufficientStake)
    chain.expect_error(BOB, calls.WithdrawUnbonded(), errors.NothingToWithdraw)
    chain.expect_ok(BOB, calls.Bond(100))
    for _ in range(staking.UNBONDING_CHUNKS_MAX):
        chain.expect_ok(BOB, calls.Unbond(1))
    chain.expect_error(BOB, calls.Unbond(1), errors.TooManyUnbonding)


def test_validator_registration_is_checked(chain: Chain) -> None:
    chain.expect_error(BOB, register(BOB), errors.InsufficientStake)
    chain.expect_ok(BOB, calls.Bond(MINIMUM))
    chain.expect_error(BOB, replace(register(BOB), key_proof=bytes(64)), errors.BadValidatorKeyProof)
    chain.expect_error(BOB, register(EVE), errors.BadValidatorKeyProof)
    chain.expect_error(BOB, register(ALICE), errors.KeyTaken)
    chain.expect_ok(BOB, register(BOB))
    chain.expect_error(BOB, register(BOB), errors.AlreadyRegistered)
    chain.expect_error(ALICE, register(EVE), errors.AlreadyRegistered)


def test_the_highest_stakes_are_elected_at_epoch_ends() -> None:
    chain = Chain(build_spec(validators_max=2))
    chain.expect_ok(BOB, calls.Bond(2 * STAKE))
    chain.expect_ok(BOB, register(BOB))
    chain.expect_ok(EVE, calls.Bond(STAKE // 2))
    chain.expect_ok(EVE, register(EVE))
    assert len(staking.read_validators(chain.state).members) == 1
    events = to_epoch_end(chain)
    members = staking.read_validators(chain.state).members
    assert {one.operator: one.power for one in members} == {ALICE.account: STAKE, BOB.account: 2 * STAKE}
    assert list(members) == sorted(members, key=lambda one: one.key)
    (ended,) = [one for one in events if isinstance(one, EpochEnded)]
    assert (ended.epoch, ended.validators, ended.power) == (0, 2, 3 * STAKE)


def test_without_candidates_the_set_stays(chain: Chain) -> None:
    chain.expect_ok(ALICE, calls.Unbond(STAKE))
    to_epoch_end(chain)
    assert [one.operator for one in staking.read_validators(chain.state).members] == [ALICE.account]


def test_emission_goes_by_stake_and_signed_share() -> None:
    chain = Chain(build_spec(("alice", "bob"), downtime_permille=0, proposal_permille=0))
    before, issuance = (chain.free(ALICE), chain.free(BOB)), read_issuance(chain.state)
    chain.block()
    for number in range(8):
        keys = [ALICE.consensus_key.public_key] + [BOB.consensus_key.public_key] * (number < 3)
        chain.block(signed_by=keys)
    events = chain.block(signed_by=[ALICE.consensus_key.public_key]).events.finalize
    params = chain.spec.params.staking
    emission = compute_emission_parts(params, 0, issuance).producers
    assert emission == params.emission_per_epoch // 2
    assert chain.free(ALICE) - before[0] == emission // 2
    assert chain.free(BOB) - before[1] == emission * 3 // 18
    assert read_issuance(chain.state) == issuance + emission // 2 + emission * 3 // 18
    rewarded = {one.operator: one.signed for one in events if isinstance(one, ValidatorRewarded)}
    assert rewarded == {ALICE.account: 9, BOB.account: 3}


def test_rewards_are_exact_and_nobody_gains_by_another_s_absence() -> None:
    members = [Validator(bytes([index]) * 32, bytes([index]) * 32, power) for index, power in enumerate((5, 3, 2))]
    full = compute_rewards(1_000_001, members, (10, 10, 10), 10)
    assert sum(full) == 1_000_001
    absent = compute_rewards(1_000_001, members, (10, 10, 0), 10)
    assert absent[2] == 0
    assert all(abs(mine - then) <= 1 for mine, then in zip(absent[:2], full[:2], strict=True))
    assert compute_rewards(100, members, (0, 0, 0), 0) == [0, 0, 0]


def test_emission_halves_and_stops_at_the_cap() -> None:
    params = build_spec(emission_per_epoch=100, emission_halving_epochs=10, issuance_max=1_000).params.staking
    assert [compute_emission(params, epoch, 0) for epoch in (0, 9, 10, 29, 70)] == [100, 100, 50, 25, 0]
    assert compute_emission(params, 0, 950) == 50
    assert compute_emission(params, 0, 1_200) == 0


def build_evidence(chain: Chain, who: DevIdentity, height: int, /, **fields: Any) -> DuplicateVote:
    """Two precommits of one slot for different blocks; `fields` change the second vote before it is signed."""

    def vote(**changes: Any) -> Vote:
        values = {"kind": VoteKind.PRECOMMIT, "height": height, "round": 0, **changes}
        payload = compute_vote_bytes(
            chain.genesis.hash, values["kind"], values["height"], values["round"], values["block_hash"]
        )
        signature = who.consensus_key.sign(Tag.VOTE_SIGN, payload)
        return Vote(**values, validator=who.consensus_key.public_key, signature=signature)

    return DuplicateVote(vote(block_hash=bytes(32)), vote(**{"block_hash": b"\x01" * 32, **fields}))


def test_a_double_vote_is_slashed_once_and_tombstoned() -> None:
    chain = Chain(build_spec(("alice", "bob", "charlie", "dave")))
    chain.skip(3)
    chain.expect_ok(BOB, calls.Unbond(STAKE // 4))
    evidence = build_evidence(chain, BOB, 2)
    events = chain.block(evidence=[evidence]).events.initialize
    (slashed,) = [one for one in events if isinstance(one, ValidatorSlashed)]
    share = 9, 16
    bonded, unbonding = STAKE * 3 // 4, STAKE // 4
    assert slashed.amount == bonded * share[0] // share[1] + unbonding * share[0] // share[1]
    assert slashed.operator == BOB.account
    assert len(staking.read_validators(chain.state).members) == 3
    with pytest.raises(BlockError, match="convicted before"):
        chain.block(evidence=[evidence])
    with pytest.raises(BlockError, match="convicted before"):
        chain.block(evidence=[build_evidence(chain, BOB, 3)])
    to_epoch_end(chain)
    assert BOB.account not in {one.operator for one in staking.read_validators(chain.state).members}


def test_two_proposals_cost_what_two_votes_cost() -> None:
    """Together they count as offenders of one epoch: the second convict pays the correlated share, whichever it did."""
    outcomes = []
    for kinds in (
        (build_evidence, build_evidence),
        (build_double_proposal, build_evidence),
        (build_evidence, build_double_proposal),
    ):
        chain = Chain(build_spec(("alice", "bob", "charlie", "dave")))
        chain.skip(3)
        evidence = [build(chain, who, 2) for build, who in zip(kinds, (BOB, DAVE), strict=True)]
        events = chain.block(evidence=evidence).events.initialize
        outcomes.append([one for one in events if isinstance(one, ValidatorSlashed)])
        for who in (BOB, DAVE):
            with pytest.raises(BlockError, match="convicted before"):
                chain.block(evidence=[build_double_proposal(chain, who, 3)])
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert [one.amount for one in outcomes[0]] == [STAKE * 9 // 16, STAKE]


def test_two_proposals_must_be_signed_known_in_time_and_of_the_past() -> None:
    chain = Chain(build_spec(("alice", "bob"), evidence_blocks=5, evidence_ms=8_000))
    chain.skip(20)
    good = build_double_proposal(chain, BOB, 13)
    for evidence, text in (
        (replace(good, second=replace(good.second, signature=bytes(64))), "bad signature"),
        (DuplicateProposal(good.second, good.first), "not in order"),
        (DuplicateProposal(good.first, good.first), "say the same"),
        (replace(good, second=build_double_proposal(chain, BOB, 14).second), "not of the same"),
        (build_double_proposal(chain, EVE, 13), "no validator"),
        (build_double_proposal(chain, BOB, 22), "future"),
        (build_double_proposal(chain, BOB, 12), "expired"),
    ):
        with pytest.raises(BlockError, match=text):
            chain.block(evidence=[evidence])
    chain.block(evidence=[good])
    assert staking.is_tombstoned(chain.state, BOB.consensus_key.public_key)


def test_the_last_validator_stays_in_the_set(chain: Chain) -> None:
    chain.skip(2)
    chain.block(evidence=[build_evidence(chain, ALICE, 1)])
    assert staking.read_stake(chain.state, ALICE.account) == staking.EMPTY_STAKE
    to_epoch_end(chain)
    assert len(staking.read_validators(chain.state).members) == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"round": 1}, "not for the same"),
        ({"height": 3}, "not for the same"),
        ({"kind": VoteKind.PREVOTE}, "not for the same"),
        ({"block_hash": bytes(32)}, "same block"),
        ({"block_hash": None}, "same block"),
    ],
)
def test_evidence_must_be_of_one_slot(chain: Chain, fields: dict[str, Any], text: str) -> None:
    chain.skip(3)
    with pytest.raises(BlockError, match=text):
        chain.block(evidence=[build_evidence(chain, ALICE, 2, **fields)])


def test_evidence_must_be_signed_known_and_of_the_past(chain: Chain) -> None:
    chain.skip(3)
    good = build_evidence(chain, ALICE, 2)
    forged = replace(good, second=replace(good.second, signature=bytes(64)))
    unknown_kind = DuplicateVote(replace(good.first, kind=3), replace(good.second, kind=3))
    cases = [
        (forged, "bad signature"),
        (unknown_kind, "no kind"),
        (build_evidence(chain, EVE, 2), "no validator"),
        (build_evidence(chain, ALICE, 5), "future"),
    ]
    for evidence, text in cases:
        with pytest.raises(BlockError, match=text):
            chain.block(evidence=[evidence])


def test_evidence_expires_when_both_blocks_and_time_have_passed() -> None:
    chain = Chain(build_spec(("alice", "bob"), evidence_blocks=5, evidence_ms=8_000))
    chain.skip(20)
    time_ms = chain.context().time_ms

    def expired(vote_height: int) -> bool:
        return slashing.is_evidence_expired(chain.state, vote_height, chain.height + 1, time_ms)

    assert [expired(height) for height in (12, 13, 14, 15, 16)] == [True, False, False, False, False]
    chain.state.items.pop(blocks.key(14))
    assert expired(14), "a block nobody remembers is too old in time"
    with pytest.raises(BlockError, match="expired"):
        chain.block(evidence=[build_evidence(chain, BOB, 12)])
    chain.block(evidence=[build_evidence(chain, BOB, 13)])


def test_slash_fraction_grows_with_the_number_of_offenders() -> None:
    assert slashing.compute_slash_fraction(1, 100, 50) == (50, 1000)
    assert slashing.compute_slash_fraction(10, 100, 50) == (900, 10_000)
    assert slashing.compute_slash_fraction(34, 100, 50) == (10_000, 10_000)
