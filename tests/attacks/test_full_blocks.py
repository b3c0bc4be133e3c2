"""Somebody fills blocks so that verifiers seem silent or a bill is not presented in time: what it costs and gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.errors import BlockError
from consensus.runtime.executive import execute_block, propose_block
from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.events import (
    ChallengeResolved,
    RequestSettled,
    SessionClosing,
    VerdictCommitted,
    VerifierSilent,
)
from consensus.runtime.inference.state import SessionStatus
from consensus.runtime.receipts import ExecutedBlock
from consensus.runtime.system import state as system
from consensus.runtime.system.space import Space, compute_room, read_paused, read_paused_settlements
from consensus.runtime.weights import TRANSACTION_WEIGHT, compute_call_weight
from consensus.state.overlay import Overlay
from genesis.dev import DevIdentity, get_dev_identity
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.chain import Transaction
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.inference.inference_world import World, pick

RICH = get_dev_identity("ferdie")
"""Who floods. It is no party of anything."""
WEIGHT_MAX = 240_000
FLOOD = calls.BatchAll((calls.Transfer(get_dev_identity("bob").account, 10**6),) * 60)
DROP = FLOOD.calls[0]
"""What fills the room that is too small for more of that."""
WITH, WITHOUT = 250, 0
Call = tuple[DevIdentity, Any]


def build_world(reserved_permille: int, **params: int) -> World:
    """A world whose blocks are smaller than usual, with a share of them reserved."""
    world = World(**params)
    state = Overlay(world.chain.state)
    found = system.read_params(world.chain.state)
    system.params.write(state, replace(found, block_weight_max=WEIGHT_MAX, reserved_permille=reserved_permille))
    world.chain.state.apply(state.changes())
    return world


def offer(world: World, waiting: Sequence[Call], flood: int = WEIGHT_MAX) -> ExecutedBlock:
    """A block whose producer is offered so much weight of dear transfers, then what waits."""
    chain = world.chain
    nonce = system_nonce(world, RICH)
    large, small = (TRANSACTION_WEIGHT + compute_call_weight(one) for one in (FLOOD, DROP))
    room = compute_room(system.read_params(chain.state), Space.COMMON).weight
    count = min(flood, room) // large
    filling = [FLOOD] * count + [DROP] * ((min(flood, room) - count * large) // small)
    candidates: list[Transaction] = [chain.sign(RICH, one, nonce=nonce + at) for at, one in enumerate(filling)]
    nonces: dict[bytes, int] = {}
    for who, call in waiting:
        nonce = nonces.get(who.account, system_nonce(world, who))
        nonces[who.account] = nonce + 1
        candidates.append(chain.sign(who, call, nonce=nonce))
    taken, _ = propose_block(chain.state, chain.context(), (), candidates)
    return chain.block(taken)


def system_nonce(world: World, who: DevIdentity) -> int:
    return world.chain.sign(who, calls.Remark(b"")).body.nonce


def list_events(executed: ExecutedBlock) -> list[Any]:
    """Events of the transactions."""
    return [event for one in executed.receipts for event in one.events]


@pytest.mark.parametrize("reserved", [WITH, WITHOUT])
def test_a_flood_of_transfers_silences_no_verifier(reserved: int) -> None:
    """20 full blocks for some MYL kept every commit out: the verifier was slashed and the cheat went unjudged."""
    world = build_world(reserved)
    drawn = world.settle_and_draw(world.settle())[0]
    (verifier,) = world.verifiers
    commit, reveal = world.verdict(drawn.challenge, verifier, Outcome.FAIL)
    events: list[Any] = []
    waiting: Any = commit
    blocks = paid = 0
    while world.chain.height < drawn.reveal_deadline:
        executed = offer(world, [(verifier, waiting)])
        blocks, paid = blocks + 1, paid + sum(one.fee for one in executed.receipts)
        events += [*executed.events.initialize, *list_events(executed)]
        if pick(events, ChallengeResolved):
            break
        waiting = reveal if pick(events, VerdictCommitted) else commit
    is_silent = bool(pick(events, VerifierSilent))
    assert is_silent == (reserved == WITHOUT)
    assert (blocks == 2) == (reserved == WITH)
    if reserved == WITHOUT:
        assert paid < 10 * NMYL_PER_MYL, "silencing all verifiers of the chain is cheap without the reserve"


@pytest.mark.parametrize("reserved", [WITH, WITHOUT])
def test_filling_blocks_after_closing_escapes_no_bill(reserved: int) -> None:
    """A client gives notice and fills all blocks of the notice period, so that its bill comes too late."""
    world = build_world(reserved)
    call = world.settle()
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    executed = offer(world, [(world.workers[0], call)])
    events = list_events(executed)
    while world.chain.height < session.close_height:
        executed = offer(world, [(world.workers[0], call)] if not pick(events, RequestSettled) else [])
        events += list_events(executed)
    found = queries.read_session(world.chain.state, world.session)
    assert found is not None
    assert found.status == SessionStatus.CLOSED
    if reserved == WITH:
        assert pick(events, RequestSettled)
    else:
        assert not pick(events, RequestSettled)
        world.chain.expect_error(world.workers[0], call, errors.EscrowReturned)


def test_settlements_of_ones_own_delay_a_closing_and_keep_no_duty_out() -> None:
    """The reserved part can be filled with real settlements: then the session stays open as long, and verdicts pass."""
    world = build_world(WITH)
    drawn = world.settle_and_draw(world.settle())[0]
    (verifier,) = world.verifiers
    commit, _ = world.verdict(drawn.challenge, verifier, Outcome.PASS)
    other = world.open_session(deposit=20_000_000)
    world.chain.expect_ok(world.client, calls.CloseSession(other))
    session = queries.read_session(world.chain.state, other)
    assert session is not None
    room = compute_room(system.read_params(world.chain.state), Space.SETTLEMENT)
    price = system.read_weight_price(world.chain.state)
    sequence = 1
    for _ in range(3):
        own = [(world.workers[0], world.settle(sequence + at)) for at in range(room.weight // 9_000)]
        executed = offer(world, own)
        settled = len(pick(list_events(executed), RequestSettled))
        assert settled
        sequence += settled
    assert read_paused_settlements(world.chain.state) == 3
    assert read_paused(world.chain.state) == 0
    assert system.read_weight_price(world.chain.state) > price
    assert offer(world, [(verifier, commit)]).receipts[-1].error is None, "a duty has room that nobody buys"
    events: list[Any] = []
    while world.chain.height < session.close_height:
        events += world.chain.skip(1)
    extended = queries.read_session(world.chain.state, other)
    assert extended is not None
    assert extended.status == SessionStatus.CLOSING
    assert extended.close_height >= session.close_height + 3
    assert pick(events, SessionClosing)
    world.chain.skip(extended.close_height - world.chain.height)
    closed = queries.read_session(world.chain.state, other)
    assert closed is not None
    assert closed.status == SessionStatus.CLOSED


def test_reserved_room_is_for_calls_that_succeed() -> None:
    """Verdicts that nobody asked for, and settlements that fail, are common calls: they take no reserved room."""
    world = build_world(WITH)
    drawn = world.settle_and_draw(world.settle())[0]
    stranger = get_dev_identity("eve")
    commit, _ = world.verdict(drawn.challenge, stranger, Outcome.PASS)
    failing = [(stranger, commit), (world.workers[1], world.settle(0)), (stranger, world.settle(1))]
    full = offer(world, failing)
    assert all(one.error is None for one in full.receipts), "none of them is in the block"
    calm = offer(world, failing, flood=0)
    assert [one.error is not None for one in calm.receipts] == [True] * 3, "where there is room they fail, and pay"
    assert all(one.fee for one in calm.receipts)


def test_a_block_that_breaks_the_reserve_is_invalid() -> None:
    """A producer cannot sell the reserved part to common calls, nor to failing ones."""
    world = build_world(WITH)
    chain = world.chain
    weight = TRANSACTION_WEIGHT + compute_call_weight(FLOOD)
    fits = compute_room(system.read_params(chain.state), Space.COMMON).weight // weight
    nonce = system_nonce(world, RICH)
    over = [chain.sign(RICH, FLOOD, nonce=nonce + at) for at in range(fits + 1)]
    with pytest.raises(BlockError, match="BlockFull"):
        execute_block(chain.state, chain.context(), (), over)
    late = chain.sign(get_dev_identity("eve"), world.settle(1))
    rest = compute_room(system.read_params(chain.state), Space.COMMON).weight - fits * weight
    assert rest < TRANSACTION_WEIGHT + compute_call_weight(world.settle(1))
    with pytest.raises(BlockError, match="Misplaced"):
        execute_block(chain.state, chain.context(), (), [*over[:fits], late])
    good = chain.sign(world.workers[0], world.settle(1))
    assert chain.block([*over[:fits], good]).receipts[-1].error is None


def test_a_flood_does_not_make_verifying_dear() -> None:
    """A duty that succeeds pays the least price of weight, however high the common price is."""
    world = build_world(WITH)
    drawn = world.settle_and_draw(world.settle())[0]
    (verifier,) = world.verifiers
    state = Overlay(world.chain.state)
    params = system.read_params(world.chain.state)
    system.weight_price.write(state, params.weight_price_max)
    world.chain.state.apply(state.changes())
    commit, _ = world.verdict(drawn.challenge, verifier, Outcome.PASS)
    before = world.chain.free(verifier)
    transaction = world.chain.sign(verifier, commit)
    receipt = world.chain.block([transaction]).receipts[0]
    assert receipt.error is None
    assert receipt.fee < receipt.weight * params.weight_price_max // 100
    assert world.chain.free(verifier) == before - receipt.fee, "the block's own tips and rewards aside"
