"""Statements that settle twice, for others, elsewhere, or for nothing: what each would bring, and what stops it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from consensus.runtime.inference import draws, errors, queries, sequences, settlement, statements
from proto_specs.errors import DecodeError
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types import calls, sum_tree
from proto_specs.types.sum_tree import RequestLeaf, SumNode, find_place, list_levels, locate
from tests.unit.consensus.runtime.inference.inference_world import DEPOSIT, REQUEST_PRICE, World
from tests.unit.consensus.runtime.inference.statement_world import (
    make_leaves,
    sign_statement,
    state_leaves,
    state_requests,
)


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def read_escrow(world: World) -> int:
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    return session.escrow


def make_double_settlements(world: World) -> list[tuple[Any, Any]]:
    """Pairs of settlements that share request 1."""
    stated, single = state_requests(world, range(3)), world.settle(1)
    return [(stated, single), (single, stated), (stated, state_requests(world, [1, 9])), (stated, stated)]


@pytest.mark.parametrize("pair", range(4))
def test_no_request_is_paid_twice(world: World, pair: int) -> None:
    """A worker has both in hand that the client signed for one request: a statement, and order and voucher."""
    first, second = make_double_settlements(world)[pair]
    world.chain.expect_ok(world.workers[0], first)
    escrow = read_escrow(world)
    world.chain.expect_error(world.workers[0], second, errors.SequenceUsed)
    assert read_escrow(world) == escrow


@pytest.mark.parametrize("pair", range(3))
def test_without_numbers_it_would_be(world: World, pair: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "check_unused", lambda *_: None)
    monkeypatch.setattr("tests.unit.consensus.runtime.chain._check_sequences", lambda _: None)
    first, second = make_double_settlements(world)[pair]
    world.chain.expect_ok(world.workers[0], first)
    escrow = read_escrow(world)
    world.chain.expect_ok(world.workers[0], second)
    assert escrow - read_escrow(world) >= REQUEST_PRICE, "the client has paid request 1 again"


def make_belittling(world: World) -> calls.SettleStatement:
    """Client and last stage state next to nothing for the request, which uses its number up: the others' work is free.

    They sign in the names of all, with what they have.
    """
    honest = state_leaves(world, make_leaves(world, [0]))
    tiny = replace(honest, prompt_tokens=1, tokens=1, positions=1)
    signed = sign_statement(world, tiny).statement
    own = signed.worker_signatures[-1]
    return calls.SettleStatement(replace(signed, worker_signatures=(own,) * 3))


def test_client_and_one_worker_settle_nothing_for_the_others(world: World) -> None:
    world.chain.expect_error(world.workers[2], make_belittling(world), errors.BadStatementSignature)
    world.chain.expect_ok(world.workers[0], world.settle(0))
    assert DEPOSIT - read_escrow(world) == REQUEST_PRICE


def test_if_not_all_signed_they_would(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "is_statement_signed", lambda *_: True)
    world.chain.expect_ok(world.workers[2], make_belittling(world))
    world.chain.expect_error(world.workers[0], world.settle(0), errors.SequenceUsed)
    assert 50 * (DEPOSIT - read_escrow(world)) < REQUEST_PRICE


def make_replay() -> tuple[World, calls.SettleStatement]:
    """The client's key, its session's id and the workers' keys are the same on two chains, as on a test network."""
    here, there = World(), World(retention_blocks=77)
    assert (here.session, here.model) == (there.session, there.model)
    assert here.chain.genesis.hash != there.chain.genesis.hash
    return there, state_requests(here, range(3))


def test_a_statement_is_of_one_chain() -> None:
    there, call = make_replay()
    there.chain.expect_error(there.workers[0], call, errors.WrongChain)


def test_if_it_named_none_it_would_be_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    there, call = make_replay()
    check = settlement.check_session
    own = there.chain.genesis.hash
    monkeypatch.setattr(settlement, "check_session", lambda env, _, *rest: check(env, own, *rest))
    there.chain.expect_ok(there.workers[0], call)
    assert DEPOSIT - read_escrow(there) == 3 * REQUEST_PRICE


HUGE = 2**64 - 1
HUGE_SUMS: dict[str, dict[str, int]] = {
    "tokens": {"tokens": HUGE},
    "prompts": {"prompt_tokens": HUGE, "positions": HUGE},
    "positions": {"positions": HUGE},
    "all": {"prompt_tokens": HUGE, "tokens": HUGE, "positions": HUGE},
}


@pytest.mark.parametrize("name", HUGE_SUMS)
def test_huge_sums_stop_at_the_door(world: World, name: str) -> None:
    """Client and workers are one party. They can sign any number, also one that would stop the chain."""
    huge = replace(state_leaves(world, make_leaves(world, range(3))), **HUGE_SUMS[name])
    world.chain.expect_error(world.client, sign_statement(world, huge), errors.BadStatement)


def test_a_price_beyond_64_bits_is_no_price(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the first wall the second holds: slices, which are 64-bit numbers, cover the price. Without both ..."""
    huge = replace(state_leaves(world, make_leaves(world, range(3))), **HUGE_SUMS["tokens"])
    call = sign_statement(world, huge)
    monkeypatch.setattr(statements, "check_totals", lambda *_: None)
    world.chain.expect_error(world.client, call, errors.BadSlice)
    monkeypatch.setattr(settlement, "check_payable", lambda *_: None)
    monkeypatch.setattr(settlement, "compute_challenge_ppm", lambda *_: 1)
    with pytest.raises(DecodeError):
        world.chain.submit(world.client, call)


def join_loosely(left: SumNode, right: SumNode) -> SumNode:
    """A parent that binds what is below it, but not how much of it."""
    digest = hash_tagged(Tag.STATEMENT_NODE, left.hash + right.hash)
    return SumNode(digest, left.prompt + right.prompt, left.tokens + right.tokens)


def count_covered(leaves: list[RequestLeaf]) -> int:
    """Of all points that may be drawn, those that the cheat answers with request 2 of 4, which alone was computed.

    It moves sums between the siblings, so that as much lies before the request as it takes.
    """
    levels = list_levels(leaves)
    root, own = levels[-1][0], levels[0][2]
    true = find_place(leaves, levels, levels[0][0].prompt + levels[0][1].prompt)
    assert true.index == 2
    right, left = true.siblings
    covered = 0
    for point in range(root.prompt + root.tokens):
        prompt = min(point, root.prompt - own.prompt)
        tokens = min(max(point - root.prompt, 0), root.tokens - own.tokens)
        before = replace(left, prompt=prompt, tokens=tokens)
        after = replace(right, prompt=root.prompt - own.prompt - prompt, tokens=root.tokens - own.tokens - tokens)
        places = (true, replace(true, siblings=(after, before)))
        covered += any(locate(place, len(leaves), root, point) is not None for place in places)
    return covered


def test_one_computed_request_does_not_stand_for_all(world: World) -> None:
    leaves = make_leaves(world, range(4))
    assert count_covered(leaves) == 40 + 60


def test_if_sums_were_not_bound_it_would(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = make_leaves(world, range(4))
    monkeypatch.setattr(sum_tree, "join_nodes", join_loosely)
    assert count_covered(leaves) == 4 * (40 + 60)


PROMPTS, TOKENS, TOKEN_PRICE = 900, 100, 10
"""A stage's statement of long prompts and short answers, where a token costs ten times a prompt position."""
PAY = PROMPTS + TOKENS * TOKEN_PRICE
SLASH_SHARE, EXPOSURE_FACTOR = 0.5, 3


def compute_profit(draw_shares: Fraction) -> Fraction:
    """What computing the prompts and guessing the tokens brings on average, of the stage's pay.

    `draw_shares`: how much of the draws fall on tokens. The bond is the least that exposure asks for, S = 3 R / (p d).
    """
    gain = Fraction(TOKENS * TOKEN_PRICE, PAY)
    return gain - draw_shares * EXPOSURE_FACTOR * Fraction(SLASH_SHARE)


def test_guessing_what_is_dear_alone_does_not_pay() -> None:
    drawn = (draws.compute_paid(nmyl, PAY, PROMPTS, PROMPTS, TOKENS) for nmyl in range(PAY))
    share = Fraction(sum(point >= PROMPTS for point in drawn), PAY)
    assert share == Fraction(TOKENS * TOKEN_PRICE, PAY)
    assert compute_profit(share) < 0


def test_if_all_positions_were_drawn_alike_it_would() -> None:
    assert compute_profit(Fraction(TOKENS, PROMPTS + TOKENS)) > 0
