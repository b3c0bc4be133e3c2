"""Single steps of a light client: what leads from a trusted block to another, and every way of lying about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from consensus.light.errors import LightBlockInvalid, NotEnoughTrust, TrustExpired
from consensus.light.verify import (
    Handover,
    LightParams,
    compute_trusting_period_ms,
    make_trusted,
    validate_light_block,
    verify_backwards,
    verify_handover,
    verify_jump,
)
from genesis.dev import build_dev_spec
from proto_specs.types.chain import ValidatorSet, compute_validators_hash
from proto_specs.types.gossip import LightBlock
from tests.unit.consensus.light.chain import (
    GENESIS,
    NO_PROOF,
    PARAMS,
    PERIOD_MS,
    Chain,
    forge,
    list_keys,
    make_commit,
    make_set,
)

FOUR = make_set({1: 10, 2: 10, 3: 10, 4: 10})
OTHERS = make_set({11: 10, 12: 10, 13: 10, 14: 10})
STEADY = Chain([FOUR] * 12)


def jump(trusted: LightBlock, block: LightBlock, params: LightParams = PARAMS) -> None:
    """At the time of the newest block."""
    assert verify_jump(make_trusted(trusted), block, params, STEADY.now_ms).height == block.header.height


def test_a_jump_over_any_distance_holds_while_the_set_stays() -> None:
    jump(STEADY.blocks[0], STEADY.blocks[11])
    jump(STEADY.blocks[0], STEADY.blocks[1])


def test_more_than_a_third_of_the_trusted_power_carries_a_jump_and_a_third_does_not() -> None:
    """Three of nine are a third; four of ten are more."""
    for powers, holds in (({1: 3, 2: 3, 3: 3}, False), ({1: 4, 2: 3, 3: 3}, True)):
        chain = Chain([make_set(powers), make_set({1: 5, 5: 5, 6: 5})])
        away = Chain([*chain.sets, chain.sets[1]])
        if holds:
            verify_jump(make_trusted(away.blocks[0]), away.blocks[2], PARAMS, away.now_ms)
        else:
            with pytest.raises(NotEnoughTrust, match="3 of 9 signed block 3"):
                verify_jump(make_trusted(away.blocks[0]), away.blocks[2], PARAMS, away.now_ms)


def test_the_overlap_counts_who_signed_and_not_who_is_named() -> None:
    """The real validators are members of the liars' set with next to no power, and did not sign."""
    liars = make_set({1: 1, 2: 1, 3: 1, 4: 1, 11: 100, 12: 100})
    block = forge(9, liars, [key for key in list_keys(liars) if key not in list_keys(FOUR)])
    with pytest.raises(NotEnoughTrust, match="0 of 40"):
        jump(STEADY.blocks[0], block)


def test_a_third_of_liars_carries_nothing() -> None:
    """Of ten powers three lie: with any set of their own making they have no third of the trusted power."""
    honest = make_set({1: 3, 2: 3, 3: 4})
    chain = Chain([honest] * 5)
    block = forge(5, make_set({1: 3, 20: 1}))
    with pytest.raises(NotEnoughTrust):
        verify_jump(make_trusted(chain.blocks[0]), block, PARAMS, chain.now_ms)


FORGERIES: dict[str, tuple[Callable[[LightBlock], LightBlock], str]] = {
    "another set than the header names": (lambda one: dataclasses.replace(one, validators=OTHERS), "not those"),
    "a set with a member twice": (
        lambda one: dataclasses.replace(one, validators=ValidatorSet((FOUR.members[0], *FOUR.members))),
        "does not rise",
    ),
    "an empty set": (lambda one: dataclasses.replace(one, validators=ValidatorSet(())), "empty"),
    "more power than the header names": (
        lambda one: dataclasses.replace(
            one,
            validators=ValidatorSet((dataclasses.replace(FOUR.members[0], power=99), *FOUR.members[1:])),
        ),
        "not those",
    ),
    "two thirds and not more": (
        lambda one: forge(9, make_set({1: 1, 2: 1, 3: 1}), list_keys(make_set({1: 1, 2: 1}))),
        "not more than two thirds",
    ),
    "a signature that is none": (
        lambda one: dataclasses.replace(
            one,
            commit=dataclasses.replace(
                one.commit,
                signatures=(
                    dataclasses.replace(one.commit.signatures[0], signature=bytes(64)),
                    *one.commit.signatures[1:],
                ),
            ),
        ),
        "bad precommit",
    ),
    "a signer twice": (
        lambda one: dataclasses.replace(
            one, commit=dataclasses.replace(one.commit, signatures=(one.commit.signatures[0],) * 4)
        ),
        "does not rise",
    ),
    "a commit of another height": (
        lambda one: dataclasses.replace(one, commit=make_commit(one.header, list_keys(FOUR), height=8)),
        "expected 9",
    ),
    "a commit of another block": (
        lambda one: dataclasses.replace(one, commit=dataclasses.replace(STEADY.blocks[7].commit, height=9)),
        "expected",
    ),
    "a commit of another chain": (
        lambda one: dataclasses.replace(one, commit=make_commit(one.header, list_keys(FOUR), genesis=bytes(32))),
        "bad precommit",
    ),
    "a header that was changed": (
        lambda one: dataclasses.replace(one, header=dataclasses.replace(one.header, state_root=bytes(32))),
        "expected",
    ),
}


@pytest.mark.parametrize("what", list(FORGERIES))
def test_a_forged_light_block_is_refused(what: str) -> None:
    change, said = FORGERIES[what]
    block = change(STEADY.blocks[8])
    with pytest.raises(LightBlockInvalid, match=said):
        validate_light_block(block, GENESIS)
    with pytest.raises(LightBlockInvalid):
        jump(STEADY.blocks[0], block)


def test_trust_ends_with_its_period() -> None:
    """The way of a long-range attack: all who ever validated sell their old keys after they have left."""
    start, block = make_trusted(STEADY.blocks[0]), STEADY.blocks[8]
    verify_jump(start, block, PARAMS, start.time_ms + PERIOD_MS - 1)
    with pytest.raises(TrustExpired):
        verify_jump(start, block, PARAMS, start.time_ms + PERIOD_MS)
    forged = forge(9, FOUR, time_ms=start.time_ms + PERIOD_MS)
    with pytest.raises(TrustExpired):
        verify_jump(start, forged, PARAMS, start.time_ms + PERIOD_MS)


def test_time_and_height_rise_together() -> None:
    start = STEADY.blocks[3]
    with pytest.raises(LightBlockInvalid, match="not after"):
        jump(start, STEADY.blocks[3])
    with pytest.raises(LightBlockInvalid, match="not after"):
        jump(start, STEADY.blocks[1])
    with pytest.raises(LightBlockInvalid, match="too early"):
        jump(start, forge(9, FOUR, time_ms=start.header.time_ms + 4))
    jump(start, forge(9, FOUR, time_ms=start.header.time_ms + 5))
    latest = STEADY.now_ms + PARAMS.clock_drift_ms
    jump(start, forge(9, FOUR, time_ms=latest))
    with pytest.raises(LightBlockInvalid, match="ahead of the clock"):
        jump(start, forge(9, FOUR, time_ms=latest + 1))


def test_the_next_block_is_the_child_of_the_trusted_one() -> None:
    with pytest.raises(LightBlockInvalid, match="another parent"):
        jump(STEADY.blocks[3], forge(5, FOUR))


def test_genesis_names_its_first_validators() -> None:
    chain = Chain([FOUR, OTHERS, OTHERS])
    start = chain.genesis()
    verify_jump(start, chain.blocks[0], PARAMS, chain.now_ms)
    smaller = make_set({1: 10, 2: 10, 3: 10})
    stolen = forge(1, smaller, parent_hash=GENESIS)
    with pytest.raises(LightBlockInvalid, match="another set"):
        verify_jump(start, stolen, PARAMS, chain.now_ms)
    with pytest.raises(LightBlockInvalid, match="names its successors itself"):
        verify_handover(start, Handover(OTHERS, NO_PROOF))


def test_a_handover_needs_no_overlap_and_is_proven_by_the_trusted_state() -> None:
    chain = Chain([FOUR, OTHERS, OTHERS])
    start, block = make_trusted(chain.blocks[0]), chain.blocks[1]
    with pytest.raises(NotEnoughTrust):
        verify_jump(start, block, PARAMS, chain.now_ms)
    handover = chain.handover(1)
    assert handover is not None
    told = verify_handover(start, handover)
    assert told.successors_hash == compute_validators_hash(OTHERS)
    verify_jump(told, block, PARAMS, chain.now_ms)
    verify_jump(told, chain.blocks[2], PARAMS, chain.now_ms)  # the elected set decides it: two thirds of it signed
    for lie in (Handover(FOUR, handover.proof), Handover(OTHERS, NO_PROOF)):
        with pytest.raises(LightBlockInvalid, match="not proven"):
            verify_handover(start, lie)
    with pytest.raises(LightBlockInvalid, match="another set"):
        verify_jump(told, forge(2, FOUR, parent_hash=start.block_hash), PARAMS, chain.now_ms)


def test_the_way_back_goes_by_parent_hashes() -> None:
    for upper, lower in zip(STEADY.blocks[1:], STEADY.blocks, strict=False):
        verify_backwards(upper.header, lower.header)
    with pytest.raises(LightBlockInvalid, match="not the parent"):
        verify_backwards(STEADY.blocks[5].header, STEADY.blocks[3].header)
    changed = dataclasses.replace(STEADY.blocks[4].header, state_root=bytes(32))
    with pytest.raises(LightBlockInvalid, match="not the parent"):
        verify_backwards(STEADY.blocks[5].header, changed)


def test_the_trusting_period_ends_before_offences_go_unpunished() -> None:
    spec = build_dev_spec()
    staking = spec.params.staking
    assert compute_trusting_period_ms(staking, 1_000) == 66_666
    longer = dataclasses.replace(staking, evidence_ms=500_000)
    assert compute_trusting_period_ms(longer, 1_000) == 133_333
    assert compute_trusting_period_ms(longer, 10_000) == 666_666
    assert compute_trusting_period_ms(staking, 1_000) < staking.unbonding_blocks * 1_000
